"""Cheap baselines that a candidate should beat: constants, a calibrated base, retrieval, exchanged photographs.

Legend: `N` photographs, `D` dimensions. `calibration` fits the baselines of the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.calibration import (
    CALIBRATIONS,
    FOLDS,
    ISOTONIC,
    MEAN,
    SHIFTED,
    SLOPE,
    UNCALIBRATED,
    CalibratedBase,
    cross_fitted_scores,
    fit_slope,
    random_folds,
)
from mondrian_core.evaluation.measure.metrics import ScoreTable, score_error_metrics
from mondrian_core.evaluation.measure.outcomes import BASE_RAG
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import CANDIDATE

BASELINE_TITLES: Mapping[str, str] = {
    "fold_mean": "always the mean of the other folds",
    "training_mean": "always the mean of the training scores",
    "always_8": "always 8",
    UNCALIBRATED: "the base as it is",
    SHIFTED: "the base with shifted scores",
    SLOPE: "the base with shifted and stretched scores",
    ISOTONIC: "the base with monotonically mapped scores",
    MEAN: "always the advisor's mean",
    "base_rag": "the base with retrieval (RAG)",
    "candidate_calibrated": "the candidate with shifted and stretched scores",
    "candidate_shuffled": "itself with the photographs exchanged",
}
CANDIDATE_VARIANTS = frozenset({"candidate_calibrated"})  # no baseline: it shows what a calibration would still gain


def baseline_metrics(
    table: ScoreTable,
    training_mean: Mapping[str, float] | None,
    calibrated: CalibratedBase | None = None,
    *,
    seed: int = 0,
    fold_of: NDArray[np.int_] | None = None,
) -> dict[str, dict[str, Any]]:
    """`score_error_metrics` of every baseline that these photographs allow.

    Args:
        table: scores of the advisor and of the arms.
        training_mean: mean training score by dimension; None when unknown.
        calibrated: the base's scores of these photographs under every calibration; None where none could be fitted.
        seed: of the random folds.
        fold_of: (N,) fold of each photograph; None draws five folds.
    """
    shape = table.labels.shape
    folds = random_folds(shape[0], seed) if fold_of is None else fold_of
    metrics = {"always_8": score_error_metrics(np.full(shape, 8.0), table.labels, fold_of)}
    if training_mean:
        constant = np.array([training_mean[name] for name in DIMENSIONS])
        metrics["training_mean"] = score_error_metrics(np.broadcast_to(constant, shape).copy(), table.labels)
    if calibrated is not None:
        for name in (SHIFTED, SLOPE, ISOTONIC):
            metrics[name] = score_error_metrics(calibrated.predictions[name], table.labels, fold_of)
    if CANDIDATE in table.predictions and table.readable(CANDIDATE).sum() >= 2 * FOLDS:
        scores = cross_fitted_scores(fit_slope, table.predictions[CANDIDATE], table.labels, folds)
        metrics["candidate_calibrated"] = score_error_metrics(scores, table.labels, fold_of)
    if BASE_RAG in table.predictions and table.readable(BASE_RAG).any():
        metrics["base_rag"] = score_error_metrics(table.predictions[BASE_RAG], table.labels, fold_of)
    return metrics


def unbeaten_baseline_notes(
    own: float | None, found: Mapping[str, Mapping[str, Any]], who: str = "The candidate"
) -> tuple[str, ...]:
    """A sentence for every baseline whose squared error isn't above `own`, that of `who`. It decides no gate."""
    if own is None:
        return ()
    return tuple(
        f"{who} doesn't beat {BASELINE_TITLES.get(name, name)} ({rival['mse']:.3g} against its {own:.3g}): "
        f"{'it needs no adapter' if name in CALIBRATIONS else 'look whether it sees anything'}."
        for name, rival in found.items()
        if name not in CANDIDATE_VARIANTS and rival["mse"] is not None and rival["mse"] <= own
    )
