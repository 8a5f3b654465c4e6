"""Adapters that are better on most photographs and catastrophic on a few: how often the gates let them pass.

    python -m bench.gate_error_rates --tail [--runs 400]

Such an adapter passes a paired test of few photographs, because a sign-flip test is about symmetry and not about the
mean, and the few photographs rarely contain a catastrophe. The gate `tail` looks for it in the answers to photographs
without labels. The table shows the share of simulated evaluations that pass score_error, and score_error and tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from bench.simulated_evaluations import (
    PHOTOGRAPHS,
    SPREAD,
    SimulatedAnswers,
    SimulatedPassRates,
    Simulation,
    advisor_scores,
    correlated_errors,
    simulated_pass_rates,
)
from mondrian_core.markdown import markdown_table
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE

TAIL_SIZES = (8, 12, 20, 40)
PROMISE = 0.05  # of an adapter that isn't better on average
KEPT_POWER = 0.9  # of the score gate's power on honest gains
RATE = 0.05  # of catastrophes
_SHIFT = np.resize([1.5, -0.5, 0.5, -1.5], len(DIMENSIONS))  # points; a base that is too strict here, too mild there


def catastrophic_on_some(gain: float, change: float, rate: float = RATE) -> Simulation:
    """Squared errors lower by `gain` on most photographs; on a share `rate` so large that the mean changes by `change`.

    The scores of such a photograph are off together, in a direction of its own.
    """
    size = SPREAD**2 * (1 + change - (1 - rate) * (1 - gain)) / rate

    def simulate(rng: np.random.Generator, n: int) -> SimulatedAnswers:
        labels, (theirs, ours) = advisor_scores(rng, n), correlated_errors(rng, n)
        ours = ours * (1 - gain) ** 0.5
        struck = rng.random(n) < rate
        away = rng.normal(size=(n, 1)) + 0.7 * rng.normal(size=(n, len(DIMENSIONS)))
        away *= (size / (away**2).mean(axis=1, keepdims=True)) ** 0.5
        return SimulatedAnswers(labels, labels + theirs, labels + np.where(struck[:, None], away, ours))

    return simulate


def _heavy_tailed(gain: float, spread: float) -> Simulation:
    """Squared errors with a log-normal factor: a median gain, and a mean that large factors raise."""

    def simulate(rng: np.random.Generator, n: int) -> SimulatedAnswers:
        labels, (theirs, ours) = advisor_scores(rng, n), correlated_errors(rng, n)
        factor = np.exp(rng.normal(0, spread, (n, 1)))
        return SimulatedAnswers(labels, labels + theirs, labels + ours * ((1 - gain) * factor) ** 0.5)

    return simulate


def _exchanged_on_some(gain: float, rate: float) -> Simulation:
    """On a share `rate` the candidate answers with the advisor's scores of another photograph: plausible, but wrong."""

    def simulate(rng: np.random.Generator, n: int) -> SimulatedAnswers:
        labels, (theirs, ours) = advisor_scores(rng, n), correlated_errors(rng, n)
        other, struck = advisor_scores(rng, n), rng.random(n) < rate
        wrong = other - labels
        return SimulatedAnswers(
            labels, labels + theirs, labels + np.where(struck[:, None], wrong, ours * (1 - gain) ** 0.5)
        )

    return simulate


def honest_gain(gain: float) -> Simulation:
    """Squared errors lower by `gain` on every photograph."""
    return catastrophic_on_some(gain, -gain)


def _corrected_offset(gain: float) -> Simulation:
    """The base is off by a constant in every dimension; the candidate isn't, and is better by `gain` besides."""

    def simulate(rng: np.random.Generator, n: int) -> SimulatedAnswers:
        labels, (theirs, ours) = advisor_scores(rng, n), correlated_errors(rng, n)
        return SimulatedAnswers(labels, labels + theirs + _SHIFT, labels + ours * (1 - gain) ** 0.5)

    return simulate


def _base_fails_on_some(gain: float, size: float) -> Simulation:
    """The base is the one with catastrophes, of `size` points; the candidate is better by `gain` everywhere."""

    def simulate(rng: np.random.Generator, n: int) -> SimulatedAnswers:
        labels, (theirs, ours) = advisor_scores(rng, n), correlated_errors(rng, n)
        struck = rng.random(n) < RATE
        theirs = np.where(struck[:, None], -size + theirs, theirs)
        return SimulatedAnswers(labels, labels + theirs, labels + ours * (1 - gain) ** 0.5)

    return simulate


# No better on average, or worse.
TAIL_STRUCTURES: Mapping[str, Simulation] = {
    "25 % better, catastrophic on 5 %, equal mean": catastrophic_on_some(0.25, 0.0),
    "25 % better, catastrophic on 5 %, mean 20 % worse": catastrophic_on_some(0.25, 0.2),
    "50 % better, catastrophic on 5 %, equal mean": catastrophic_on_some(0.5, 0.0),
    "50 % better, catastrophic on 5 %, mean 50 % worse": catastrophic_on_some(0.5, 0.5),
    "60 % better in the median, heavy tail": _heavy_tailed(0.6, 1.6),
    "30 % better, another photograph's scores on 15 %": _exchanged_on_some(0.3, 0.15),
}
HONEST_STRUCTURES: Mapping[str, Simulation] = {
    "30 % better": honest_gain(0.3),
    "50 % better": honest_gain(0.5),
    "30 % better, base off by 0.5 to 1.5 points": _corrected_offset(0.3),
    "30 % better, base catastrophic on 5 %": _base_fails_on_some(0.3, 5.0),
}
# Nothing is promised here: 120 photographs don't show one of 50 in a tenth of the evaluations.
OTHER_RATES: Mapping[str, Simulation] = {
    "25 % better, catastrophic on 2 %, equal mean": catastrophic_on_some(0.25, 0.0, 0.02),
    "50 % better, catastrophic on 2 %, mean 30 % worse": catastrophic_on_some(0.5, 0.3, 0.02),
    "25 % better, catastrophic on 10 %, equal mean": catastrophic_on_some(0.25, 0.0, 0.1),
    "50 % better, catastrophic on 20 %, mean 30 % worse": catastrophic_on_some(0.5, 0.3, 0.2),
}
KEEPS_POWER = ("30 % better", "50 % better")


@dataclass(frozen=True)
class LabelledBoundPassRates:
    """Share (0-1) of evaluations in which a bound for bounded scores, from the labelled photographs alone, is above 0.

    Attributes:
        photographs: with labels.
        empirical_bernstein: Maurer and Pontil 2009, theorem 4, at 95 %.
        best_bet: the best constant bet in hindsight reaches a capital of 20 (Waudby-Smith and Ramdas 2024). No test by
            betting with a constant stake, chosen beforehand, passes more often.
    """

    photographs: int
    empirical_bernstein: float
    best_bet: float


def labelled_bound_pass_rates(simulate: Simulation, size: int, runs: int, seed: int = 0) -> LabelledBoundPassRates:
    """How often the rivals of the tail gate would let an adapter pass.

    A photograph's difference (base's squared error - candidate's) is at least the base's - that of the legal score that
    is furthest from the advisor's.
    """
    rng, passed = np.random.default_rng([seed, size]), np.zeros(2)
    for _ in range(runs):
        answers = simulate(rng, size)
        theirs = ((answers.base - answers.labels) ** 2).mean(axis=1)
        gains = theirs - ((answers.candidate - answers.labels) ** 2).mean(axis=1)
        furthest = (np.maximum(answers.labels - MIN_SCORE, MAX_SCORE - answers.labels) ** 2).mean(axis=1)
        lowest = min(float((theirs - furthest).min()), -1e-9)
        width = float(theirs.max()) - lowest
        logarithm = np.log(2 / 0.05)
        bernstein = gains.mean() - (2 * gains.var(ddof=1) * logarithm / size) ** 0.5
        bernstein -= 7 * width * logarithm / (3 * (size - 1))
        stakes = np.linspace(0, 1, 200, endpoint=False) / -lowest
        capital = np.log1p(np.maximum(stakes[:, None] * gains, -1 + 1e-9)).sum(axis=1).max()
        passed += (bernstein > 0, capital >= np.log(20))
    return LabelledBoundPassRates(size, *(passed / runs))


def tail_markdown(cells: Sequence[SimulatedPassRates]) -> str:
    """The table: score_error alone → score_error and tail, by structure and number of labelled photographs."""
    sizes = sorted({cell.photographs for cell in cells})
    rows = []
    for name in dict.fromkeys(cell.name for cell in cells):
        found = {cell.photographs: cell for cell in cells if cell.name == name}
        change = float(np.mean([cell.mean_change for cell in found.values()]))
        rows.append(
            [
                name,
                f"{change:+.0%}",
                *(f"{found[size].score_error:.1%} → {found[size].both:.1%}" for size in sizes),
            ]
        )
    return markdown_table(["adapter", "mean error", *map(str, sizes)], rows)


def keeps_tail_promises(cells: Sequence[SimulatedPassRates]) -> bool:
    """Adapters that aren't better pass in 5 %, and honest ones lose less than a tenth, within what chance gives."""
    for cell in cells:
        if cell.name in TAIL_STRUCTURES and cell.breaks(PROMISE):
            return False
        passed, lost = round(cell.score_error * cell.runs), round((cell.score_error - cell.both) * cell.runs)
        if cell.name in KEEPS_POWER and lost > binom.ppf(0.999, passed, 1 - KEPT_POWER):
            return False
    return True


def print_tail_table(runs: int) -> bool:
    """Print the tables; True when the promises hold."""
    cells = simulated_pass_rates({**TAIL_STRUCTURES, **HONEST_STRUCTURES}, TAIL_SIZES, runs)
    print(
        f"Passes of {runs} evaluations with {PHOTOGRAPHS} photographs, by number of labelled ones: "
        "score_error → score_error and tail\n"
    )
    print(f"{tail_markdown(cells)}\n\nOther rates, without a promise:\n")
    print(f"{tail_markdown(simulated_pass_rates(OTHER_RATES, TAIL_SIZES, runs))}\n")
    for size in TAIL_SIZES:
        found = labelled_bound_pass_rates(honest_gain(0.5), size, runs)
        print(
            f"A 50 % better adapter on {size} labelled photographs passes by empirical Bernstein in "
            f"{found.empirical_bernstein:.1%}, by the best bet in hindsight in {found.best_bet:.1%}."
        )
    return keeps_tail_promises(cells)
