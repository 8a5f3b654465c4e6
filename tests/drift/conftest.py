"""An advisor with a champion whose evaluation is recorded, and jobs as the service stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.drift import DriftMonitor
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry
from mondrian_core.rubric import DIMENSIONS, make_critique, round_score
from mondrian_core.samples_file import SAMPLES_NAME
from mondrian_core.settings import Settings
from mondrian_core.store import Store, utc_timestamp
from tests.registry.conftest import manifest, write_adapter

PROMOTED = datetime(2026, 1, 1, tzinfo=UTC)
MEAN, DEVIATION, TOKENS = 6.0, 1.0, 140


def drawn_scores(rng: np.random.Generator, shift: dict[str, float] | None = None) -> dict[str, float]:
    moved = shift or {}
    return {name: float(np.clip(rng.normal(MEAN + moved.get(name, 0.0), DEVIATION), 0, 10)) for name in DIMENSIONS}


def write_samples(path: Path, photographs: int, seed: int = 0) -> None:
    """An evaluation's samples.jsonl: valid answers about labelled photographs."""
    rng = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = [{"kind": "identity", "values": {}}]
    for number in range(photographs):
        scores = drawn_scores(rng)
        lines.append({"kind": "label", "photograph": f"p{number}", "scores": scores})
        answer = {"photograph": f"p{number}", "status": "valid", "expected_scores": scores, "text": "x"}
        tokens = [1] * int(rng.normal(TOKENS, 4))
        lines += [{"kind": "answer", "arm": arm, "tokens": tokens, **answer} for arm in ("base", "candidate")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@dataclass
class DriftWorkspace:
    """A workspace to add jobs to."""

    settings: Settings
    store: Store
    registry: Registry
    trained: Path
    number: int = 0

    @property
    def monitor(self) -> DriftMonitor:
        return DriftMonitor(self.store, self.registry, self.settings.root)

    def promote(self, photographs: int, seed: int = 0) -> str:
        """Register and promote another version, evaluated on that many photographs."""
        write_adapter(self.trained, seed)
        write_samples(self.trained / SAMPLES_NAME, photographs, seed)
        made = self.registry.register("ansel", self.trained, manifest(run=f"run-{seed}"))
        self.registry.promote(
            "ansel", made.version, expected=self.registry.current("ansel"), actor="person:test", reason="a test"
        )
        return made.version

    def add_job(self, scores: dict[str, float] | None, *, at: datetime | None = None, **facts: Any) -> str:
        """A finished job, one hour after the one before; None: it failed."""
        self.number += 1
        moment = at or PROMOTED + timedelta(hours=self.number)
        filename = facts.get("filename", f"photo-{self.number}.jpg")
        job, _ = self.store.add_job(
            "ansel",
            filename,
            requested_mode="lora",
            job_id=facts.get("job_id", f"job-{self.number}"),
            photograph_sha256=facts.get("sha256", f"{self.number:064x}"),
            details=facts.get("details"),
        )
        with self.store.transaction() as connection:
            connection.execute("UPDATE jobs SET created_at = ? WHERE id = ?", (utc_timestamp(moment), job.id))
        if scores is None:
            self.store.fail_job(job.id, "no answer")
            return job.id
        whole = {name: float(round_score(score)) for name, score in scores.items()}
        self.store.finish_job(
            job.id,
            answer=make_critique(whole, dict.fromkeys(DIMENSIONS, "x")).as_dict(),
            mode="lora",
            model_used="fine_tuned",
            adapter_version=facts.get("version", self.registry.current("ansel")),
            details={
                "expected_scores": scores,
                "passes": [{"tokens": facts.get("tokens", TOKENS)}] * facts.get("passes", 1),
                "repairs": [],
                **({"portfolio_distance": facts["distance"]} if "distance" in facts else {}),
                **(facts.get("details") or {}),
            },
        )
        return job.id

    def add_jobs(self, count: int, seed: int, shift: dict[str, float] | None = None) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            self.add_job(drawn_scores(rng, shift), tokens=int(rng.normal(TOKENS, 4)))


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[DriftWorkspace]:
    """No version is promoted yet; the registry's clock stands at `PROMOTED`."""
    root = tmp_path / "workspace"
    (root / "source").mkdir(parents=True)
    settings = Settings(workspace=root, adapters=tmp_path / "adapters", base_model="mini")
    with Store.create(root / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        store._connection.execute("PRAGMA synchronous = OFF")  # only a power cut needs the disk
        registry = Registry(settings.adapters_root, clock=lambda: PROMOTED)
        yield DriftWorkspace(settings, store, registry, tmp_path / "trained")
