"""`mondrian analyze`: the service's strategies in this process, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadPhotograph
from mondrian_core.events import Advanced, Finished, Listener, Started
from mondrian_core.images import open_photograph
from mondrian_core.registry import Registry
from mondrian_core.rubric import Critique, Reading, read_lenient
from mondrian_core.serving.critic import Critic, filename_of
from mondrian_core.serving.engine import Engine
from mondrian_core.serving.lookup import Adapters, source_of
from mondrian_core.serving.routing import mode_of
from mondrian_core.serving.strategies import all_strategies
from mondrian_core.settings import Settings, check_advisor
from mondrian_core.store import COMPLETED, Job, Store


@dataclass(frozen=True)
class AnalysisResult:
    """What became of one photograph. `critique` is None when it failed; `error` says why."""

    path: Path
    advisor: str
    requested_mode: str
    critique: Critique | None = None
    error: str | None = None
    job: str | None = None
    mode: str | None = None
    model_used: str | None = None
    adapter_version: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """How long it took, reading the photograph aside."""
        return self.details.get("seconds")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "advisor": self.advisor,
            "job": self.job,
            "requested_mode": self.requested_mode,
            "mode": self.mode,
            "model_used": self.model_used,
            "adapter_version": self.adapter_version,
            "critique": self.critique.as_dict() if self.critique else None,
            "error": self.error,
            "details": self.details,
        }


def critique_all(settings: Settings, paths: Sequence[Path], advisor: str, mode: str, listen: Listener, *,
                 lora_path: str | None = None, engine: Engine | None = None) -> list[AnalysisResult]:  # fmt: skip
    """Critique photographs one after the other; see `mondrian_core.serving.analyze`."""
    check_advisor(advisor)
    requested = mode_of(mode)
    root = settings.require_workspace()
    with Store(settings.database) as store:
        store.voice(advisor)
        registry = Registry(settings.adapters_root, listen=listen)
        source = source_of(
            lora_path or (str(settings.lora_adapter_dir) if settings.lora_adapter_dir else None), registry
        )
        listen(Started("analyze", len(paths), f"loading {settings.base}"))
        engine = engine or _local_engine(settings.base)
        critic = Critic(store, root, engine, Adapters(registry, source, engine.check, listen), all_strategies())
        results = []
        for done, path in enumerate(paths, start=1):
            results.append(_critique_one(critic, path, advisor, requested))
            listen(Advanced("analyze", done, len(paths), path.name))
    listen(Finished("analyze", {"photographs": len(results)}))
    return results


def _local_engine(base: str) -> Engine:
    from mondrian_core.serving.local_engine import LocalEngine

    return LocalEngine(base)


def _critique_one(critic: Critic, path: Path, advisor: str, requested: str) -> AnalysisResult:
    try:
        photograph = open_photograph(path)
    except BadPhotograph as error:
        return AnalysisResult(path, advisor, requested, error=str(error))
    job, _ = critic.store.add_job(advisor, filename_of(critic.root, path), requested_mode=requested,
                                  explicit_mode=True, photograph_sha256=photograph.sha256)  # fmt: skip
    claimed = critic.store.claim_job(job.id) or job
    try:
        done = critic.work(claimed, photograph.image)
    except BaseException:
        critic.store.fail_job(job.id, "The command was interrupted.")
        raise
    return result_of(path, done)


def result_of(path: Path, job: Job) -> AnalysisResult:
    """A row of the jobs table as a result."""
    critique = critique_of(job)
    return AnalysisResult(path, job.advisor or "", job.requested_mode or "", critique, job.error, job.id, job.mode,
                          job.model_used, job.adapter_version, job.details)  # fmt: skip


def critique_of(job: Job) -> Critique | None:
    """The critique that a completed job holds."""
    import json

    if job.status != COMPLETED or job.answer is None:
        return None
    reading: Reading = read_lenient(json.dumps(job.answer))
    return reading.critique
