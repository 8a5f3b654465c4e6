"""Calibrations of the base: fitted without the judged photographs, and chosen without them."""

from __future__ import annotations

import numpy as np
import pytest

from mondrian_core.evaluation.measure import calibration
from mondrian_core.evaluation.measure.calibration import (
    CALIBRATIONS,
    ISOTONIC,
    MEAN,
    MINIMUM_FITTED,
    SHIFTED,
    SLOPE,
    UNCALIBRATED,
    best_calibration,
    calibrate_base,
    compare_with_calibrations,
    cross_fitted_scores,
    fit_isotonic,
    fit_slope,
)
from mondrian_core.evaluation.measure.metrics import ScoreTable
from mondrian_core.rubric import DIMENSIONS

FOLDS = np.arange(40) % 5


def table(labels: np.ndarray, **predictions: np.ndarray) -> ScoreTable:
    n = len(labels)
    failed = {arm: np.zeros(n, dtype=np.bool_) for arm in predictions}
    return ScoreTable(tuple(map(str, range(n))), labels, predictions, failed)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(1).uniform(2, 9, (40, len(DIMENSIONS)))


@pytest.mark.parametrize("fitted_on", ["training", "folds", "judged"])
def test_no_label_of_a_judged_photograph_reaches_its_own_calibration(truth: np.ndarray, fitted_on: str) -> None:
    """Exchange the labels of one photograph: its own calibrated scores, and the choice among them, stay the same."""
    rng = np.random.default_rng(2)
    base = np.clip(truth - 1.0 + rng.normal(0, 1, truth.shape), 0, 10)
    training = table(truth[::-1], base=base[::-1]) if fitted_on == "training" else None
    folds = FOLDS if fitted_on == "folds" else None
    before = calibrate_base(table(truth, base=base), training, folds)
    assert before is not None and before.fitted_on == fitted_on
    for photograph in (0, 17, 39):
        changed = truth.copy()
        changed[photograph] = 10 - changed[photograph]
        after = calibrate_base(table(changed, base=base), training, folds)
        assert after is not None
        for name in CALIBRATIONS:
            assert np.array_equal(before.predictions[name][photograph], after.predictions[name][photograph]), name
        assert np.array_equal(before.best[photograph], after.best[photograph])
        if fitted_on != "training":
            assert not np.array_equal(before.predictions[SHIFTED], after.predictions[SHIFTED]), "others use the label"


@pytest.mark.parametrize(
    ("distort", "best"),
    [
        (lambda truth: truth, UNCALIBRATED),
        (lambda truth: truth - 2, SHIFTED),
        (lambda truth: 5 + (truth - 5) * 0.6, SLOPE),
        (lambda truth: 20 * ((truth - 2) / 7) ** 4, ISOTONIC),
        (lambda truth: np.random.default_rng(5).uniform(0, 10, truth.shape), MEAN),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_best_calibration_is_the_one_that_undoes_the_distortion(distort: object, best: str, truth: np.ndarray) -> None:
    noise = np.random.default_rng(4).normal(0, 0.5, truth.shape)
    assert callable(distort)
    assert best_calibration(distort(truth) + noise, truth) == best


def test_slope_of_constant_base_is_the_mean(truth: np.ndarray) -> None:
    fitted = cross_fitted_scores(fit_slope, np.full_like(truth, 7.0), truth, FOLDS)
    assert ((fitted - truth) ** 2).mean() == pytest.approx(truth.var(axis=0).mean(), rel=0.15)


def test_isotonic_calibration_is_monotonic_and_flat_outside(truth: np.ndarray) -> None:
    base = truth + np.random.default_rng(6).normal(0, 2, truth.shape)
    grid = np.repeat(np.linspace(-5, 15, 50)[:, None], len(DIMENSIONS), axis=1)
    mapped = fit_isotonic(base, truth).apply(grid)
    assert (np.diff(mapped, axis=0) >= 0).all() and np.ptp(mapped) > 1
    assert np.array_equal(mapped[0], mapped[1]) and np.array_equal(mapped[-1], mapped[-2])


def test_unreadable_answers_are_neither_fitted_nor_judged(truth: np.ndarray) -> None:
    base = truth - 2.0
    base[:5] = np.nan
    found = calibrate_base(table(truth, base=base))
    assert found is not None
    for rows in (*found.predictions.values(), found.best):
        assert np.isnan(rows[:5]).all() and not np.isnan(rows[5:]).any()
    compared = compare_with_calibrations(table(truth, base=base, candidate=truth), found, wanted=0.05, seed=0)
    assert compared is not None and (compared.n, compared.against.left_out) == (35, 5)


def test_too_few_photographs_give_no_calibration(truth: np.ndarray) -> None:
    few = MINIMUM_FITTED
    assert calibrate_base(table(truth[:few], base=truth[:few])) is None, "cross-fitting leaves fewer to fit on"
    training = table(truth[10 : 10 + few], base=truth[10 : 10 + few] - 1)
    found = calibrate_base(table(truth[:3], base=truth[:3] - 1), training)
    assert found is not None and (found.fitted_on, found.photographs) == ("training", few)
    assert calibrate_base(table(truth, candidate=truth)) is None, "the base was not asked"


def test_share_of_the_gain_that_is_an_offset(truth: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 1, truth.shape)
    base = truth + 2.0 + noise  # squared error 5, of which a shift removes 4
    known = calibrate_base(table(truth, base=base))
    shifted = compare_with_calibrations(table(truth, base=base, candidate=base - 2), known, wanted=0.05, seed=0)
    exact = compare_with_calibrations(table(truth, base=base, candidate=truth), known, wanted=0.05, seed=0)
    assert shifted is not None and exact is not None and shifted.offset_share and exact.offset_share
    assert shifted.offset_share == pytest.approx(1, abs=0.03)
    assert exact.offset_share == pytest.approx(0.8, abs=0.06)
    assert exact.offset_interval is not None and exact.offset_interval[0] < 0.8 < exact.offset_interval[1]
    worse = compare_with_calibrations(table(truth, base=truth, candidate=base), known, wanted=0.05, seed=0)
    assert worse is not None and worse.offset_share is None, "there is no gain to share"


def test_cost_of_the_fit_is_that_of_a_linear_regression() -> None:
    """A line fitted on n photographs has about 2 / n more error on new ones: what the gate adds to its threshold."""
    rng, costs = np.random.default_rng(8), []
    for _ in range(300):
        base = rng.normal(5, 1, (60, 8))
        advisor = base - 1 + rng.normal(0, 1, base.shape)
        line = calibration.fit_slope(base[:20], advisor[:20])
        costs.append(((line.apply(base[20:]) - advisor[20:]) ** 2).mean() - 1)
    assert np.mean(costs) == pytest.approx(2 / 20, abs=0.03)
