"""Assignment, e-processes, and the decisions to advance, hold or roll back, without files or clock."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.errors import BadInput
from mondrian_core.rollout import (
    Advance,
    Hold,
    RollBack,
    Rollout,
    RolloutObservations,
    RolloutPlan,
    RolloutStep,
    decide_rollout,
    is_in_share,
    rollout_after_decision,
)
from mondrian_core.rollout.plan import LOW_TRAFFIC_STEPS, ArmCounts, PairCounts, ShareStratum, default_rollout_plan
from mondrian_core.statistics.e_processes import (
    log_e_failure_rate,
    log_e_rate_above,
    log_e_sample_ratio,
    log_e_sign_test,
)

BEGAN = datetime(2026, 11, 21, tzinfo=UTC)
LATER = BEGAN + timedelta(hours=30)


def rollout(**values: object) -> Rollout:
    began = BEGAN.isoformat()
    return replace(
        Rollout(
            advisor="ansel",
            version="v0002",
            control="v0001",
            salt="salt",
            plan=RolloutPlan(),
            started_at=began,
            step_started_at=began,
        ),
        **values,
    )


def seen(
    candidate: tuple[int, int] = (60, 1), control: tuple[int, int] = (1140, 12), **values: object
) -> RolloutObservations:
    stratum = ShareStratum(0.05, ArmCounts(*candidate), ArmCounts(*control))
    return RolloutObservations(strata=(stratum,), in_step=candidate[0], **values)


@given(st.text(max_size=20), st.text(max_size=64), st.floats(0, 1), st.floats(0, 1))
def test_growing_share_keeps_assigned_photographs(salt: str, unit: str, a: float, b: float) -> None:
    small, large = sorted((a, b))
    assert not is_in_share(salt, unit, small) or is_in_share(salt, unit, large)
    assert is_in_share(salt, unit, 1.0) and not is_in_share(salt, unit, 0.0)


def test_share_is_accurate_and_salts_are_independent() -> None:
    units = [str(number) for number in range(20_000)]
    first = np.array([is_in_share("one", unit, 0.25) for unit in units])
    second = np.array([is_in_share("two", unit, 0.25) for unit in units])
    assert abs(first.mean() - 0.25) < 0.012  # four standard deviations
    assert abs((first & second).mean() - 0.0625) < 0.007


def false_alarms(draw: object, log_e: object, alpha: float, runs: int = 400, looks: int = 40) -> float:
    """Share of runs without a difference whose e-value, checked at every step, ever exceeds 1/alpha."""
    alarms = 0
    for _ in range(runs):
        counts = np.cumsum(draw(looks), axis=0)  # type: ignore[operator]
        alarms += any(log_e(*map(int, row)) >= -math.log(alpha) for row in counts)  # type: ignore[operator]
    return alarms / runs


def test_continuous_checking_keeps_false_alarms_below_alpha() -> None:
    """Ville's inequality, by simulation; a fixed-size test repeated as often would alarm several times as often."""
    rng = np.random.default_rng(5)

    def failures(looks: int) -> np.ndarray:
        return np.stack([rng.binomial(50, 0.02, looks), rng.binomial(950, 0.02, looks)], axis=1)

    def coins(looks: int) -> np.ndarray:
        worse = rng.binomial(20, 0.5, looks)
        return np.stack([worse, 20 - worse], axis=1)

    assert false_alarms(failures, lambda a, b: log_e_failure_rate([(0.05, a, b)]), 0.05) <= 0.05
    assert false_alarms(coins, log_e_sign_test, 0.05) <= 0.05
    assert false_alarms(coins, lambda a, b: log_e_rate_above(a, b, 0.5), 0.05) <= 0.05
    assert false_alarms(lambda n: coins(n), lambda a, b: log_e_sample_ratio([(0.5, a, b)]), 0.05) <= 0.05


def test_better_candidate_alarms_less() -> None:
    assert log_e_failure_rate([(0.05, 0, 50)]) < 0 < log_e_failure_rate([(0.05, 12, 50)])
    assert log_e_failure_rate([(1.0, 50, 0)]) == 0.0, "with nothing to compare there is no evidence"
    assert log_e_failure_rate([]) == log_e_sign_test(0, 0) == 0.0


def test_healthy_rollout_advances_after_requests_and_hours() -> None:
    decision = decide_rollout(rollout(), seen(), LATER)
    assert isinstance(decision, Advance) and decision.share == 0.10
    assert isinstance(decide_rollout(rollout(), seen(), BEGAN + timedelta(hours=5)), Hold)
    assert isinstance(decide_rollout(rollout(), seen((49, 0)), LATER), Hold)


def test_clock_set_back_holds_rollout() -> None:
    assert isinstance(decide_rollout(rollout(), seen(), BEGAN - timedelta(days=2)), Hold)


@pytest.mark.parametrize(
    ("guardrail", "observed"),
    [
        ("failures", seen((60, 8), (1140, 12))),
        ("failures", seen(shadow=PairCounts(worse=14, better=0))),
        ("latency", seen(latency=PairCounts(worse=75, better=25))),
        ("score collapse", seen(repeated=20, neighbours=40)),
        ("ratings", seen(ratings=PairCounts(worse=30, better=8))),
        ("failures in a row", seen((5, 3), (95, 1), longest_run=3)),
        ("crashes", seen(crashes=3)),
        ("crashes", seen((12, 0), (228, 2), crashes=2)),
    ],
)
def test_each_guardrail_rolls_back_with_reason(guardrail: str, observed: RolloutObservations) -> None:
    decision = decide_rollout(rollout(), observed, BEGAN)
    assert isinstance(decision, RollBack) and decision.guardrail == guardrail
    assert decision.sentence.startswith("Rolled back: ") and any(letter.isdigit() for letter in decision.sentence)


@pytest.mark.parametrize(
    "observed",
    [
        seen((60, 1), (1140, 12), latency=PairCounts(30, 30), ratings=PairCounts(5, 5), repeated=2, neighbours=40),
        seen((100_000, 1000), (1_900_000, 19_000), longest_run=3),  # at 1 % failures such a run is expected by now
        seen((600, 6), (11_400, 120), crashes=2, control_crashes=40),  # the control crashes as often
    ],
)
def test_usual_failures_do_not_roll_back(observed: RolloutObservations) -> None:
    assert isinstance(decide_rollout(rollout(), observed, LATER), Advance)


@pytest.mark.parametrize(("control", "expected"), [((4, 0), Hold), ((40, 0), RollBack), ((40, 6), Hold)])
def test_failures_in_a_row_need_answers_of_the_control(control: tuple[int, int], expected: type) -> None:
    """Three of four failed: that says nothing about the candidate while the control has hardly answered."""
    stratum = ShareStratum(0.5, ArmCounts(4, 3), ArmCounts(*control))
    decision = decide_rollout(rollout(), RolloutObservations(strata=(stratum,), longest_run=3), BEGAN)
    assert isinstance(decision, expected)
    shadow = RolloutObservations(
        strata=(ShareStratum(0.5, ArmCounts(4, 3), ArmCounts()),), shadow_control=ArmCounts(*control), longest_run=3
    )
    assert isinstance(decide_rollout(rollout(), shadow, BEGAN), expected)


def test_suspected_regression_holds_rollout() -> None:
    decision = decide_rollout(rollout(), seen((60, 4), (1140, 12)), LATER)
    assert isinstance(decision, Hold) and "failures" in decision.sentence


def test_sample_ratio_mismatch_holds_and_never_rolls_back() -> None:
    decision = decide_rollout(rollout(), seen((400, 4), (1140, 12)), LATER)
    assert isinstance(decision, Hold) and "assignment" in decision.sentence


def test_rollout_finishes_at_full_share() -> None:
    state, now, shares = rollout(), LATER, []
    while state.status == "running":
        share = state.share
        shares.append(share)
        stratum = ShareStratum(share, ArmCounts(500, 5), ArmCounts(round(500 / share) - 500, round(5 / share) - 5))
        decision = decide_rollout(state, RolloutObservations(strata=(stratum,), in_step=500), now)
        state, now = rollout_after_decision(state, decision, now), now + timedelta(hours=30)
    assert shares == [0.05, 0.10, 0.25, 0.50] and (state.status, state.share) == ("finished", 1.0)
    assert isinstance(decide_rollout(state, seen(), now), Hold)


def test_low_traffic_starts_in_shadow() -> None:
    assert default_rollout_plan(50).steps == LOW_TRAFFIC_STEPS and default_rollout_plan(5000).steps[0].share == 0.05
    state = rollout(plan=default_rollout_plan(50))
    assert state.in_shadow and state.share == 0.0
    decision = decide_rollout(state, RolloutObservations(in_step=100, shadow=PairCounts(1, 2)), LATER)
    assert isinstance(decision, Advance) and decision.share == 0.5


@pytest.mark.parametrize("shares", [[], [0.5], [0.5, 0.1, 1.0], [0.5, 0.5, 1.0], [-0.1, 1.0]])
def test_plan_without_growing_shares_is_rejected(shares: list[float]) -> None:
    with pytest.raises(BadInput):
        RolloutPlan(steps=tuple(RolloutStep(share, 1, 1.0) for share in shares))


def test_plan_round_trips_as_json_and_rejects_unknown_keys() -> None:
    with pytest.raises(BadInput):
        RolloutPlan.from_dict({"stepps": []})
    state = rollout()
    assert Rollout.from_dict(state.as_dict()) == state


def test_alphas_add_up_to_at_most_five_percent() -> None:
    plan = RolloutPlan()
    alphas = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name.endswith("_alpha")}
    assert len(alphas) == 7 and sum(alphas.values()) - plan.ratio_alpha <= 0.05 + 1e-12  # that check only holds
