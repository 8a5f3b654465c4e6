"""Is it a critic at all? Collapse onto one score, independence of the photograph, halo, calibration, repetition."""

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
from mondrian_core.evaluation.measure.outcomes import BASE, CANDIDATE, EvaluationOutcome
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics import significance
from mondrian_core.text_quality import critique_text_problem, has_repeated_phrase, repeated_ngram_fraction

_MINIMUM_BASE_SHARE = (
    0.1  # a base that takes less of the exchanged error away hardly looks, and there is nothing to lose
)
_UNBOUNDED_RATIO = 1e6  # ratio in a bootstrap sample in which the base doesn't look: no evidence against the adapter


@dataclass(frozen=True, kw_only=True)
class ModeCollapse:
    """How often the candidate writes its favourite score.

    Attributes:
        n: answers that could be read.
        modal_share, advisor_share: by dimension, share of the most frequent score (0-1), candidate's and advisor's.
        same_answer_share: share of answers with the most frequent row of eight scores.
        advisor_same_share: the same of the advisor.
        advisor_n: photographs that the advisor's figures come from.
    """

    n: int
    modal_share: dict[str, float]
    advisor_share: dict[str, float]
    same_answer_share: float
    advisor_same_share: float
    advisor_n: int = 1


def mode_collapse(outcomes: Sequence[EvaluationOutcome], labels: ScoreArray) -> ModeCollapse:
    """Collapse of the candidate over all photographs, labelled or not; `labels` (N, 8)."""
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
    return Counter(values).most_common(1)[0][1] / len(values) if values else 0.0


@dataclass(frozen=True, kw_only=True)
class ImageDependence:
    """The candidate with its own photographs and with others'.

    Attributes:
        n: photographs that could be exchanged; own: mean squared error with the right photograph.
        shuffled: mean squared error when each answer is held against all the other photographs' labels.
        p: one-sided, "the pairing of answer and photograph doesn't matter".
        share: of the exchanged error that the right photographs take away (0-1); base_share: the same of the base.
        ratio_upper: one-sided 95 % bound of share / base_share, bootstrapped over photographs; None without a base that
            looks at its photographs.
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
        """How much of the base's dependence is left; None without a base that looks."""
        if self.share is None or self.base_share is None or self.ratio_upper is None:
            return None
        return self.share / self.base_share


def image_dependence(
    table: ScoreTable, arm: str = CANDIDATE, *, seed: int = 0, folds: NDArray[np.int_] | None = None
) -> ImageDependence:
    """Compare own and exchanged photographs; nothing is asked again, since the answer to j is known already.

    With `folds` (N,) photographs are exchanged inside a fold only, where one adapter gave all the answers: another fold
    has another adapter, whose level goes against that fold's scores because it was trained on all the others.
    """
    if arm not in table.predictions:
        return ImageDependence(n=0, own=None, shuffled=None, p=1.0)
    inside = np.zeros(len(table.photographs), dtype=np.int_) if folds is None else folds
    kept = _with_others(table.readable(arm), inside)
    n = int(kept.sum())
    if n < 2:
        return ImageDependence(n=n, own=None, shuffled=None, p=1.0)
    errors, pairs = _exchanged(table, arm, kept), significance.exchangeable_mask(n, inside[kept])
    found = ImageDependence(
        n=n,
        own=float(np.trace(errors)) / n,
        shuffled=float(errors[pairs].mean()),
        p=significance.pairing_permutation_p_value(errors, inside[kept], seed=seed),
    )
    both = kept & table.readable(BASE) if BASE in table.predictions else np.zeros_like(kept)
    both = _with_others(both, inside)
    if both.sum() < 2:
        return found
    share, drawn = significance.pairing_error_reduction(_exchanged(table, arm, both), seed, groups=inside[both])
    base_share, base_drawn = significance.pairing_error_reduction(
        _exchanged(table, BASE, both), seed, groups=inside[both]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(base_drawn > 0, drawn / base_drawn, _UNBOUNDED_RATIO)
    known = ratios[~np.isnan(ratios)]
    upper = float(np.quantile(known, 0.95)) if base_share >= _MINIMUM_BASE_SHARE and len(known) else None
    return replace(found, share=share, base_share=base_share, ratio_upper=upper)


def _with_others(kept: NDArray[np.bool_], inside: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Those of `kept` that have another one in their group to be exchanged with."""
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
    """Numbers that decide nothing and tell a lot: halo, spread, calibration, positivity, length, repetition.

    `trained_on` are critiques, to find sentences that were learned by heart. With `folds` (N,) halo, spread and slope
    are within folds: another fold has another adapter, with a level of its own.
    """
    kept = table.readable(arm) if arm in table.predictions else np.zeros(0, dtype=np.bool_)
    guess = table.predictions[arm][kept] if kept.any() else np.empty((0, len(DIMENSIONS)))
    truth = table.labels[kept] if kept.any() else guess
    inside = np.zeros(len(guess), dtype=np.int_) if folds is None or not kept.any() else folds[kept]
    moves, wanted = _within(guess, inside), _within(truth, inside)
    ran = [outcome for outcome in outcomes if outcome.arm == arm and outcome.ran]
    texts = [outcome.text for outcome in ran if outcome.text]
    return {
        "halo": _halo(moves),
        "advisor_halo": _halo(wanted),
        "spread_ratio": float(moves.std() / wanted.std()) if len(guess) > 1 and wanted.std() > 0 else None,
        "calibration_slope": _slope(moves, wanted),
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
    """(N, 8) the scores with the means of each group moved to those of all; unchanged where there is one group."""
    found = scores.copy()
    groups = np.unique(inside)
    for group in groups if len(groups) > 1 else ():
        rows = inside == group
        found[rows] += scores.mean(axis=0) - scores[rows].mean(axis=0)
    return found


def score_certainty(outcomes: Sequence[EvaluationOutcome], table: ScoreTable) -> dict[str, float | None]:
    """What the chances of the scores say: do they go to scores at all, and is the model as sure as it may be?

    "legal_mass" is the mean chance (0-1) that a score's position gives to 0..10; "coverage_80" the share of the
    advisor's scores inside the model's central 80 %: below 0.8 it is too sure of itself. None without chances.
    """
    rows = {name: table.labels[k] for k, name in enumerate(table.photographs)}
    masses, hits = [], []
    for outcome in outcomes:
        for name, logs in outcome.score_log_probabilities.items():
            chances = np.exp(np.array(logs))
            masses.append(float(chances.sum()))
            reached = np.cumsum(chances) / chances.sum()
            low, high = int(np.searchsorted(reached, 0.1)), int(np.searchsorted(reached, 0.9))
            hits.append(low - 0.5 <= rows[outcome.photograph][DIMENSIONS.index(name)] <= high + 0.5)
    return {
        "legal_mass": float(np.mean(masses)) if masses else None,
        "coverage_80": float(np.mean(hits)) if hits else None,
    }


def _halo(scores: ScoreArray) -> float | None:
    """Mean correlation between dimensions; None below 4 rows or when fewer than two dimensions vary."""
    if len(scores) < 4:
        return None
    varied = scores[:, scores.std(axis=0) > 1e-9]
    if varied.shape[1] < 2:
        return None
    matrix = np.atleast_2d(np.corrcoef(varied, rowvar=False))
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def _slope(guess: ScoreArray, truth: ScoreArray) -> float | None:
    """Slope of advisor on candidate over all cells, within dimensions; 1 is calibrated, below 1 exaggerates."""
    if len(guess) < 4:
        return None
    x, y = guess - guess.mean(axis=0), truth - truth.mean(axis=0)
    spread = float((x**2).sum())
    return float((x * y).sum() / spread) if spread > 1e-9 else None


def is_degenerate_answer(answer: str) -> bool:
    """True for an answer that serving would not show; of one that can't be read, when its text loops."""
    try:
        critique = parse_critique_lenient(answer).critique
    except CritiqueParseError:
        return has_repeated_phrase(answer)
    return critique_text_problem(critique) is not None
