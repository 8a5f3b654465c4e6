"""Answers due in the shadow, traffic, and a complete low-traffic rollout on a real jobs table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    Advance,
    Hold,
    RollBack,
    Rollout,
    RolloutPlan,
    ShadowRequest,
    active_rollout,
    check_rollout,
    default_rollout_plan,
    due_shadow_requests,
    requests_per_day,
)
from mondrian_core.rollout.plan import LIVE_STEPS, LOW_TRAFFIC_STEPS, RolloutStep
from mondrian_core.store import Job, Store, utc_timestamp
from tests.rollout.conftest import NOW, answer, assigned_jobs, begin_rollout

SHADOW = RolloutPlan(steps=(RolloutStep(0.0, 10, 1.0), RolloutStep(1.0, 0, 0.0)))


@pytest.fixture
def rollout(registry: Registry) -> Rollout:
    """v0002 in the shadow of v0001."""
    return begin_rollout(registry, "v0002", SHADOW, now=NOW)


def answered(each: ShadowRequest, number: int, *, failed: bool = False, seconds: float = 2.0) -> Job:
    """The job that the service makes of a due answer."""
    came = utc_timestamp(NOW + timedelta(hours=2))
    return Job(
        id=f"shadow-{number}",
        filename=each.filename,
        advisor="ansel",
        status="failed" if failed else "completed",
        created_at=came,
        requested_mode=each.mode,
        mode=each.mode,
        adapter_version=each.mark["version"],
        answer=None if failed else answer(number % 9),
        photograph_sha256=each.photograph_sha256,
        details={"rollout": each.mark, "seconds": seconds},
    )


def test_shadow_answers_are_due_once_and_users_get_control(registry: Registry, rollout: Rollout, store: Store) -> None:
    live = assigned_jobs(rollout, 14, hours=1)
    assert {job.adapter_version for job in live} == {"v0001"}, "a share of 0 gives users nothing of the new version"
    store.import_jobs(live)
    asked = []
    while found := due_shadow_requests(rollout, store.jobs("ansel"), limit=3):
        store.import_jobs([answered(each, len(asked) + k) for k, each in enumerate(found)])
        asked += found
    assert len(asked) == 20, "ten photographs, both arms"
    assert len({(each.photograph_sha256, each.candidate) for each in asked}) == 20
    assert [each.candidate for each in asked[:4]] == [True, False, False, True]
    seen = check_rollout(
        registry, "ansel", store.jobs("ansel", since=rollout.started), actor="a", now=NOW + timedelta(hours=3)
    )
    assert isinstance(seen.decision, Advance) and seen.decision.sentence.startswith("Advanced from the shadow to 100%")
    assert (seen.observed.in_step, seen.observed.shadow.worse) == (10, 0)


def test_shadow_failures_roll_back_before_users_see_them(registry: Registry, rollout: Rollout, store: Store) -> None:
    wider = replace(rollout, plan=replace(rollout.plan, steps=(RolloutStep(0.0, 60, 1.0), RolloutStep(1.0, 0, 0.0))))
    store.import_jobs(assigned_jobs(rollout, 40, hours=1))
    found = due_shadow_requests(wider, store.jobs("ansel"), limit=100)
    assert len(found) == 80
    store.import_jobs([answered(each, k, failed=each.candidate and k % 3 != 0) for k, each in enumerate(found)])
    seen = check_rollout(registry, "ansel", store.jobs("ansel"), actor="a", now=NOW + timedelta(hours=3))
    assert isinstance(seen.decision, RollBack) and seen.decision.guardrail == "failures"
    assert seen.observed.candidate.requests == 0 and registry.current("ansel") == "v0001"


def test_nothing_is_due_outside_shadow_or_for_other_advisors(rollout: Rollout) -> None:
    live = assigned_jobs(rollout, 3)
    assert len(due_shadow_requests(rollout, live, limit=99)) == 6
    assert due_shadow_requests(replace(rollout, step=1), live) == []
    assert due_shadow_requests(replace(rollout, status="finished"), live) == []
    assert due_shadow_requests(rollout, [replace(job, advisor="weston") for job in live]) == []
    assert due_shadow_requests(rollout, [replace(job, status="queued") for job in live]) == []
    assert due_shadow_requests(rollout, [replace(job, filename=None) for job in live]) == []


def test_first_adapter_is_compared_with_base(rollout: Rollout) -> None:
    found = due_shadow_requests(replace(rollout, control=None), assigned_jobs(rollout, 1))
    assert [(each.mode, each.mark["version"]) for each in found] == [("lora", "v0002"), ("baseline", None)]


def test_idle_shadow_is_reported(registry: Registry, rollout: Rollout) -> None:
    seen = check_rollout(registry, "ansel", [], actor="a", now=NOW + timedelta(hours=2))
    assert isinstance(seen.decision, Hold) and "check that the service runs" in seen.decision.sentence


def test_requests_per_day(rollout: Rollout) -> None:
    week = assigned_jobs(rollout, 700, began=NOW - timedelta(days=7), hours=7 * 24)
    assert requests_per_day(week, NOW) == pytest.approx(100, rel=0.01)
    day = assigned_jobs(rollout, 900, began=NOW - timedelta(hours=12), hours=12)
    assert requests_per_day(day, NOW) == 900.0, "half a day counts as one: nobody knows the other half"
    assert requests_per_day([replace(job, explicit_mode=True) for job in day], NOW) == 0.0
    shadow = [replace(job, details={"rollout": {"shadow": True}}) for job in day]
    assert requests_per_day(shadow, NOW) == 0.0
    assert requests_per_day([replace(day[0], created_at="once upon a time")], NOW) == 0.0
    assert (default_rollout_plan(999).steps, default_rollout_plan(1000).steps) == (LOW_TRAFFIC_STEPS, LIVE_STEPS)


def test_service_and_rollout_assign_same_photographs(registry: Registry) -> None:
    from mondrian_core.serving.critique.routing import StrategyRoute, route_in_rollout

    begun = begin_rollout(registry, now=NOW)
    assert begun == active_rollout(registry, "ansel")
    for job in assigned_jobs(begun, 300):
        _, mark = route_in_rollout(StrategyRoute("lora", explicit=False), begun, job.photograph_sha256 or "")
        assert mark == job.details["rollout"]
