"""Rollouts next to the registry's pointer, and counts from the jobs table."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mondrian_core.errors import BadInput, ChampionChanged, NothingToDo
from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    Advance,
    Hold,
    RollBack,
    RolloutRequest,
    active_rollout,
    apply_rollout_decision,
    check_rollout,
    count_observations,
    load_rollout,
    rollout_requests,
    rollout_store,
)
from mondrian_core.rollout.plan import ArmCounts, PairCounts
from mondrian_core.store import Job
from tests.registry.conftest import gate_report, manifest, write_adapter
from tests.rollout.conftest import begin_rollout

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """v0001 the champion, v0002 a candidate."""
    registry = Registry(tmp_path / "adapters", clock=lambda: NOW)
    for seed in range(3):
        registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest())
    registry.promote("ansel", "v0001", expected=None, actor="a", reason="r")
    return registry


def begin(registry: Registry, version: str = "v0002", now: datetime = NOW) -> None:
    begin_rollout(registry, version, actor="flow:x", reason="all gates passed", now=now)


def test_start_promotes_at_first_share(registry: Registry) -> None:
    assert active_rollout(registry, "ansel") is None
    begin(registry)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None and (rollout.version, rollout.control, rollout.share) == ("v0002", "v0001", 0.05)
    assert registry.current("ansel") == "v0002"
    detail = registry.history("ansel")[-1].detail
    assert (detail["rollout"], detail["share"]) == (rollout.salt, 0.05)
    with pytest.raises(NothingToDo, match="5%"):
        begin(registry, "v0003")


def test_advance_is_applied_once_and_recorded(registry: Registry) -> None:
    begin(registry)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None
    later = apply_rollout_decision(
        registry, rollout, Advance(0.10, "Advanced.", {"failures": 0.5}), actor="flow:y", now=NOW
    )
    assert later.share == 0.10 and active_rollout(registry, "ansel") == later
    entry = registry.history("ansel")[-1]
    assert (entry.event, entry.actor, entry.detail["share"]) == ("rollout", "flow:y", 0.10)
    with pytest.raises(NothingToDo, match="changed"):
        apply_rollout_decision(registry, rollout, Advance(0.10, "Advanced."), actor="flow:z", now=NOW)
    assert apply_rollout_decision(registry, later, Hold("Held."), actor="flow:y") is later
    assert registry.check("ansel") == ()


def test_rollback_returns_to_control_and_cools_down(registry: Registry) -> None:
    begin(registry)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None
    done = apply_rollout_decision(
        registry, rollout, RollBack("failures", "Rolled back: 8 of 60 failed."), actor="flow:y", now=NOW
    )
    assert done.status == "rolled_back" and registry.current("ansel") == "v0001"
    assert registry.history("ansel")[-1].reason == "Rolled back: 8 of 60 failed."
    with pytest.raises(NothingToDo, match="may be rolled out again at 2026-11-22"):
        begin(registry, now=NOW + timedelta(hours=23))
    begin(registry, now=NOW + timedelta(hours=25))


def test_manual_rollback_ends_rollout(registry: Registry) -> None:
    begin(registry)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None
    registry.rollback("ansel", actor="person:me", reason="I don't like it")
    assert active_rollout(registry, "ansel") is None
    with pytest.raises(ChampionChanged):
        apply_rollout_decision(registry, rollout, Advance(0.10, "Advanced."), actor="flow:y")
    with pytest.raises(ChampionChanged):
        apply_rollout_decision(registry, rollout, RollBack("failures", "Rolled back."), actor="flow:y")
    registry.promote("ansel", "v0002", expected="v0001", actor="person:me", reason="now for everybody")
    assert active_rollout(registry, "ansel") is None, "the old rollout must not hold back a promotion by hand"


def test_a_rollout_of_an_older_release_goes_on(registry: Registry, tmp_path: Path) -> None:
    """It kept the state in a file next to the promotion's entry."""
    twin = Registry(tmp_path / "twin", clock=lambda: NOW)
    shutil.copytree(registry.root, twin.root)
    begin(twin)
    state = twin.history("ansel")[-1].detail["rollout_state"]
    file = registry.root / "ansel" / "rollout.json"
    detail = {"rollout": state["salt"], "share": 0.05}
    registry.promote("ansel", "v0002", expected="v0001", actor="a", reason="r", detail=detail)
    file.write_text("{")
    with pytest.raises(BadInput, match="mondrian adapters rollback"):
        active_rollout(registry, "ansel")
    file.write_text(json.dumps(state))
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None and rollout.share == 0.05
    apply_rollout_decision(registry, rollout, Advance(0.10, "Advanced."), actor="flow:y", now=NOW)
    later = active_rollout(registry, "ansel")
    assert later is not None and later.share == 0.10


def answer(score: float) -> dict[str, object]:
    return {"dimensional_analysis": {"composition": {"score": score, "comment": "x"}}}


def test_jobs_are_converted_to_rollout_requests(registry: Registry) -> None:
    begin(registry)
    rollout = load_rollout(registry, "ansel")
    assert rollout is not None
    mark = {"salt": rollout.salt, "share": 0.05, "candidate": True}

    def job(name: str, **values: object) -> Job:
        facts = {
            "status": "completed",
            "requested_mode": "lora",
            "mode": "lora",
            "adapter_version": "v0002",
            "answer": answer(7),
            "photograph_sha256": name,
            "details": {"rollout": mark, "seconds": 2.0},
        }
        return Job(id=name, filename="x.jpg", advisor="ansel", **{**facts, **values})

    found = rollout_requests(
        [
            job("good"),
            job("fell back", mode="rag"),
            job("base answered", adapter_version=None),
            job("error", status="failed", answer=None),
            job("waiting", status="queued"),
            job("by hand", explicit_mode=True),
            job("other rollout", details={"rollout": {**mark, "salt": "another"}}),
            job("none", details={}),
            job("control", adapter_version="v0001", details={"rollout": {**mark, "candidate": False}}),
        ],
        rollout,
    )
    assert [(request.unit, request.failed) for request in found] == [
        ("good", False),
        ("fell back", True),
        ("base answered", True),
        ("error", True),
        ("control", False),
    ]
    counted = count_observations(found, rollout)
    assert counted.candidate == ArmCounts(4, 3) and counted.control == ArmCounts(1, 0) and counted.longest_run == 3


def test_photograph_counts_once(registry: Registry) -> None:
    begin(registry)
    rollout = load_rollout(registry, "ansel")
    assert rollout is not None
    again = [RolloutRequest(unit="same", share=0.05, candidate=True, failed=True)] * 5
    assert count_observations(again, rollout).candidate == ArmCounts(1, 1)


def test_pairs_and_collapse_are_counted(registry: Registry) -> None:
    begin(registry)
    rollout = load_rollout(registry, "ansel")
    assert rollout is not None
    live = [
        RolloutRequest(unit="a", share=0.05, candidate=False, seconds=1.0, rating=5),
        RolloutRequest(unit="b", share=0.05, candidate=True, seconds=1.2, rating=3, scores=(7.0,)),
        RolloutRequest(
            unit="c", share=0.05, candidate=True, seconds=9.0, scores=(7.0,)
        ),  # no control left to compare with
        RolloutRequest(unit="d", share=0.05, candidate=False, seconds=1.0),
        RolloutRequest(unit="e", share=0.05, candidate=True, seconds=1.05, scores=(6.0,)),
    ]
    counted = count_observations(live, rollout)
    assert counted.latency == PairCounts(worse=1, better=1) and counted.ratings == PairCounts(worse=1)
    assert (counted.repeated, counted.neighbours, counted.in_step) == (1, 1, 3)
    shadow = [
        RolloutRequest(unit="p", share=0.0, candidate=True, failed=True, shadow=True),
        RolloutRequest(unit="p", share=0.0, candidate=False, shadow=True),
        RolloutRequest(unit="q", share=0.0, candidate=True, shadow=True),
    ]
    assert count_observations(shadow, rollout).shadow == PairCounts(worse=1)


def test_rollout_evaluation_counts_decides_and_applies(registry: Registry) -> None:
    with pytest.raises(NothingToDo):
        check_rollout(registry, "ansel", [], actor="flow:advance", now=NOW)
    begin(registry)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None

    def jobs(failed: int) -> list[Job]:
        made = []
        for number in range(1200):
            ours = number % 20 == 0
            mark = {"salt": rollout.salt, "share": 0.05, "candidate": ours}
            bad = ours and number < 20 * failed
            made.append(
                Job(
                    id=str(number),
                    filename="x.jpg",
                    advisor="ansel",
                    status="failed" if bad else "completed",
                    requested_mode="lora",
                    mode="lora",
                    adapter_version="v0002" if ours else "v0001",
                    answer=answer(number % 9),
                    photograph_sha256=str(number),
                    details={"rollout": mark},
                )
            )
        return made

    later = NOW + timedelta(hours=7)
    peek = check_rollout(registry, "ansel", jobs(0), actor="person:me", now=later, carry_out="nothing")
    assert isinstance(peek.decision, Advance) and active_rollout(registry, "ansel") == rollout
    seen = check_rollout(registry, "ansel", jobs(0), actor="flow:advance", now=later)
    assert isinstance(seen.decision, Advance) and seen.after.share == 0.10 and seen.before == rollout
    seen = check_rollout(registry, "ansel", jobs(0), actor="flow:advance", now=later)
    assert isinstance(seen.decision, Hold) and seen.after.share == 0.10
    seen = check_rollout(registry, "ansel", jobs(3), actor="flow:advance", now=later)
    assert isinstance(seen.decision, RollBack) and registry.current("ansel") == "v0001"
    assert registry.history("ansel")[-1].actor == "flow:advance"
    assert seen.as_dict()["decision"] == "roll back" and seen.as_dict()["observed"]["longest_run"] == 3


def test_a_version_that_failed_an_evaluation_gets_no_further_share(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(registry)
    monkeypatch.setattr(rollout_store, "decide_rollout", lambda *_: Advance(0.10, "Advanced.", {"failures": 0.5}))
    registry.record_evaluation("ansel", "v0002", gate_report("PASS", health="FAIL"), actor="person:me")
    seen = check_rollout(registry, "ansel", [], actor="flow:advance", now=NOW)
    assert isinstance(seen.decision, Hold) and "failed since its rollout began (health)" in seen.decision.sentence
    assert seen.after.share == seen.before.share and seen.decision.evidence == {"failures": 0.5}
    registry.record_evaluation("ansel", "v0002", gate_report(), actor="person:me")
    assert check_rollout(registry, "ansel", [], actor="flow:advance", now=NOW).after.share == 0.10
