"""The tail: answers of the candidate that are far from the base's, and what they could cost.

A paired test of few labelled photographs can't see a rare catastrophe: of 8 photographs none shows a fault that strikes
one photograph in twenty in two evaluations of three. The candidate and the base also answer many photographs without
labels, and an answer that is much worse than the base's is far from it. So the deviation is measured on all of them,
after the usual shift between the two is removed: an adapter that corrects a base that is too strict isn't an outlier.

Legend: `N` photographs that both answered in all `D` dimensions. The deviation of a photograph is the root mean square
over the dimensions of candidate - base - median(candidate - base), in points. An answer is deviant when its deviation
exceeds the median by `robust_deviations` standard deviations, estimated as 1.4826 MAD (median absolute deviation;
Rousseeuw and Croux, JASA 88, 1993), and is at least `LEAST_DEVIATION`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.evaluation.measure.metrics import ArmComparison, ScoreArray
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.retrieval.nearest_neighbors import MIN_DEVIATION, NEIGHBORS
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics.intervals import Interval, student_mean_interval

LEAST_DEVIATION = 1.0  # points: an adapter that hardly changes the base has no tail
CLEARLY = 1.5  # ratio of isolations above which one answer is clearly less like the advisor than the other
GAIN_CONFIDENCE = 0.8  # two-sided, so each bound of the mean gain holds at 90 %


@dataclass(frozen=True, kw_only=True)
class DeviantAnswer:
    """An answer of the candidate that is far from the base's.

    Attributes:
        photograph: its name.
        deviation: from the shifted base, points (root mean square over the dimensions).
        cost: how much it raises the squared error. Known for a labelled photograph, and negative where the candidate is
            closer; otherwise the squared deviation, as if the base were right.
        labelled: the cost is known.
        unlike_advisor: the arm whose scores are unlike those of the training critiques, and clearly more so than the
            other arm's; None where neither is, or these critiques aren't known.
    """

    photograph: str
    deviation: float
    cost: float
    labelled: bool
    unlike_advisor: str | None = None

    @property
    def harmful(self) -> bool:
        """True unless the labels, or the advisor's other critiques, show that the base is the one that is wrong."""
        return self.cost > 0 if self.labelled else self.unlike_advisor != BASE

    @property
    def certain(self) -> bool:
        """True when labels show the harm, or the candidate's scores are the ones that are unlike the advisor's."""
        return self.cost > 0 if self.labelled else self.unlike_advisor == CANDIDATE


@dataclass(frozen=True, kw_only=True)
class TailMeasurement:
    """The deviant answers of an evaluation.

    Attributes:
        n: photographs that both arms answered in all dimensions.
        limit: deviation above which an answer is deviant, points.
        deviant: the answers above it, largest deviation first.
    """

    n: int
    limit: float
    deviant: tuple[DeviantAnswer, ...]

    @property
    def harmful(self) -> tuple[DeviantAnswer, ...]:
        """The deviant answers that may be, or are known to be, worse than the base's."""
        return tuple(answer for answer in self.deviant if answer.harmful)


def tail_measurement(samples: EvaluationSamples, robust_deviations: float) -> TailMeasurement | None:
    """The deviant answers among all photographs, labelled or not; None when no photograph was answered by both arms."""
    from scipy.stats import median_abs_deviation

    names, base, candidate = _answered_by_both(samples.outcomes)
    if not names:
        return None
    deviations, shift = answer_deviations(base, candidate)
    limit = max(
        LEAST_DEVIATION,
        float(np.median(deviations)) + robust_deviations * float(median_abs_deviation(deviations, scale="normal")),
    )
    places = np.flatnonzero(deviations > limit)
    places = places[np.argsort(-deviations[places], kind="stable")]
    profiles = _advisor_profiles(samples.training) if len(places) else None
    deviant = []
    for k in places:
        record = samples.labels.get(names[k])
        cost = float(deviations[k] ** 2)
        if record is not None:
            truth = np.array([record["scores"][name] for name in DIMENSIONS], dtype=np.float64)
            cost = float(((candidate[k] - truth) ** 2 - (base[k] - truth) ** 2).mean())
        deviant.append(
            DeviantAnswer(
                photograph=names[k],
                deviation=float(deviations[k]),
                cost=cost,
                labelled=record is not None,
                unlike_advisor=profiles.less_like(candidate[k], base[k] + shift) if profiles else None,
            )
        )
    return TailMeasurement(n=len(names), limit=limit, deviant=tuple(deviant))


def answer_deviations(base: ScoreArray, candidate: ScoreArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) deviations of the candidate from the shifted base, and the (D,) shift; both arms (N, D) without NaN."""
    difference = candidate - base
    shift = np.median(difference, axis=0)
    return np.asarray(np.sqrt(((difference - shift) ** 2).mean(axis=1))), np.asarray(shift)


def largest_deviations(outcomes: Sequence[EvaluationOutcome], count: int) -> list[str]:
    """Names of the `count` photographs with the largest deviations, largest first."""
    names, base, candidate = _answered_by_both(outcomes)
    if not names:
        return []
    return [names[k] for k in np.argsort(-answer_deviations(base, candidate)[0], kind="stable")[:count]]


def mean_gain_bounds(compared: ArmComparison | None) -> Interval | None:
    """One-sided 90 % bounds (Student) of a photograph's mean reduction of squared error; None below 2 photographs."""
    return student_mean_interval(list(compared.differences.values()), GAIN_CONFIDENCE) if compared else None


def _answered_by_both(outcomes: Sequence[EvaluationOutcome]) -> tuple[list[str], ScoreArray, ScoreArray]:
    """The names, and the (N, D) scores of base and candidate, of photographs for which both gave all scores."""
    rows: dict[str, dict[str, Mapping[str, float]]] = {BASE: {}, CANDIDATE: {}}
    for outcome in outcomes:
        if outcome.arm in rows and len(scores := outcome.best_scores) == len(DIMENSIONS):
            rows[outcome.arm][outcome.photograph] = scores
    names = [name for name in rows[BASE] if name in rows[CANDIDATE]]
    base, candidate = (
        np.array([[rows[arm][name][k] for k in DIMENSIONS] for name in names], dtype=np.float64)
        for arm in (BASE, CANDIDATE)
    )
    return names, base, candidate


@dataclass(frozen=True)
class AdvisorProfiles:
    """The score profiles of the critiques that the candidate was trained on.

    The isolation of scores is their distance to the nearest `NEIGHBORS` profiles, with the distance of retrieval: root
    mean square over the dimensions, in the advisor's standard deviations.

    Attributes:
        profiles: (M, D) different ones.
        unit: (D,) the advisor's standard deviations, points.
        limit: isolation of the most isolated profile.
    """

    profiles: ScoreArray
    unit: ScoreArray
    limit: float

    def less_like(self, candidate: ScoreArray, base: ScoreArray) -> str | None:
        """The arm whose (D,) scores are beyond the limit, and clearly more isolated than the other's."""
        isolation = {CANDIDATE: self._isolation(candidate), BASE: self._isolation(base)}
        for arm, other in ((CANDIDATE, BASE), (BASE, CANDIDATE)):
            if isolation[arm] > max(self.limit, CLEARLY * isolation[other]):
                return arm
        return None

    def _isolation(self, scores: ScoreArray) -> float:
        return _isolation(scores, self.profiles, self.unit)


def _isolation(scores: ScoreArray, profiles: ScoreArray, unit: ScoreArray) -> float:
    distances = np.sqrt((((profiles - scores) / unit) ** 2).mean(axis=1))
    return float(np.sort(distances)[:NEIGHBORS].mean())


@lru_cache(maxsize=4)
def _advisor_profiles(critiques: tuple[str, ...]) -> AdvisorProfiles | None:
    """The profiles of these critiques; None with too few that can be read."""
    rows = []
    for text in critiques:
        try:
            scores = parse_critique_lenient(text).critique.scores
        except CritiqueParseError:
            continue
        if len(scores) == len(DIMENSIONS):
            rows.append([float(scores[name]) for name in DIMENSIONS])
    profiles = np.unique(np.array(rows, dtype=np.float64).reshape(-1, len(DIMENSIONS)), axis=0)
    if len(profiles) <= NEIGHBORS:
        return None
    unit = np.maximum(MIN_DEVIATION, profiles.std(axis=0))
    limit = max(_isolation(row, np.delete(profiles, k, axis=0), unit) for k, row in enumerate(profiles))
    return AdvisorProfiles(profiles, unit, limit)
