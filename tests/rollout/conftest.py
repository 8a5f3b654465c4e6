"""A registry with a champion and candidates, a workspace with a real jobs table, jobs as the service writes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondrian_core.registry import Registry
from mondrian_core.rollout import Rollout, RolloutPlan, RolloutStart, is_in_share, rollout_store, start_rollout
from mondrian_core.store import Job, Store, utc_timestamp
from tests.registry.conftest import gate_report, manifest, write_adapter

NOW = datetime(2026, 11, 21, tzinfo=UTC)
Answered = Callable[..., list[Job]]


@pytest.fixture(autouse=True)
def known_salts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The salt decides which photographs a version gets, so with random salts a test of rates passes only mostly."""
    salts = itertools.count(1)
    monkeypatch.setattr(rollout_store, "secrets", SimpleNamespace(token_hex=lambda size: f"{next(salts):0{2 * size}x}"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """v0001 the champion, v0002 and v0003 candidates."""
    registry = Registry(tmp_path / "adapters", clock=lambda: NOW)
    for seed in range(3):
        report = gate_report(compared_with="v0001" if seed else None)
        registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest(gate_report=report))
    registry.promote("ansel", "v0001", expected=None, actor="a", reason="r")
    return registry


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty mondrian.db of a workspace."""
    root = tmp_path / "workspace"
    (root / "source").mkdir(parents=True)
    store = Store.create(root / "mondrian.db")
    yield store
    store.close()


def begin_rollout(registry: Registry, version: str = "v0002", plan: RolloutPlan | None = None, **facts: Any) -> Rollout:
    """Starts a rollout for "ansel"; `facts` are other fields of `RolloutStart`."""
    facts = {"actor": "person:test", "reason": "a test", **facts}
    return start_rollout(registry, "ansel", RolloutStart(version=version, plan=plan or RolloutPlan(), **facts))


def answer(score: float) -> dict[str, Any]:
    return {"dimensional_analysis": {"composition": {"score": score, "comment": "x"}}, "overall_grade": str(score)}


def assigned_jobs(
    rollout: Rollout,
    count: int,
    *,
    failing: Callable[[bool, int], bool] = lambda ours, number: False,
    began: datetime = NOW,
    hours: float = 8.0,
    first: int = 0,
) -> list[Job]:
    """`count` answered jobs, spread over `hours`, assigned as the service assigns them.

    `failing` is asked with the arm (True: the new version) and how many that arm has had before.
    """
    seen = {True: 0, False: 0}
    made = []
    for number in range(first, first + count):
        sha256 = f"{number:064x}"
        ours = is_in_share(rollout.salt, sha256, rollout.share)
        version = rollout.version if ours else rollout.control
        failed = failing(ours, seen[ours])
        seen[ours] += 1
        came = utc_timestamp(began + timedelta(hours=hours * (number - first + 1) / (count + 1)))
        mark = {"salt": rollout.salt, "share": rollout.share, "candidate": ours, "version": version}
        made.append(
            Job(
                id=f"job-{number}",
                filename="x.jpg",
                advisor="ansel",
                status="failed" if failed else "completed",
                created_at=came,
                completed_at=came,
                model_used="fine_tuned",
                requested_mode="lora",
                mode="lora",
                adapter_version=version,
                answer=None if failed else answer(number % 9),
                photograph_sha256=sha256,
                details={"rollout": mark, "seconds": 2.0 + (number * 7 % 10) / 10},
            )
        )
    return made
