"""Calibrations of the base: the rivals of an adapter that need no training, and what of its gain they explain.

Each calibration maps the base's scores to the advisor's, dimension by dimension, and is never fitted on a photograph
that it is judged on. It is fitted on the base's answers about the photographs that the adapter was trained on, so that
both learn from the same critiques. Where these answers are missing it is cross-fitted on the judged photographs.

Legend: `N` photographs, `D` dimensions. Scores are 0-10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.metrics import (
    ArmComparison,
    ScoreArray,
    ScoreTable,
    compare_paired_errors,
    score_table,
)
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.rubric import MAX_SCORE
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics import bootstrap

FitCalibration = Callable[[ScoreArray, ScoreArray], "FittedCalibration"]  # (N, D) the base's and the advisor's scores
FittedOn = Literal["training", "folds", "judged"]

FITTED_ON_TEXTS: Mapping[FittedOn, str] = {
    "training": "training photographs",
    "folds": "photographs of the other folds",
    "judged": "of the other tested photographs",
}
UNCALIBRATED, SHIFTED, SLOPE, ISOTONIC, MEAN = "base", "base_shifted", "base_calibrated", "base_isotonic", "fitted_mean"
SLOPE_PRIOR = 4.0  # weight of slope 1 in photographs: with ten photographs a free slope fits noise
FOLDS = 5
# The error that estimating k parameters from n photographs adds is k / n on average, a chi-square variable over 8
# dimensions: for a shift twice the average is about two standard deviations above it.
FIT_COST_FACTOR = 2.0
MINIMUM_FITTED = 8  # photographs; a calibration fitted on fewer isn't a fair rival


@dataclass(frozen=True)
class TrainingAnswer:
    """The base's answer about a photograph of training, with the advisor's scores (0-10) of it."""

    scores: Mapping[str, float]
    outcome: EvaluationOutcome


def training_score_table(answers: Sequence[TrainingAnswer]) -> ScoreTable | None:
    """The scores of advisor and base on the photographs of training; None without answers."""
    if not answers:
        return None
    labels = {answer.outcome.photograph: answer.scores for answer in answers}
    return score_table(labels, [answer.outcome for answer in answers])


@dataclass(frozen=True)
class FittedCalibration:
    """A fitted calibration.

    Attributes:
        apply: (N, D) the base's scores -> (N, D) calibrated ones.
        parameters: fitted numbers per dimension. Estimating them from n photographs raises the expected squared error
            by about the factor 1 + parameters / n, as in any linear regression.
    """

    apply: Callable[[ScoreArray], ScoreArray]
    parameters: float


def fit_shift(base: ScoreArray, advisor: ScoreArray) -> FittedCalibration:
    """Add the mean difference of each dimension: an offset of `D` numbers."""
    offset = advisor.mean(axis=0) - base.mean(axis=0)
    return FittedCalibration(lambda scores: scores + offset, 1)


def fit_slope(base: ScoreArray, advisor: ScoreArray) -> FittedCalibration:
    """The least-squares line of each dimension, its slope shrunk towards 1 with the weight of `SLOPE_PRIOR`."""
    middle, level = base.mean(axis=0), advisor.mean(axis=0)
    centred = base - middle
    spread = (centred**2).sum(axis=0)
    weight = spread * (SLOPE_PRIOR / len(base))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = ((centred * (advisor - level)).sum(axis=0) + weight) / (spread + weight)
    slope = np.where(np.isfinite(slope), slope, 1.0)
    return FittedCalibration(lambda scores: level + slope * (scores - middle), 2)


def fit_isotonic(base: ScoreArray, advisor: ScoreArray) -> FittedCalibration:
    """The least-squares monotonic map of each dimension, interpolated between the fitted scores.

    Its parameters are its levels, the degrees of freedom of isotonic regression (Meyer and Woodroofe, Annals of
    Statistics 28, 2000).
    """
    from scipy.optimize import isotonic_regression

    curves = []
    for x, y in zip(base.T, advisor.T, strict=True):
        places, index, counts = np.unique(x, return_inverse=True, return_counts=True)
        means = np.bincount(index, weights=y) / counts
        curves.append((places, isotonic_regression(means, weights=counts).x))

    def interpolate(scores: ScoreArray) -> ScoreArray:
        return np.column_stack([np.interp(scores[:, k], *curve) for k, curve in enumerate(curves)])

    levels = [len(np.unique(fitted)) for _, fitted in curves]
    return FittedCalibration(interpolate, float(np.mean(levels)))


def fit_mean(base: ScoreArray, advisor: ScoreArray) -> FittedCalibration:
    """The advisor's mean of each dimension, whatever the photograph."""
    level = advisor.mean(axis=0)
    return FittedCalibration(lambda scores: np.broadcast_to(level, scores.shape).copy(), 1)


def keep_base_scores(base: ScoreArray, advisor: ScoreArray) -> FittedCalibration:
    """No calibration, so that the best rival is never worse than the base because its fit was noisy."""
    return FittedCalibration(lambda scores: scores, 0)


CALIBRATIONS: Mapping[str, FitCalibration] = {
    UNCALIBRATED: keep_base_scores,
    SHIFTED: fit_shift,
    SLOPE: fit_slope,
    ISOTONIC: fit_isotonic,
    MEAN: fit_mean,
}


@dataclass(frozen=True, kw_only=True)
class CalibratedBase:
    """The base's scores of the judged photographs under every calibration.

    Attributes:
        predictions: by key of `CALIBRATIONS` (N, D), limited to 0-10; NaN where the base gave no score.
        best: (N, D) those of the calibration that is best on the photographs it was fitted on.
        chosen: its key; the most frequent one where every fold has its own.
        fitted_on: the base's answers about the photographs of training, about the other folds, or about the other
            judged photographs.
        photographs: number of photographs that a calibration is fitted on (the smallest number over the folds).
        fit_cost: by how much fitting on so few photographs may have raised the best calibration's error, as a share:
            `FIT_COST_FACTOR` * parameters / photographs, the mean over the folds.
    """

    predictions: Mapping[str, ScoreArray]
    best: ScoreArray
    chosen: str
    fitted_on: FittedOn
    photographs: int
    fit_cost: float


def calibrate_base(
    judged: ScoreTable,
    training: ScoreTable | None = None,
    folds: NDArray[np.int_] | None = None,
    *,
    seed: int = 0,
) -> CalibratedBase | None:
    """Every calibration of the base, and the best one, which is chosen without the photographs that it is judged on.

    Args:
        judged: scores of the advisor and the base on the photographs to judge.
        training: the same on photographs that the adapter was trained on; None, or too few: calibrations are
            cross-fitted on the judged ones.
        folds: (N,) fold of each judged photograph, where cross-validation trained an adapter per fold; a calibration
            then learns from the folds that this adapter learned from.
        seed: of random folds.

    Returns:
        None when there are too few answers to fit on.
    """
    if BASE not in judged.predictions:
        return None
    guess, readable = judged.predictions[BASE], judged.readable(BASE)
    parts: list[tuple[ScoreArray, ScoreArray, NDArray[np.bool_]]] = []
    fitted_on: FittedOn = "folds" if folds is not None else "judged"
    known = training.readable(BASE) if training is not None and BASE in training.predictions else np.zeros(0, np.bool_)
    if folds is None and training is not None and known.sum() >= MINIMUM_FITTED:
        fitted_on = "training"
        parts.append((training.predictions[BASE][known], training.labels[known], np.ones(len(guess), np.bool_)))
    else:
        groups = random_folds(len(guess), seed) if folds is None else folds
        for group in np.unique(groups):
            rest = readable & (groups != group)
            if rest.sum() < MINIMUM_FITTED:
                return None
            parts.append((guess[rest], judged.labels[rest], groups == group))
    if not parts or not readable.any():
        return None
    predictions = {name: np.full(guess.shape, np.nan) for name in CALIBRATIONS}
    best, choices, costs = np.full(guess.shape, np.nan), [], []
    for base, advisor, inside in parts:
        fitted = {name: fit(base, advisor) for name, fit in CALIBRATIONS.items()}
        for name, calibration in fitted.items():
            predictions[name][inside] = _applied(calibration, guess[inside])
        choices.append(best_calibration(base, advisor, seed=seed))
        costs.append(FIT_COST_FACTOR * fitted[choices[-1]].parameters / len(base))
        best[inside] = predictions[choices[-1]][inside]
    return CalibratedBase(
        predictions=predictions,
        best=best,
        chosen=Counter(choices).most_common(1)[0][0],
        fitted_on=fitted_on,
        photographs=min(len(base) for base, _, _ in parts),
        fit_cost=float(np.mean(costs)),
    )


def best_calibration(base: ScoreArray, advisor: ScoreArray, *, seed: int = 0) -> str:
    """Key of the calibration with the smallest error, itself cross-fitted, on these (N, D) scores; ties: the simpler.

    The photographs that a rival is judged on play no part in this choice, so the p value of the comparison needs no
    correction for it.
    """
    folds = random_folds(len(base), seed)
    errors = {
        name: float(np.mean((cross_fitted_scores(fit, base, advisor, folds) - advisor) ** 2))
        for name, fit in CALIBRATIONS.items()
    }
    return min(errors, key=lambda name: errors[name])


def cross_fitted_scores(
    fit: FitCalibration, scores: ScoreArray, advisor: ScoreArray, folds: NDArray[np.int_]
) -> ScoreArray:
    """(N, D) calibrated scores, those of each fold fitted on the other folds; rows with NaN stay NaN.

    Args:
        fit: the calibration.
        scores: (N, D) of the model; NaN where it gave none.
        advisor: (N, D) the advisor's scores.
        folds: (N,) fold of each photograph.
    """
    readable = ~np.isnan(scores).any(axis=1)
    calibrated = np.full(scores.shape, np.nan)
    for fold in np.unique(folds):
        rest, inside = readable & (folds != fold), folds == fold
        if rest.any():
            calibrated[inside] = _applied(fit(scores[rest], advisor[rest]), scores[inside])
    return calibrated


def _applied(calibration: FittedCalibration, scores: ScoreArray) -> ScoreArray:
    """Calibrated scores within 0-10; a photograph without scores stays without."""
    found = np.clip(calibration.apply(scores), 0, MAX_SCORE)
    return np.asarray(np.where(np.isnan(scores).any(axis=1, keepdims=True), np.nan, found))


def random_folds(n: int, seed: int) -> NDArray[np.int_]:
    """(N,) fold of each photograph: `FOLDS` folds of equal size within one, drawn with the seed."""
    return np.asarray(np.random.default_rng(seed).permutation(np.arange(n) % FOLDS))


@dataclass(frozen=True, kw_only=True)
class CalibrationComparison:
    """The candidate against the best calibration of the base, and how much of its gain calibrations bring.

    Attributes:
        chosen, fitted_on, photographs: of the calibration; see `CalibratedBase`.
        against: the paired comparison with it.
        fit_cost: of the calibration. In `against` the candidate is not inferior (`p_not_inferior`) when its error is
            below the calibration's by more than this share, so below that of a calibration without estimation error.
        offset_share: what a shift gains over the base, as a share of the candidate's gain; None without a gain.
        offset_interval: two-sided 95 % interval of it; None where the gain itself may be zero.
        best_share: the same of the best calibration.
        errors: by key of `CALIBRATIONS`, and of the candidate: mean squared error (points squared) and its two-sided
            95 % interval, over the same photographs.
    """

    chosen: str
    fitted_on: FittedOn
    photographs: int
    fit_cost: float
    against: ArmComparison
    offset_share: float | None
    offset_interval: tuple[float, float] | None
    best_share: float | None
    errors: Mapping[str, tuple[float, tuple[float, float] | None]]

    @property
    def n(self) -> int:
        """Photographs compared."""
        return self.against.n


BEST = "best_calibration"


def compare_with_calibrations(
    judged: ScoreTable, calibrated: CalibratedBase | None, *, wanted: float, seed: int
) -> CalibrationComparison | None:
    """Compare the candidate with the best calibration of the base; None where either is missing.

    Args:
        judged: scores of the advisor, the base and the candidate.
        calibrated: `calibrate_base` of the same photographs.
        wanted: smallest reduction of interest (0-1), for the number of photographs that would show it.
        seed: of the random draws.
    """
    if calibrated is None or CANDIDATE not in judged.predictions:
        return None
    failed = judged.failed[BASE]
    rivals = {BEST: calibrated.best, **calibrated.predictions}
    table = ScoreTable(
        judged.photographs,
        judged.labels,
        {CANDIDATE: judged.predictions[CANDIDATE], **rivals},
        {CANDIDATE: judged.failed[CANDIDATE], **dict.fromkeys(rivals, failed)},
    )
    against = compare_paired_errors(table, BEST, margin=-calibrated.fit_cost, wanted=wanted, seed=seed)
    errors = errors_on_shared_photographs(table)
    offset, interval = _share_of_gain(errors[UNCALIBRATED], errors[SHIFTED], errors[CANDIDATE], seed)
    best, _ = _share_of_gain(errors[UNCALIBRATED], errors[BEST], errors[CANDIDATE], seed)
    return CalibrationComparison(
        chosen=calibrated.chosen,
        fitted_on=calibrated.fitted_on,
        photographs=calibrated.photographs,
        fit_cost=calibrated.fit_cost,
        against=against,
        offset_share=offset,
        offset_interval=interval,
        best_share=best,
        errors={
            name: (float(values.mean()), bootstrap.bca_mean_interval(values, seed=seed))
            for name, values in errors.items()
            if name != BEST and len(values)
        },
    )


def errors_on_shared_photographs(table: ScoreTable) -> dict[str, NDArray[np.float64]]:
    """By arm (n,) squared errors, mean over the dimensions, on the photographs where all rivals have scores.

    A score that the candidate lacks counts with the worst legal error, as in `compare_paired_errors`.
    """
    answered = [~table.failed[arm] for arm in table.predictions]
    readable = [table.readable(arm) for arm in table.predictions if arm != CANDIDATE]
    kept = np.asarray(np.stack([*answered, *readable]).all(axis=0), dtype=np.bool_)
    worst = table.worst_case_errors()
    return {
        arm: np.where(np.isnan(rows), worst, table.squared_errors(arm))[kept].mean(axis=1)
        for arm, rows in table.predictions.items()
    }


def _share_of_gain(
    base: NDArray[np.float64], rival: NDArray[np.float64], ours: NDArray[np.float64], seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    """(base - rival) / (base - ours) of the mean errors, and its BCa interval; None where the gain may be zero."""
    gain = float((base - ours).sum())
    if not len(base) or gain <= 0:
        return None, None
    share = float((base - rival).sum()) / gain
    shown = bootstrap.bca_reduction_interval(ours, base, seed=seed)
    if shown is None or shown[0] <= 0:
        return share, None
    return share, bootstrap.bca_reduction_interval(rival - ours, base - ours, seed=seed)
