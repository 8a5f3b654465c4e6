"""`mondrian analyze`: the service's strategies in this process, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.critique_parsing import ParsedCritique, parse_critique_lenient
from mondrian_core.errors import BadInput, BadPhotograph
from mondrian_core.events import EventListener, StageFinished, StageProgressed, StageStarted
from mondrian_core.images import PHOTOGRAPH_SUFFIXES, Photograph, open_photograph
from mondrian_core.registry import Registry
from mondrian_core.rubric import Critique
from mondrian_core.serving.critique.active_adapters import ActiveAdapters, find_adapter_source
from mondrian_core.serving.critique.routing import MODES, parse_mode
from mondrian_core.serving.critique.strategies import all_strategies
from mondrian_core.serving.engine.interface import Engine
from mondrian_core.serving.jobs.job_runner import JobRunner, job_filename
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store import COMPLETED, Job, Store

ALL_MODES = "all"  # every mode, and with that the base and the adapter, side by side


@dataclass(frozen=True, kw_only=True)
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
    def answered_by(self) -> str:
        """What answered, in words: "lora: adapter v0003", or "lora, answered by baseline: base model"."""
        if self.mode is None:
            return f"{self.requested_mode}: no answer"
        who = f"adapter {self.adapter_version}" if self.adapter_version else "base model"
        way = "" if self.mode == self.requested_mode else f", answered by {self.mode}"
        return f"{self.requested_mode}{way}: {who}"

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


OnAnalysisResult = Callable[[AnalysisResult], object]


def run_batch_analysis(
    settings: Settings,
    paths: Sequence[Path],
    advisor: str,
    mode: str,
    listen: EventListener,
    *,
    lora_path: str | None = None,
    engine: Engine | None = None,
    keep: OnAnalysisResult = lambda result: None,
) -> list[AnalysisResult]:
    """Critique photographs one after the other; see `mondrian_core.serving.analyze_photographs`."""
    validate_advisor_id(advisor)
    modes = MODES if mode == ALL_MODES else (parse_mode(mode),)
    root = settings.require_workspace()
    photographs = find_photographs(paths)
    with Store(settings.database) as store:
        store.advisor(advisor)
        registry = Registry(settings.adapters_root, listen=listen)
        source = find_adapter_source(
            lora_path or (str(settings.lora_adapter_dir) if settings.lora_adapter_dir else None), registry
        )
        total = len(photographs) * len(modes)
        listen(StageStarted("analyze", total, f"loading {settings.base}"))
        engine = engine or _local_engine(settings.base)
        adapters = ActiveAdapters(registry, source, engine.check, listen)
        critic = JobRunner(
            store,
            root,
            engine,
            adapters,
            all_strategies(),
            embed=settings.embeddings_enabled,
            exif=settings.exif_enabled,
        )
        results = []
        for result in _analyze_each(critic, photographs, advisor, modes):
            results.append(result)
            keep(result)
            listen(StageProgressed("analyze", len(results), total, f"{result.path.name} ({result.requested_mode})"))
    listen(StageFinished("analyze", {"photographs": len(photographs), "critiques": len(results)}))
    return results


def find_photographs(paths: Sequence[Path]) -> list[Path]:
    """The photographs that were named, and those in named folders and below, by name; hidden ones are left out.

    Raises:
        BadInput: a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(each for each in path.rglob("*") if _is_photograph(each, path))
        if not inside:
            kinds = ", ".join(sorted(PHOTOGRAPH_SUFFIXES))
            raise BadInput(f"There is no photograph in {path}.", f"Name a folder with files that end in {kinds}.")
        found += inside
    return list(dict.fromkeys(found))


def _is_photograph(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in PHOTOGRAPH_SUFFIXES and not hidden and path.is_file()


def _local_engine(base: str) -> Engine:
    from mondrian_core.serving.engine.local_engine import LocalEngine

    return LocalEngine(base)


def _analyze_each(
    critic: JobRunner, paths: Sequence[Path], advisor: str, modes: Sequence[str]
) -> Iterator[AnalysisResult]:
    """Each photograph is opened once and asked about in every mode."""
    for path in paths:
        try:
            photograph = open_photograph(path)
        except BadPhotograph as error:
            yield from (
                AnalysisResult(path=path, advisor=advisor, requested_mode=mode, error=str(error)) for mode in modes
            )
            continue
        for mode in modes:
            yield _analyze_one(critic, path, photograph, advisor, mode)


def _analyze_one(critic: JobRunner, path: Path, photograph: Photograph, advisor: str, mode: str) -> AnalysisResult:
    job, _ = critic.store.add_job(
        advisor,
        job_filename(critic.root, path),
        requested_mode=mode,
        explicit_mode=True,
        photograph_sha256=photograph.sha256,
    )
    claimed = critic.store.claim_job(job.id) or job
    try:
        done = critic.run(claimed, photograph.image)
    except BaseException:
        critic.store.fail_job(job.id, "The command was interrupted.")
        raise
    return analysis_result_from_job(path, done)


def analysis_result_from_job(path: Path, job: Job) -> AnalysisResult:
    """A row of the jobs table as a result."""
    critique = critique_from_job(job)
    return AnalysisResult(
        path=path,
        advisor=job.advisor or "",
        requested_mode=job.requested_mode or "",
        critique=critique,
        error=job.error,
        job=job.id,
        mode=job.mode,
        model_used=job.model_used,
        adapter_version=job.adapter_version,
        details=job.details,
    )


def critique_from_job(job: Job) -> Critique | None:
    """The critique that a completed job holds."""
    if job.status != COMPLETED or job.answer is None:
        return None
    reading: ParsedCritique = parse_critique_lenient(json.dumps(job.answer))
    return reading.critique
