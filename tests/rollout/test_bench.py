"""The simulation tells worse adapters from others, in a few rollouts; docs/rollout.md has the long run."""

from __future__ import annotations

import numpy as np
import pytest

from bench.rollout import ADAPTERS, ours, row_of, simulate, table, usual
from mondrian_core.rollout import plan_for
from mondrian_core.rollout.plan import LIVE, Plan

SAME, TWICE, TEN, SLOW, LIKED = ADAPTERS


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
def test_most_rollouts_end_as_they_should(adapter: object, per_day: int, end: str) -> None:
    rng = np.random.default_rng(3)
    ends = [simulate(adapter, per_day, ours, plan_for(per_day), rng)["end"] for _ in range(8)]  # type: ignore[arg-type]
    assert ends.count(end) >= 7


def test_in_the_shadow_users_see_nothing_of_a_slow_adapter() -> None:
    row = row_of(SLOW, 50, "mondrian", 6, seed=1)
    assert (row["rolled back"], row["seen"]) == (1.0, 0.0)


def test_the_usual_canary_rolls_back_what_is_no_worse() -> None:
    rng = np.random.default_rng(3)
    ends = [simulate(SAME, 1_000, usual, Plan(steps=LIVE), rng)["end"] for _ in range(20)]
    assert ends.count("rolled_back") >= 3


def test_the_table_has_a_cell_for_every_column() -> None:
    lines = table([row_of(SAME, 50, "mondrian", 1, seed=0)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and "| the same |" in lines[2]
