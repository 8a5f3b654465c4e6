"""Simulated evaluations that the product's own gates judge: scores of an advisor and of two arms on n + m photographs.

The first n photographs have the advisor's scores, the others don't. `bench.tail_structures` and `bench.null_models`
say how the two arms err.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from mondrian_core.evaluation.gates.comparison_gates import SCORE_ERROR
from mondrian_core.evaluation.gates.results import PASS, GateMeasurements
from mondrian_core.evaluation.gates.tail_gate import TAIL
from mondrian_core.evaluation.measure.cross_validation import CrossValidationSamples
from mondrian_core.evaluation.measure.metrics import ArmComparison
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.recipes import EvaluateRecipe, GateRecipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics.permutation_tests import sign_flip_p_value

ScoreArray = NDArray[np.float64]
PHOTOGRAPHS = EvaluateRecipe().compliance_photographs  # with and without labels
# One look at the level of its test. Over a year of looks each has a smaller level (`bench.year_of_looks`).
ONE_LOOK = GateRecipe(first_look_level=GateRecipe().p_value)
SPREAD, SHARED, CORRELATION = 1.3, 0.7, 0.6  # of the errors, points; correlation of the arms
ADVISOR_MEAN, ADVISOR_SPREAD = 6.0, 1.2  # of the advisor's scores, points; the same spread within and between
_TRAINED = 48  # photographs that the candidate was trained on


@dataclass(frozen=True)
class SimulatedAnswers:
    """Scores of the advisor and of both arms on N photographs.

    Attributes:
        labels, base, candidate: (N, D) scores, points.
        folds: (N,) the fold whose adapter gave the candidate's answer; None: one adapter gave all of them.
        shipped: (N, D) scores of the adapter that would go live, where the folds have adapters of their own.
    """

    labels: ScoreArray
    base: ScoreArray
    candidate: ScoreArray
    folds: NDArray[np.int_] | None = None
    shipped: ScoreArray | None = None


# (generator, number of photographs) -> scores
Simulation = Callable[[np.random.Generator, int], SimulatedAnswers]


@dataclass(frozen=True, kw_only=True)
class SimulatedPassRates:
    """Shares (0-1) of simulated evaluations that pass.

    Attributes:
        name: of the simulation.
        photographs: with labels.
        runs: number of evaluations.
        score_error: passes of the score gate alone.
        both: passes of score gate and tail gate.
        mean_change: mean of the candidate's squared error / the base's - 1, over all photographs of all runs.
    """

    name: str
    photographs: int
    runs: int
    score_error: float
    both: float
    mean_change: float

    def breaks(self, promise: float) -> bool:
        """Whether so many passes of both gates are out of reach (p < 0.001) at a true share of `promise`."""
        return bool(self.both * self.runs > binom.ppf(0.999, self.runs, promise))


def advisor_scores(rng: np.random.Generator, n: int) -> ScoreArray:
    """(n, D) whole scores of an advisor, with a shared part in each photograph."""
    parts = rng.normal(size=(n, 1)) + rng.normal(size=(n, len(DIMENSIONS)))
    return np.asarray(np.clip(np.round(ADVISOR_MEAN + ADVISOR_SPREAD * parts), 1, 10))


def correlated_errors(rng: np.random.Generator, n: int) -> tuple[ScoreArray, ScoreArray]:
    """(n, D) errors of two equally good arms: spread 1.3 points, 0.7 of it shared by the dimensions, arms at 0.6."""

    def two(shape: tuple[int, int]) -> tuple[ScoreArray, ScoreArray]:
        both, one, other = (rng.normal(size=shape) for _ in range(3))
        common, own = CORRELATION**0.5, (1 - CORRELATION) ** 0.5
        return common * both + own * one, common * both + own * other

    shared, own = two((n, 1)), two((n, len(DIMENSIONS)))
    rest = (SPREAD**2 - SHARED**2) ** 0.5
    return SHARED * shared[0] + rest * own[0], SHARED * shared[1] + rest * own[1]


def simulated_measurements(answers: SimulatedAnswers, labelled: int) -> GateMeasurements:
    """What score_error and tail take, with labels for the first `labelled` photographs.

    With folds, these are judged by cross-validation, and the adapter that would go live answers the others.
    """
    records = {str(k): {"scores": _by_dimension(answers.labels[k])} for k in range(labelled)}
    if answers.folds is None or answers.shipped is None:
        outcomes = _outcomes(answers.base, answers.candidate, range(len(answers.base)))
        samples = EvaluationSamples(labels=records, outcomes=outcomes, training=_training_critiques())
        return replace(score_measurements(answers, labelled), samples=samples)
    folds = CrossValidationSamples(
        records,
        {str(k): int(answers.folds[k]) for k in range(labelled)},
        _outcomes(answers.base, answers.candidate, range(labelled)),
    )
    outcomes = _outcomes(answers.base, answers.shipped, range(labelled, len(answers.base)))
    samples = EvaluationSamples(outcomes=outcomes, folds=folds, training=_training_critiques())
    return replace(score_measurements(answers, labelled), samples=samples)


def score_measurements(answers: SimulatedAnswers, labelled: int) -> GateMeasurements:
    """What score_error takes; cheap, so that the many evaluations that it stops cost little."""
    ours = ((answers.candidate - answers.labels)[:labelled] ** 2).mean(axis=1)
    theirs = ((answers.base - answers.labels)[:labelled] ** 2).mean(axis=1)
    compared = arm_comparison(ours, theirs)
    return GateMeasurements(by_folds=compared) if answers.folds is not None else GateMeasurements(against_base=compared)


def _outcomes(base: ScoreArray, candidate: ScoreArray, photographs: Iterable[int]) -> tuple[EvaluationOutcome, ...]:
    return tuple(
        EvaluationOutcome(photograph=str(k), arm=arm, status="valid", expected_scores=_by_dimension(rows[k]))
        for arm, rows in ((BASE, base), (CANDIDATE, candidate))
        for k in photographs
    )


def arm_comparison(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> ArmComparison:
    """The comparison of (n,) squared errors, with the figures that the score gate uses."""
    return ArmComparison(
        n=len(ours),
        error_ours=float(ours.mean()),
        error_theirs=float(theirs.mean()),
        reduction=1 - float(ours.mean() / theirs.mean()),
        interval=None,
        p_better=sign_flip_p_value(theirs - ours, seed=0),
        p_worse=1.0,
        p_not_inferior=1.0,
        detectable=None,
        needed=None,
        penalised=0,
        left_out=0,
        no_answer=0,
        differences={str(k): float(gain) for k, gain in enumerate(theirs - ours)},
    )


def simulated_pass_rates(
    simulations: Mapping[str, Simulation],
    sizes: Sequence[int],
    runs: int,
    *,
    photographs: int = PHOTOGRAPHS,
    seed: int = 0,
    recipe: GateRecipe | None = None,
) -> list[SimulatedPassRates]:
    """Pass rates of every simulation at every number of labelled photographs.

    Args:
        simulations: by name.
        sizes: numbers of labelled photographs.
        runs: evaluations per cell.
        photographs: with and without labels.
        seed: of the draws; every cell has a generator of its own.
        recipe: thresholds; None: `ONE_LOOK`.
    """
    gates, cells = recipe or ONE_LOOK, []
    for number, (name, simulate) in enumerate(simulations.items()):
        for size in sizes:
            rng, score, both = np.random.default_rng([seed, number, size]), 0, 0
            ours, theirs = 0.0, 0.0
            for _ in range(runs):
                answers = simulate(rng, photographs)
                ours += float(((answers.candidate - answers.labels) ** 2).mean())
                theirs += float(((answers.base - answers.labels) ** 2).mean())
                if SCORE_ERROR.evaluate(score_measurements(answers, size), gates).verdict == PASS:
                    score += 1
                    both += TAIL.evaluate(simulated_measurements(answers, size), gates).verdict == PASS
            cells.append(
                SimulatedPassRates(
                    name=name,
                    photographs=size,
                    runs=runs,
                    score_error=score / runs,
                    both=both / runs,
                    mean_change=ours / theirs - 1,
                )
            )
    return cells


def _by_dimension(row: ScoreArray) -> dict[str, float]:
    return dict(zip(DIMENSIONS, map(float, row), strict=True))


@lru_cache(maxsize=1)
def _training_critiques() -> tuple[str, ...]:
    """Critiques by the simulated advisor."""
    comments = dict.fromkeys(DIMENSIONS, "Plain.")
    return tuple(
        canonical_answer(make_critique({name: round(score) for name, score in _by_dimension(row).items()}, comments))
        for row in advisor_scores(np.random.default_rng(48), _TRAINED)
    )
