"""Levels of repeated looks: the chance of ever crossing, computed and simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mondrian_core.statistics.sequential_levels import crossing_probability, look_levels


def simulated(levels: tuple[float, ...], walks: int = 40_000) -> float:
    steps = np.random.default_rng(7).normal(size=(walks, len(levels)))
    sums = steps.cumsum(axis=1) / np.sqrt(np.arange(1, len(levels) + 1))
    return float((sums >= norm.isf(np.array(levels))).any(axis=1).mean())


@pytest.mark.parametrize("levels", [(0.05,), (0.025,) * 5, (0.01, 0.0, 0.02), (0.001, 0.004, 0.01, 0.02, 0.04)])
def test_crossing_probability_agrees_with_simulated_walks(levels: tuple[float, ...]) -> None:
    assert crossing_probability(levels) == pytest.approx(simulated(levels), abs=0.004)


def test_looks_of_a_year_spend_its_budget() -> None:
    levels = look_levels(0.05, 0.01, 52)
    assert levels[0] == 0.01
    assert list(levels[1:]) == sorted(levels[1:])
    assert 0.0499 < crossing_probability(levels) <= 0.05
    assert simulated(levels) == pytest.approx(0.05, abs=0.004)
    assert min(levels) > 1 / 20_001  # the smallest p of drawn sign flips


@pytest.mark.parametrize(("budget", "first", "looks"), [(0.05, 0.06, 52), (0.05, 0.0, 52), (0.05, 0.01, 0)])
def test_impossible_schedule_is_refused(budget: float, first: float, looks: int) -> None:
    with pytest.raises(ValueError, match="look_levels"):
        look_levels(budget, first, looks)


def test_single_look_has_the_first_level_and_no_look_spends_nothing() -> None:
    assert look_levels(0.05, 0.05, 1) == (0.05,)
    assert crossing_probability(()) == 0.0
