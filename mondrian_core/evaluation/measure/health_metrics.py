"""Health metrics of the answers: mode collapse, dependence on the photograph, halo, calibration, repetition.

Legend: `N` photographs, `D` dimensions in the order of `rubric.DIMENSIONS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.evaluation.measure.contamination import verbatim_overlap_share
from mondrian_core.evaluation.measure.metrics import ScoreArray, ScoreTable
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics import bootstrap, permutation_tests
from mondrian_core.text_quality import critique_text_problem, has_repeated_phrase, repeated_ngram_fraction

# A base whose error falls by less with the right photograph hardly depends on it: nothing can be lost then.
_MINIMUM_BASE_SHARE = 0.1
# Ratio in a bootstrap sample where the base doesn't depend on the photograph: no evidence against the adapter.
_UNBOUNDED_RATIO = 1e6


@dataclass(frozen=True, kw_only=True)
class ModeCollapse:
    """How often the candidate writes its most frequent score.

    Attributes:
        n: readable answers.
        modal_share: by dimension the share of the candidate's most frequent score (0-1).
        advisor_share: the same for the advisor.
        same_answer_share: share of answers with the most frequent row of scores (0-1).
        advisor_same_share: the same for the advisor.
        advisor_n: photographs that the advisor's shares come from.
    """

    n: int
    modal_share: dict[str, float]
    advisor_share: dict[str, float]
    same_answer_share: float
    advisor_same_share: float
    advisor_n: int = 1


def mode_collapse(outcomes: Sequence[EvaluationOutcome], labels: ScoreArray) -> ModeCollapse:
    """Mode collapse of the candidate over all photographs, labelled or not; `labels` (N, D) are the advisor's."""
    rows = [tuple(round(outcome.scores[name]) for name in DIMENSIONS) for outcome in outcomes if outcome.readable]
    truth = [tuple(int(np.floor(score + 0.5)) for score in row) for row in labels]
    return ModeCollapse(
        n=len(rows),
        modal_share={name: _modal([row[k] for row in rows]) for k, name in enumerate(DIMENSIONS)},
        advisor_share={name: _modal([row[k] for row in truth]) for k, name in enumerate(DIMENSIONS)},
        same_answer_share=_modal(rows),
        advisor_same_share=_modal(truth),
        advisor_n=len(truth),
    )


def _modal(values: Sequence[Any]) -> float:
    """Share of the most frequent value (0-1); 0 without values."""
    return Counter(values).most_common(1)[0][1] / len(values) if values else 0.0


@dataclass(frozen=True, kw_only=True)
class ImageDependence:
    """Errors of an arm with the right photographs and with exchanged ones.

    Attributes:
        n: photographs that could be exchanged.
        own: mean squared error with the right photograph.
        shuffled: mean squared error of each answer against the labels of all other photographs.
        p: one-sided p of "the pairing of answer and photograph doesn't matter".
        share: how much smaller the error is with the right photograph, as a share of the exchanged error (0-1).
        base_share: the same for the base.
        ratio_upper: one-sided 95 % upper bound of share / base_share, bootstrapped over photographs; None unless the
            base depends on its photographs.
    """

    n: int
    own: float | None
    shuffled: float | None
    p: float
    share: float | None = None
    base_share: float | None = None
    ratio_upper: float | None = None

    @property
    def ratio(self) -> float | None:
        """Dependence left, as a share of the base's; None unless the base depends on its photographs."""
        if self.share is None or self.base_share is None or self.ratio_upper is None:
            return None
        return self.share / self.base_share


def image_dependence(
    table: ScoreTable, arm: str = CANDIDATE, *, seed: int = 0, folds: NDArray[np.int_] | None = None
) -> ImageDependence:
    """Compare the errors with right and exchanged photographs, from the answers there are.

    Args:
        table: scores of the advisor and of the arms.
        arm: whose answers are compared.
        seed: of permutations and bootstrap samples.
        folds: (N,) fold of each photograph. Photographs are exchanged inside a fold only, where one adapter gave all
            answers: the adapter of another fold has another mean level, which correlates negatively with that fold's
            scores because it was trained on all the others.
    """
    if arm not in table.predictions:
        return ImageDependence(n=0, own=None, shuffled=None, p=1.0)
    inside = np.zeros(len(table.photographs), dtype=np.int_) if folds is None else folds
    kept = _with_others(table.readable(arm), inside)
    n = int(kept.sum())
    if n < 2:
        return ImageDependence(n=n, own=None, shuffled=None, p=1.0)
    errors, pairs = _exchanged(table, arm, kept), permutation_tests.exchangeable_mask(n, inside[kept])
    dependence = ImageDependence(
        n=n,
        own=float(np.trace(errors)) / n,
        shuffled=float(errors[pairs].mean()),
        p=permutation_tests.pairing_permutation_p_value(errors, inside[kept], seed=seed),
    )
    both = kept & table.readable(BASE) if BASE in table.predictions else np.zeros_like(kept)
    both = _with_others(both, inside)
    if both.sum() < 2:
        return dependence
    share, drawn = bootstrap.pairing_error_reduction(_exchanged(table, arm, both), seed, groups=inside[both])
    base_share, base_drawn = bootstrap.pairing_error_reduction(_exchanged(table, BASE, both), seed, groups=inside[both])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(base_drawn > 0, drawn / base_drawn, _UNBOUNDED_RATIO)
    known = ratios[~np.isnan(ratios)]
    upper = float(np.quantile(known, 0.95)) if base_share >= _MINIMUM_BASE_SHARE and len(known) else None
    return replace(dependence, share=share, base_share=base_share, ratio_upper=upper)


def _with_others(kept: NDArray[np.bool_], inside: NDArray[np.int_]) -> NDArray[np.bool_]:
    """(N,) the photographs of `kept` (N,) whose group has another one to exchange with."""
    return np.asarray(kept & np.array([np.count_nonzero(kept & (inside == group)) > 1 for group in inside], dtype=bool))


def _exchanged(table: ScoreTable, arm: str, kept: NDArray[np.bool_]) -> ScoreArray:
    """(N, N) error of the answer to photograph j against the labels of photograph i, mean over the dimensions."""
    guess, truth = table.predictions[arm][kept], table.labels[kept]
    return np.asarray(((guess[None, :, :] - truth[:, None, :]) ** 2).mean(axis=2))


def health_summary(
    table: ScoreTable,
    outcomes: Sequence[EvaluationOutcome],
    arm: str,
    trained_on: Sequence[str] = (),
    *,
    folds: NDArray[np.int_] | None = None,
) -> dict[str, Any]:
    """Metrics for the report that decide no gate: halo, spread, calibration, positivity, length, repetition.

    Args:
        table: scores of the advisor and of the arms.
        outcomes: answers of all arms.
        arm: whose answers are summarized.
        trained_on: training critiques, to find memorized sentences.
        folds: (N,) fold of each photograph; halo, spread and slope are then within folds, because each fold has its
            own adapter with its own mean level.
    """
    kept = table.readable(arm) if arm in table.predictions else np.zeros(0, dtype=np.bool_)
    guess = table.predictions[arm][kept] if kept.any() else np.empty((0, len(DIMENSIONS)))
    truth = table.labels[kept] if kept.any() else guess
    inside = np.zeros(len(guess), dtype=np.int_) if folds is None or not kept.any() else folds[kept]
    centred_guess, centred_truth = _within(guess, inside), _within(truth, inside)
    varies = len(guess) > 1 and centred_truth.std() > 0
    ran = [outcome for outcome in outcomes if outcome.arm == arm and outcome.ran]
    texts = [outcome.text for outcome in ran if outcome.text]
    return {
        "halo": _halo(centred_guess),
        "advisor_halo": _halo(centred_truth),
        "spread_ratio": float(centred_guess.std() / centred_truth.std()) if varies else None,
        "calibration_slope": _slope(centred_guess, centred_truth),
        "share_8_or_more": float((guess >= 7.5).mean()) if len(guess) else None,
        "advisor_share_8_or_more": float((truth >= 7.5).mean()) if len(truth) else None,
        "distinct_answers": len(set(texts)) / len(texts) if texts else None,
        "stutters": sum(is_degenerate_answer(text) for text in texts) / len(texts) if texts else None,
        "repetition": float(np.mean([repeated_ngram_fraction(text) for text in texts])) if texts else None,
        "by_heart": verbatim_overlap_share(texts, trained_on),
        **score_certainty([outcome for outcome in ran if outcome.photograph in table.photographs], table),
        "tokens": float(np.median([len(outcome.tokens) for outcome in ran])) if ran else None,
    }


def _within(scores: ScoreArray, inside: NDArray[np.int_]) -> ScoreArray:
    """(N, D) the scores with each group's means shifted to the overall means; unchanged with a single group."""
    shifted = scores.copy()
    groups = np.unique(inside)
    for group in groups if len(groups) > 1 else ():
        rows = inside == group
        shifted[rows] += scores.mean(axis=0) - scores[rows].mean(axis=0)
    return shifted


def score_certainty(outcomes: Sequence[EvaluationOutcome], table: ScoreTable) -> dict[str, float | None]:
    """Calibration of the score probabilities.

    "legal_mass" is the mean probability (0-1) that a score's position gives to 0..10; "coverage_80" the share of the
    advisor's scores inside the model's central 80 % interval: below 0.8 the model is overconfident. None without
    probabilities.
    """
    rows = {name: table.labels[k] for k, name in enumerate(table.photographs)}
    masses, hits = [], []
    for outcome in outcomes:
        for name, logs in outcome.score_log_probabilities.items():
            probabilities = np.exp(np.array(logs))
            masses.append(float(probabilities.sum()))
            cumulative = np.cumsum(probabilities) / probabilities.sum()
            low, high = int(np.searchsorted(cumulative, 0.1)), int(np.searchsorted(cumulative, 0.9))
            hits.append(low - 0.5 <= rows[outcome.photograph][DIMENSIONS.index(name)] <= high + 0.5)
    return {
        "legal_mass": float(np.mean(masses)) if masses else None,
        "coverage_80": float(np.mean(hits)) if hits else None,
    }


def _halo(scores: ScoreArray) -> float | None:
    """Mean correlation between the dimensions of (N, D) scores; None below 4 rows or two varying dimensions."""
    if len(scores) < 4:
        return None
    varied = scores[:, scores.std(axis=0) > 1e-9]
    if varied.shape[1] < 2:
        return None
    matrix = np.atleast_2d(np.corrcoef(varied, rowvar=False))
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def _slope(guess: ScoreArray, truth: ScoreArray) -> float | None:
    """Slope of the advisor's scores on the arm's, within dimensions; 1 is calibrated, below 1 exaggerates."""
    if len(guess) < 4:
        return None
    x, y = guess - guess.mean(axis=0), truth - truth.mean(axis=0)
    spread = float((x**2).sum())
    return float((x * y).sum() / spread) if spread > 1e-9 else None


def is_degenerate_answer(answer: str) -> bool:
    """True for an answer that the service would reject as text, or whose unreadable text repeats itself."""
    try:
        critique = parse_critique_lenient(answer).critique
    except CritiqueParseError:
        return has_repeated_phrase(answer)
    return critique_text_problem(critique) is not None
