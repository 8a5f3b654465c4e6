"""Baselines: constants, calibrations of the base, and what the report says of those that are not beaten."""

from __future__ import annotations

import numpy as np
import pytest

from mondrian_core.evaluation.measure.baselines import baseline_metrics, unbeaten_baseline_notes
from mondrian_core.evaluation.measure.calibration import calibrate_base
from mondrian_core.evaluation.measure.metrics import ScoreTable, score_error_metrics
from mondrian_core.rubric import DIMENSIONS


def table(**predictions: np.ndarray) -> ScoreTable:
    labels = predictions.pop("labels")
    n = len(labels)
    return ScoreTable(
        tuple(map(str, range(n))), labels, predictions, {arm: np.zeros(n, dtype=np.bool_) for arm in predictions}
    )


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(1).uniform(2, 9, (40, len(DIMENSIONS)))


def test_shift_baseline_corrects_constant_offset(truth: np.ndarray) -> None:
    scores = table(labels=truth, base=truth - 2.0)
    found = baseline_metrics(scores, None, calibrate_base(scores))
    assert found["base_shifted"]["mse"] == pytest.approx(0, abs=1e-9)
    assert found["base_calibrated"]["mse"] == pytest.approx(0, abs=1e-9)


def test_linear_baseline_corrects_compressed_scores(truth: np.ndarray) -> None:
    scores = table(labels=truth, base=5 + (truth - 5) * 0.4)
    found = baseline_metrics(scores, None, calibrate_base(scores))
    assert found["base_calibrated"]["mse"] < 0.3 * found["base_shifted"]["mse"]


def test_constant_and_mean_baselines(truth: np.ndarray) -> None:
    mean = dict.fromkeys(DIMENSIONS, 5.5)
    found = baseline_metrics(table(labels=truth, base=truth), mean)
    assert found["training_mean"]["mse"] == pytest.approx(((truth - 5.5) ** 2).mean())
    assert found["always_8"]["mse"] == pytest.approx(((truth - 8) ** 2).mean())


def test_candidates_own_calibration_is_not_a_baseline(truth: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    shifted = truth + 1.0 + rng.normal(0, 0.1, truth.shape)
    found = baseline_metrics(table(labels=truth, base=truth + rng.normal(0, 3, truth.shape), candidate=shifted), None)
    assert found["candidate_calibrated"]["mse"] < 1.0
    assert unbeaten_baseline_notes(float(((shifted - truth) ** 2).mean()), found) == ()


def test_rank_correlation_is_within_folds() -> None:
    """The mean of the other folds is low where its own fold is high: pooled, the correlation is nearly -1."""
    rng = np.random.default_rng(3)
    labels = rng.uniform(0, 10, (20, len(DIMENSIONS)))
    folds = np.repeat(np.arange(4), 5)
    means = np.array([labels[folds != fold].mean(axis=0) for fold in folds])
    assert score_error_metrics(means, labels)["rank_correlation"] < -0.2
    assert score_error_metrics(means, labels, folds)["rank_correlation"] is None  # constant within a fold: undefined
