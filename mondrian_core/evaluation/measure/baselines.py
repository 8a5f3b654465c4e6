"""Cheap baselines that a candidate should beat: constants, a calibrated base, retrieval, exchanged photographs.

Legend: `N` photographs, `D` dimensions. The calibration for a photograph is fitted on the other folds. Those belong to
the evaluation, which the candidate never saw, so a calibrated baseline has an advantage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.metrics import ScoreArray, ScoreTable, score_error_metrics
from mondrian_core.evaluation.measure.outcomes import BASE_RAG
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE
from mondrian_core.samples_file import BASE, CANDIDATE

BASELINE_TITLES: Mapping[str, str] = {
    "fold_mean": "always the mean of the other folds",
    "training_mean": "always the mean of the training scores",
    "always_8": "always 8",
    "base_shifted": "the base shifted to the advisor's mean",
    "base_calibrated": "the base calibrated (shift and slope, fitted inside the folds)",
    "base_rag": "the base with retrieval (RAG)",
    "candidate_calibrated": "the candidate calibrated the same way",
    "candidate_shuffled": "itself with the photographs exchanged",
}
CANDIDATE_VARIANTS = frozenset({"candidate_calibrated"})  # no baseline: it shows what a calibration would still gain
CALIBRATION_FOLDS = 5
SLOPE_PRIOR = 4.0  # weight of slope 1 in photographs: with ten photographs a free slope fits noise


def baseline_metrics(
    table: ScoreTable,
    training_mean: Mapping[str, float] | None,
    *,
    seed: int = 0,
    fold_of: NDArray[np.int_] | None = None,
) -> dict[str, dict[str, Any]]:
    """`score_error_metrics` of every baseline that these photographs allow.

    Args:
        table: scores of the advisor and of the arms.
        training_mean: mean training score by dimension; None when unknown.
        seed: of the random folds.
        fold_of: (N,) fold of each photograph; None draws five folds.
    """
    shape = table.labels.shape
    folds = _folds(shape[0], seed) if fold_of is None else fold_of
    metrics = {"always_8": score_error_metrics(np.full(shape, 8.0), table.labels, fold_of)}
    if training_mean:
        constant = np.array([training_mean[name] for name in DIMENSIONS])
        metrics["training_mean"] = score_error_metrics(np.broadcast_to(constant, shape).copy(), table.labels)
    if BASE in table.predictions and table.readable(BASE).sum() >= 3:
        leave_one_out = np.arange(shape[0])
        metrics["base_shifted"] = score_error_metrics(
            calibrated_scores(table, BASE, leave_one_out, prior=np.inf), table.labels, fold_of
        )
    for name, arm in (("base_calibrated", BASE), ("candidate_calibrated", CANDIDATE)):
        if arm in table.predictions and table.readable(arm).sum() >= 2 * CALIBRATION_FOLDS:
            metrics[name] = score_error_metrics(
                calibrated_scores(table, arm, folds, prior=SLOPE_PRIOR), table.labels, fold_of
            )
    if BASE_RAG in table.predictions and table.readable(BASE_RAG).any():
        metrics["base_rag"] = score_error_metrics(table.predictions[BASE_RAG], table.labels, fold_of)
    return metrics


def calibrated_scores(table: ScoreTable, arm: str, folds: NDArray[np.int_], *, prior: float) -> ScoreArray:
    """(N, D) an arm's scores, calibrated by a line per dimension that is fitted on the other folds; NaN stays NaN.

    Args:
        table: scores of the advisor and of the arm.
        arm: to calibrate.
        folds: (N,) fold of each photograph.
        prior: the least-squares slope is shrunk towards 1 with the weight of this many photographs; infinite fits a
            shift only.
    """
    guess, readable = table.predictions[arm], table.readable(arm)
    calibrated = np.full(guess.shape, np.nan)
    for fold in np.unique(folds):
        rest, inside = readable & (folds != fold), readable & (folds == fold)
        if not rest.any() or not inside.any():
            continue
        x, y = guess[rest], table.labels[rest]
        centred = x - x.mean(axis=0)
        spread = (centred**2).sum(axis=0)
        weight = spread * (prior / len(x)) if np.isfinite(prior) else np.full(guess.shape[1], np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = ((centred * (y - y.mean(axis=0))).sum(axis=0) + weight) / (spread + weight)
        slope = np.where(np.isfinite(slope), slope, 1.0)
        calibrated[inside] = y.mean(axis=0) + slope * (guess[inside] - x.mean(axis=0))
    return np.asarray(np.clip(calibrated, 0, MAX_SCORE))


def _folds(n: int, seed: int) -> NDArray[np.int_]:
    """(N,) fold of each photograph: folds of equal size within one, drawn with the seed."""
    return np.asarray(np.random.default_rng(seed).permutation(np.arange(n) % CALIBRATION_FOLDS))


def unbeaten_baseline_notes(
    own: float | None, found: Mapping[str, Mapping[str, Any]], who: str = "The candidate"
) -> tuple[str, ...]:
    """A sentence for every baseline whose squared error isn't above `own`, that of `who`. It decides no gate."""
    if own is None:
        return ()
    return tuple(
        f"{who} doesn't beat {BASELINE_TITLES.get(name, name)} ({rival['mse']:.3g} against its {own:.3g}): "
        "look whether it sees anything."
        for name, rival in found.items()
        if name not in CANDIDATE_VARIANTS and rival["mse"] is not None and rival["mse"] <= own
    )
