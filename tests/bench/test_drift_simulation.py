"""The watch keeps its promise in short simulated years and finds a shift; docs/experiments/drift.md: the long run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from bench import drift_simulation
from bench.drift_simulation import SIMULATED_CHANGES, SIMULATED_YEARS, drift_change_table, drift_year_table

YEARS, DAYS = 40, 4


def test_false_alarms_stay_below_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch with the promised 5 % or less fails this test once in 1,000 runs of another seed."""
    monkeypatch.setattr(drift_simulation, "DAYS", DAYS)
    independent, series = SIMULATED_YEARS[0], SIMULATED_YEARS[2]
    most = binom.ppf(0.999, YEARS, drift_simulation.PROMISED)
    for year in (independent, series):
        assert drift_simulation.simulate_year(year, YEARS, np.random.default_rng(1)).sum() <= most


def test_counting_every_request_of_a_series_would_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_simulation, "DAYS", 8)
    row = drift_simulation.drift_year_row(SIMULATED_YEARS[-1], YEARS, seed=1)
    assert row["exceeds"]
    assert not row["promised"]
    assert "series of ten, every request counted" in drift_year_table([row])


def test_shift_of_one_point_is_found_within_a_hundred_requests() -> None:
    change = next(each for each in SIMULATED_CHANGES if (each.deviation, each.reference, each.quiet) == (1.0, 200, 0))
    row = drift_simulation.drift_change_row(change, 60, seed=1)
    assert row["late"] <= drift_simulation.WITHIN
    assert "| one point | 1 | 200 | 0 |" in drift_change_table([row])
