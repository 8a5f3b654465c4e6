"""The simulation tells worse adapters from others, in a few rollouts; docs/explanation/rollout.md has the long run."""

from __future__ import annotations

import numpy as np
import pytest

from bench import rollout_simulation
from bench.rollout_simulation import (
    SIMULATED_ADAPTERS,
    decide_by_fixed_tests,
    decide_by_mondrian,
    rollout_simulation_markdown,
    simulate_rollout,
    simulated_rollouts_row,
)
from mondrian_core.rollout import default_rollout_plan
from mondrian_core.rollout.plan import LIVE_STEPS, RolloutPlan

SAME, TWICE, TEN, SLOW, LIKED = SIMULATED_ADAPTERS


@pytest.mark.parametrize(
    ("adapter", "per_day", "end"),
    [
        (SAME, 50, "finished"),
        (SAME, 1_000, "finished"),
        (LIKED, 1_000, "finished"),
        (TEN, 1_000, "rolled_back"),
        (SLOW, 50, "rolled_back"),
        (SLOW, 1_000, "rolled_back"),
    ],
)
def test_simulated_rollouts_reach_expected_decision(adapter: object, per_day: int, end: str) -> None:
    rng = np.random.default_rng(3)
    ends = [
        simulate_rollout(adapter, per_day, decide_by_mondrian, default_rollout_plan(per_day), rng)["end"]
        for _ in range(8)
    ]
    assert ends.count(end) >= 7


def test_shadow_step_hides_slow_adapter_from_users() -> None:
    row = simulated_rollouts_row(SLOW, 50, "mondrian", 6, seed=1)
    assert (row["rolled back"], row["seen"]) == (1.0, 0.0)


def test_fixed_size_tests_cause_false_rollbacks() -> None:
    rng = np.random.default_rng(3)
    ends = [
        simulate_rollout(SAME, 1_000, decide_by_fixed_tests, RolloutPlan(steps=LIVE_STEPS), rng)["end"]
        for _ in range(20)
    ]
    assert ends.count("rolled_back") >= 3


@pytest.mark.parametrize("exceeds", [False, True])
def test_exit_status_is_1_when_a_guardrail_exceeds_its_promise(exceeds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"guardrail": "latency", "limit": "x", "promised": 0.01, "measured": 0.5, "allowed": 0.02}
    monkeypatch.setattr(
        "bench.rollout_simulation.guardrail_rows", lambda runs, seed: iter([{**row, "exceeds": exceeds}])
    )
    assert rollout_simulation.main(["--guardrails-only"]) == int(exceeds)


def test_simulation_table_has_every_column() -> None:
    lines = rollout_simulation_markdown([simulated_rollouts_row(SAME, 50, "mondrian", 1, seed=0)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and "| the same |" in lines[2]
