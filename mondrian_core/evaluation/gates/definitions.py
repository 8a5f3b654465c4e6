"""The gates of a promotion: a pure function from measurements to verdicts. No files, no clock, no model.

A gate says PASS only when the numbers show it and FAIL when they show the opposite. Too few photographs, too much noise
or a missing measurement is INCONCLUSIVE. To add a gate, define a `Gate` here and add it to `GATES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from mondrian_core.evaluation.gates.calibration_gate import BEYOND_CALIBRATION
from mondrian_core.evaluation.gates.comments_gate import COMMENTS
from mondrian_core.evaluation.gates.comparison_gates import (
    BEST_CHAMPION_COMPARISON,
    CHAMPION_COMPARISON,
    SCORE_ERROR,
)
from mondrian_core.evaluation.gates.format_gate import FORMAT_COMPLIANCE
from mondrian_core.evaluation.gates.gate import NEVER, Gate, Judgement, Requirement
from mondrian_core.evaluation.gates.health_checks import HEALTH
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Cause,
    GateMeasurements,
    GateResult,
    overall_verdict,
    short_number,
)
from mondrian_core.evaluation.gates.tail_gate import TAIL
from mondrian_core.evaluation.measure.latency import INTERIM_LOOKS
from mondrian_core.recipes import GateRecipe
from mondrian_core.statistics import intervals


def _judge_integrity(measured: GateMeasurements, _: GateRecipe) -> Judgement:
    """The adapter's files fit the base model."""
    problems = measured.problems
    return Judgement(
        verdict=FAIL if problems else PASS,
        sentence=_as_sentence("; ".join(problems)) if problems else "All files and LoRA keys are valid.",
        observed=float(len(problems)),
        n=len(problems),
        threshold=0.0,
    )


def _judge_effect(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The adapter changes the base model's output."""
    values, floor = measured.divergences, recipe.effect_floor
    if not values:
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence="The adapter's effect on the base was not measured.",
            cause=Cause.NOT_MEASURED,
        )
    mean = sum(values) / len(values)
    if not mean >= floor:  # also true for NaN
        verdict = FAIL
        sentence = (
            f"The adapter hardly changes the base: {short_number(mean)} nats per score, "
            f"below the minimum of {short_number(floor)}."
        )
    else:
        same = measured.same_answers
        identical = "" if same is None else f"; {same:.0%} of the answers are identical to the base's"
        verdict, sentence = PASS, f"The adapter changes the base by {short_number(mean)} nats per score{identical}."
    return Judgement(
        verdict=verdict,
        sentence=sentence,
        observed=mean,
        n=len(values),
        interval=intervals.student_mean_interval(values),
    )


def _judge_latency_overhead(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The adapter does not slow the base down."""
    timed, limit = measured.overhead, recipe.overhead_ratio
    if timed is None or timed.median is None:
        return Judgement(verdict=INCONCLUSIVE, sentence="No pair of answers was timed.", cause=Cause.NOT_MEASURED)
    low = None if timed.low == -float("inf") else timed.low
    high = None if timed.high == float("inf") else timed.high
    bounds = f", bounds {short_number(low)} to {short_number(high)}" if low is not None and high is not None else ""
    says = f"The candidate takes {timed.median:.3f} times as long as the base (median of {timed.n} pairs{bounds})"
    match timed.decision:
        case "pass":
            verdict, why = PASS, ""
        case "fail":
            verdict, why = FAIL, f"; it must stay below {limit:.2f}"
        case "open":
            verdict, why = INCONCLUSIVE, f"; it is not certain that it stays below {limit:.2f}"
        case _:
            assert_never(timed.decision)
    return Judgement(verdict=verdict, sentence=f"{says}{why}.", observed=timed.median, n=timed.n, interval=(low, high))


def _judge_seconds(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The absolute time of one critique, judged on Metal only."""
    counts, limit = measured.formats.get("candidate"), recipe.seconds_per_photograph
    value = counts.seconds if counts else None
    if counts is None or value is None:
        return Judgement(
            verdict=INCONCLUSIVE, sentence="No answer of the candidate was timed.", cause=Cause.NOT_MEASURED
        )
    return Judgement(
        verdict=PASS if value < limit else FAIL,
        sentence=f"A critique takes {value:.2f} s (median of {counts.ran} photographs, limit {limit:.1f} s).",
        observed=value,
        n=counts.ran,
    )


INTEGRITY = Gate(
    name="integrity",
    rule="every LoRA key matches a layer of the base, shapes fit, values are finite, files and base are as recorded",
    fails_when="the file check finds a problem; the candidate is then not asked at all",
    inconclusive_when=NEVER,
    recipe_fields=(),
    judge=_judge_integrity,
    learned=False,
    judges_stopped=True,
    next_steps={FAIL: "Don't use these files: train again on this base, or fetch the version again."},
)
EFFECT = Gate(
    name="effect",
    rule="mean KL(base || adapter) over the score tokens of the answers >= {gates.effect_floor:g} nats",
    fails_when="the mean is below the minimum or NaN",
    inconclusive_when="no photograph was answered",
    recipe_fields=("effect_floor",),
    judge=_judge_effect,
    next_steps={
        FAIL: "Check the loss curve to see whether training ran, and that the adapter's scale is not close to 0.",
        INCONCLUSIVE: "Measure the effect: it needs at least one photograph that the base answers.",
    },
    steps_by_cause={
        Cause.NOT_MEASURED: "Measure the effect: it needs at least one photograph that the base answers.",
    },
)
LATENCY_OVERHEAD = Gate(
    name="latency_overhead",
    rule="median of paired, interleaved time ratios candidate/base at equal output length, and its upper 95 % bound, "
    "< {gates.overhead_ratio:.2f}",
    fails_when="the lower bound is {gates.overhead_ratio:.2f} or more",
    inconclusive_when="undecided after {evaluate.latency_pairs} pairs and after "
    f"{' and '.join(map(str, INTERIM_LOOKS[1:]))} times as many",
    recipe_fields=("overhead_ratio",),
    judge=_judge_latency_overhead,
    learned=False,
    next_steps={
        FAIL: "Train with fewer target modules or a lower rank.",
        INCONCLUSIVE: "Evaluate again on an idle machine, or raise evaluate.latency_pairs.",
    },
)
SECONDS_PER_PHOTOGRAPH = Gate(
    name="seconds_per_photograph",
    rule="median time of a critique < {gates.seconds_per_photograph:g} s (a gate on Metal only)",
    fails_when="the median is at the limit or above",
    inconclusive_when="nothing was timed",
    recipe_fields=("seconds_per_photograph",),
    judge=_judge_seconds,
    learned=False,
    applies=lambda measured: measured.metal,
    next_steps={
        FAIL: "Use a smaller base model or shorter answers.",
        INCONCLUSIVE: "Evaluate again: no answer of the candidate was timed.",
    },
    required=Requirement.IF_MEASURED,
)

GATES: tuple[Gate, ...] = (
    INTEGRITY,
    EFFECT,
    FORMAT_COMPLIANCE,
    LATENCY_OVERHEAD,
    SCORE_ERROR,
    BEYOND_CALIBRATION,
    CHAMPION_COMPARISON,
    TAIL,
    BEST_CHAMPION_COMPARISON,
    HEALTH,
    COMMENTS,
    SECONDS_PER_PHOTOGRAPH,
)


def evaluate_gates(
    measured: GateMeasurements, recipe: GateRecipe, gates: Sequence[Gate] = GATES
) -> tuple[GateResult, ...]:
    """The results of all gates that apply, in their order."""
    return tuple(gate.evaluate(measured, recipe) for gate in gates if gate.applies(measured))


def recommended_next_steps(
    results: Sequence[GateResult], measured: GateMeasurements, recipe: GateRecipe, gates: Sequence[Gate] = GATES
) -> tuple[str, ...]:
    """What to do now: the advice of every gate that did not pass, without repetitions."""
    found = {result.name: result for result in results}
    passed = overall_verdict(results) == PASS
    go = ["All required gates passed: the adapter can be promoted."] if passed else []
    advice = [
        step
        for gate in gates
        if gate.name in found
        for step in gate.advice(found[gate.name].verdict, measured, recipe, found[gate.name].cause)
    ]
    return tuple(dict.fromkeys([*go, *advice]))


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
