"""Metrics of the answers: format compliance, score errors against the advisor, and paired comparisons of two arms.

Legend: `N` photographs with labels, `D` dimensions in the order of `rubric.DIMENSIONS`, NaN where a score is missing.
An error is a squared difference of scores (points squared, 0-100) unless stated otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE
from mondrian_core.samples_file import CANDIDATE
from mondrian_core.statistics import bootstrap, correlation, intervals, multiple_testing, permutation_tests, sample_size

ScoreArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FormatStatistics:
    """Format compliance of an arm's answers.

    Attributes:
        asked: photographs the arm was asked about.
        ran: photographs with an answer of any kind.
        valid: answers that the strict reader accepts.
        mended: answers that only the lenient reader accepts.
        cut: answers that reached the token limit.
        reasons: why the other answers aren't valid, with counts.
        tokens: median length of an answer; None without answers.
        seconds: median time of an answer that wasn't cached; None without one.
    """

    asked: int
    ran: int
    valid: int
    mended: int
    cut: int
    reasons: Mapping[str, int]
    tokens: float | None
    seconds: float | None

    @property
    def rate(self) -> float | None:
        """Share of strictly valid answers among those that ran; None when none ran (no data is not zero)."""
        return self.valid / self.ran if self.ran else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Exact one-sided 95 % bounds of the rate; None when none ran."""
        if not self.ran:
            return None
        return intervals.clopper_pearson_lower(self.valid, self.ran), intervals.clopper_pearson_upper(
            self.valid, self.ran
        )

    @property
    def repair_rate(self) -> float | None:
        """Share of answers that only the lenient reader accepts; None when none ran."""
        return self.mended / self.ran if self.ran else None

    @property
    def failed(self) -> int:
        """Photographs without any answer."""
        return self.asked - self.ran


def format_statistics(outcomes: Sequence[EvaluationOutcome]) -> FormatStatistics:
    """Counts over one arm's outcomes, one per photograph."""
    ran = [outcome for outcome in outcomes if outcome.ran]
    reasons = Counter(outcome.reason or "" for outcome in outcomes if outcome.status != "valid")
    uncached = [outcome.prefill_seconds + outcome.decode_seconds for outcome in ran if not outcome.kept]
    return FormatStatistics(
        asked=len(outcomes),
        ran=len(ran),
        valid=sum(outcome.status == "valid" for outcome in ran),
        mended=sum(outcome.status != "valid" and outcome.readable and not outcome.truncated for outcome in ran),
        cut=sum(outcome.truncated for outcome in ran),
        reasons=dict(reasons.most_common()),
        tokens=float(np.median([len(outcome.tokens) for outcome in ran])) if ran else None,
        seconds=float(np.median(uncached)) if uncached else None,
    )


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the advisor and of every arm, by photograph.

    Attributes:
        photographs: N names.
        labels: (N, D), the advisor's scores (0-10).
        predictions: by arm (N, D); NaN where the arm gave no score.
        failed: by arm (N,), True where there is no answer at all.
    """

    photographs: tuple[str, ...]
    labels: ScoreArray
    predictions: Mapping[str, ScoreArray]
    failed: Mapping[str, NDArray[np.bool_]]

    def readable(self, arm: str) -> NDArray[np.bool_]:
        """(N,) True where the arm gave the scores of all dimensions."""
        return np.asarray(~np.isnan(self.predictions[arm]).any(axis=1))

    def without(self, names: Collection[str]) -> ScoreTable:
        """The table without these photographs."""
        kept = np.array([name not in names for name in self.photographs], dtype=np.bool_)
        return ScoreTable(
            tuple(name for name in self.photographs if name not in names),
            self.labels[kept],
            {arm: rows[kept] for arm, rows in self.predictions.items()},
            {arm: rows[kept] for arm, rows in self.failed.items()},
        )

    def squared_errors(self, arm: str) -> ScoreArray:
        """(N, D) squared errors; NaN where the arm gave no score."""
        return np.asarray((self.predictions[arm] - self.labels) ** 2)

    def worst_case_errors(self) -> ScoreArray:
        """(N, D) error of the legal score that is furthest from the advisor's."""
        return np.asarray(np.maximum(self.labels, MAX_SCORE - self.labels) ** 2)


def score_table(
    labels: Mapping[str, Mapping[str, float]], outcomes: Sequence[EvaluationOutcome], *, written: bool = False
) -> ScoreTable:
    """Table of labels and outcomes: expected scores where there are any, with `written` the written ones."""
    names = tuple(labels)
    truth = np.array([[labels[name][dimension] for dimension in DIMENSIONS] for name in names], dtype=np.float64)
    by_arm_and_photograph = {
        (outcome.arm, outcome.photograph): outcome for outcome in outcomes if outcome.photograph in labels
    }
    arms = dict.fromkeys(outcome.arm for outcome in outcomes)
    predictions, failed = {}, {}
    for arm in arms:
        rows = [by_arm_and_photograph.get((arm, name)) for name in names]
        predictions[arm] = np.array([_row(outcome, written) for outcome in rows]).reshape(-1, len(DIMENSIONS))
        failed[arm] = np.array([outcome is None or not outcome.ran for outcome in rows], dtype=np.bool_)
    return ScoreTable(names, truth.reshape(-1, len(DIMENSIONS)), predictions, failed)


def _row(outcome: EvaluationOutcome | None, written: bool) -> list[float]:
    scores = {} if outcome is None else outcome.scores if written else outcome.best_scores
    return [float(scores.get(name, np.nan)) for name in DIMENSIONS]


@dataclass(frozen=True, kw_only=True)
class DimensionComparison:
    """One dimension of a comparison; see `ArmComparison` for the fields.

    `p_worse` is one-sided for "worse by more than the margin", `p_worse_holm` the same adjusted for all dimensions.
    """

    name: str
    error_ours: float
    error_theirs: float
    reduction: float | None
    interval: tuple[float, float] | None
    p_better: float
    p_worse: float
    p_worse_holm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ArmComparison:
    """Two arms on the same photographs. The unit is the photograph; its error is the mean over the dimensions.

    Attributes:
        n: photographs compared.
        error_ours: our mean squared error over them.
        error_theirs: the other arm's.
        reduction: 1 - ours / theirs; None when theirs is 0 or n is 0.
        interval: two-sided 95 % interval of the reduction.
        p_better: one-sided p of "our error isn't smaller".
        p_worse: one-sided p of "our error isn't larger".
        p_not_inferior: one-sided p of "our error is larger by the margin or more".
        detectable: the smallest true reduction that 80 % of evaluations would detect.
        needed: photographs that would show the observed reduction, or the wanted one if that is larger.
        penalised: photographs on which ours lacks a score, which counts with the worst legal error.
        left_out: photographs excluded because theirs lacks a score.
        no_answer: photographs excluded because one of the arms failed to run.
        differences: their error minus ours by photograph.
    """

    n: int
    error_ours: float | None
    error_theirs: float | None
    reduction: float | None
    interval: tuple[float, float] | None
    p_better: float
    p_worse: float
    p_not_inferior: float
    detectable: float | None
    needed: int | None
    penalised: int
    left_out: int
    no_answer: int
    dimensions: tuple[DimensionComparison, ...] = ()
    differences: Mapping[str, float] = field(default_factory=dict)


def compare_paired_errors(
    table: ScoreTable, theirs: str, *, margin: float, wanted: float, seed: int, ours: str = CANDIDATE
) -> ArmComparison:
    """Compare the errors of two arms on the same photographs.

    A photograph counts when theirs has all scores and neither arm failed to run. A score missing from ours counts with
    the worst error that a legal score can have, so that skipping hard photographs doesn't help.

    Args:
        table: scores of the advisor and of both arms.
        theirs: the arm compared with.
        margin: of non-inferiority, as a share of their error.
        wanted: smallest reduction of interest (0-1), for `needed`.
        seed: of the random draws.
        ours: the arm under test.
    """
    no_answer = table.failed[ours] | table.failed[theirs]
    counts = ~no_answer & table.readable(theirs)
    unreadable = counts & ~table.readable(ours)
    a = np.where(np.isnan(table.predictions[ours]), table.worst_case_errors(), table.squared_errors(ours))[counts]
    b = table.squared_errors(theirs)[counts]
    mine, other = a.mean(axis=1), b.mean(axis=1)
    n, difference = int(counts.sum()), other - mine
    scale = float(other.mean()) if n else 0.0
    reduction = 1 - float(mine.mean()) / scale if scale > 0 else None
    return ArmComparison(
        n=n,
        error_ours=float(mine.mean()) if n else None,
        error_theirs=scale if n else None,
        reduction=reduction,
        interval=bootstrap.bca_reduction_interval(mine, other, seed=seed),
        p_better=permutation_tests.sign_flip_p_value(difference, seed=seed),
        p_worse=permutation_tests.sign_flip_p_value(-difference, seed=seed),
        p_not_inferior=permutation_tests.sign_flip_p_value((1 + margin) * other - mine, seed=seed),
        detectable=sample_size.minimum_detectable_reduction(difference, scale),
        needed=sample_size.sample_size_for_reduction(difference, scale, max(wanted, reduction or 0.0)),
        penalised=int(unreadable.sum()),
        left_out=int((~no_answer & ~table.readable(theirs)).sum()),
        no_answer=int(no_answer.sum()),
        dimensions=_by_dimension(a, b, margin, seed),
        differences=dict(zip(np.array(table.photographs)[counts].tolist(), difference.tolist(), strict=True)),
    )


def _by_dimension(a: ScoreArray, b: ScoreArray, margin: float, seed: int) -> tuple[DimensionComparison, ...]:
    """Comparisons of our errors `a` and their errors `b`, both (N, D)."""
    if not len(a):
        return ()
    p_worse = [
        permutation_tests.sign_flip_p_value(a[:, k] - (1 + margin) * b[:, k], seed=seed) for k in range(len(DIMENSIONS))
    ]
    adjusted = multiple_testing.holm_adjusted_p_values(p_worse)
    return tuple(
        DimensionComparison(
            name=name,
            error_ours=float(a[:, k].mean()),
            error_theirs=float(b[:, k].mean()),
            reduction=1 - float(a[:, k].mean() / b[:, k].mean()) if b[:, k].mean() > 0 else None,
            interval=bootstrap.bca_reduction_interval(a[:, k], b[:, k], seed=seed, draws=2000),
            p_better=permutation_tests.sign_flip_p_value(b[:, k] - a[:, k], seed=seed),
            p_worse=p_worse[k],
            p_worse_holm=adjusted[k],
        )
        for k, name in enumerate(DIMENSIONS)
    )


def score_error_metrics(
    predictions: ScoreArray, labels: ScoreArray, folds: NDArray[np.int_] | None = None
) -> dict[str, Any]:
    """MSE, MAE, bias (prediction - label) and rank correlation, overall and by dimension.

    `predictions` and `labels` are (N, D); rows with NaN are left out, and without rows every value is None. Rank
    correlations are within a dimension and, with `folds` (N,), within a fold: pooled over folds even a constant would
    correlate. The overall one is the mean over the dimensions.
    """
    kept = ~np.isnan(predictions).any(axis=1)
    error, truth, guess = (predictions - labels)[kept], labels[kept], predictions[kept]
    if not len(error):
        return {"n": 0, "mse": None, "mae": None, "bias": None, "rank_correlation": None, "dimensions": {}}
    inside = np.zeros(len(guess), dtype=np.int_) if folds is None else folds[kept]
    ranks = [_rank_within(guess[:, k], truth[:, k], inside) for k in range(len(DIMENSIONS))]
    known = [value for value in ranks if value is not None]
    return {
        "n": len(error),
        "mse": float((error**2).mean()),
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "rank_correlation": float(np.mean(known)) if known else None,
        "dimensions": {
            name: {
                "mse": float((error[:, k] ** 2).mean()),
                "mae": float(np.abs(error[:, k]).mean()),
                "bias": float(error[:, k].mean()),
                "rank_correlation": ranks[k],
                "mean": float(guess[:, k].mean()),
                "advisor_mean": float(truth[:, k].mean()),
            }
            for k, name in enumerate(DIMENSIONS)
        },
    }


def _rank_within(guess: ScoreArray, truth: ScoreArray, folds: NDArray[np.int_]) -> float | None:
    """Mean rank correlation over the folds, weighted by their photographs; None where no fold has one."""
    by_fold = [
        (correlation.spearman_correlation(guess[folds == fold], truth[folds == fold]), int((folds == fold).sum()))
        for fold in np.unique(folds)
    ]
    known = [(value, n) for value, n in by_fold if value is not None]
    return float(np.average([value for value, _ in known], weights=[n for _, n in known])) if known else None
