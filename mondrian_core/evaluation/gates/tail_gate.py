"""The gate about rare catastrophes, which a test of the average on few photographs can't see."""

from __future__ import annotations

from collections.abc import Sequence

from mondrian_core.evaluation.gates.gate import Gate, Judgement, Requirement
from mondrian_core.evaluation.gates.messages import rendered_note
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Cause,
    GateMeasurements,
    GateResult,
    Verdict,
    deciding_comparison,
    short_number,
)
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.evaluation.measure.tail import DeviantAnswer, TailMeasurement, mean_gain_bounds, tail_measurement
from mondrian_core.recipes import GateRecipe
from mondrian_core.samples_file import CANDIDATE
from mondrian_core.statistics.intervals import clopper_pearson_lower, clopper_pearson_upper, perfect_trials_needed

NAMED = 5  # photographs that the sentence names


def _judge_tail(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The answers that are far from the base's can't cost what the others gain."""
    samples = measured.samples
    tail = tail_measurement(samples, recipe.tail_deviation) if samples else None
    if samples is None or tail is None:
        asked = samples is not None and any(outcome.arm == CANDIDATE for outcome in samples.outcomes)
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence="Base and candidate answered no photograph together.",
            threshold=1.0,
            cause=Cause.NO_ANSWER if asked else Cause.NOT_MEASURED,
        )
    harmful, parts = tail.harmful, _parts(tail, samples, recipe)
    needed = perfect_trials_needed(1 - recipe.tail_share)
    too_few = f"at least {needed} photographs are needed to find a share of {recipe.tail_share:.0%}; they need no label"
    if not harmful:
        says = f"None of {tail.n} answers{rendered_note(samples)} may be far worse than the base's{_better_ones(tail)}"
        if tail.n < needed:
            return Judgement(
                verdict=INCONCLUSIVE,
                sentence=f"{says}; {too_few}.",
                n=tail.n,
                parts=parts,
                threshold=1.0,
                cause=Cause.TOO_FEW,
            )
        return Judgement(verdict=PASS, sentence=f"{says}.", observed=0.0, n=tail.n, parts=parts, threshold=1.0)
    bounds = mean_gain_bounds(deciding_comparison(measured.against_base, measured.by_folds, recipe)[0])
    low, high = (None, None) if bounds is None else _cost_ratios(tail, bounds)
    verdict: Verdict = INCONCLUSIVE
    if low is not None and low >= 1:
        verdict, why = FAIL, "they cost more than the other photographs gain"
    elif high is None:
        why = "the gain on the labelled photographs is not certain enough to outweigh them"
    elif high >= 1:
        why = f"if they are wrong, they may cost {short_number(high)} times what the others gain"
    elif tail.n < needed:
        why = too_few
    else:
        verdict, why = PASS, f"even if they are wrong, they cost at most {high:.0%} of what the others gain"
    return Judgement(
        verdict=verdict,
        sentence=f"{_as_share(harmful, tail)} far from the base's{rendered_note(samples)}: "
        f"{_named(harmful, samples)}; {why}.",
        observed=high,
        n=tail.n,
        interval=(low, high),
        parts=parts,
        threshold=1.0,
        cause=None if verdict != INCONCLUSIVE else Cause.TOO_FEW if tail.n < needed else Cause.UNCERTAIN,
    )


def _cost_ratios(tail: TailMeasurement, gain: tuple[float, float]) -> tuple[float, float | None]:
    """Cost of the deviant answers / gain of the others: what is certain at least, and what is possible at most.

    With a share s of deviant answers that cost c each, and a gain g on the others, the ratio is s c / ((1 - s) g). The
    most uses the exact upper 95 % bound of s and the lower 90 % bound of g; the least counts only answers that are
    certainly wrong, and uses the opposite bounds. None: the gain's lower bound is not above 0.
    """

    def ratio(answers: Sequence[DeviantAnswer], share: float, gained: float) -> float:
        cost = sum(answer.cost for answer in answers) / len(answers)
        return share * cost / ((1 - share) * gained) if share < 1 else float("inf")

    certain = [answer for answer in tail.deviant if answer.certain]
    least = 0.0
    if certain and gain[1] > 0:
        least = ratio(certain, clopper_pearson_lower(len(certain), tail.n), gain[1])
    if gain[0] <= 0:
        return least, None
    return least, ratio(tail.harmful, clopper_pearson_upper(len(tail.harmful), tail.n), gain[0])


def photograph_name(name: str, samples: EvaluationSamples) -> str:
    """The file name of a photograph where it is known, otherwise the name in the samples."""
    record = samples.labels.get(name) or samples.pictures.get(name) or {}
    return str(record.get("title") or name)


def _named(answers: Sequence[DeviantAnswer], samples: EvaluationSamples) -> str:
    names = [
        f"{photograph_name(answer.photograph, samples)} ({answer.deviation:.1f} points)" for answer in answers[:NAMED]
    ]
    return ", ".join(names) + (f" and {len(answers) - NAMED} more" if len(answers) > NAMED else "")


def _as_share(harmful: Sequence[DeviantAnswer], tail: TailMeasurement) -> str:
    return f"{len(harmful)} of {tail.n} answers {'is' if len(harmful) == 1 else 'are'}"


def _better_ones(tail: TailMeasurement) -> str:
    if not tail.deviant:
        return ""
    return f" ({len(tail.deviant)} far from them, where the base is the one that is wrong)"


def _parts(tail: TailMeasurement, samples: EvaluationSamples, recipe: GateRecipe) -> tuple[GateResult, ...]:
    """Every deviant answer, with what is known about it."""
    return tuple(
        GateResult(
            name=answer.photograph,
            rule=f"not more than {recipe.tail_deviation:g} robust standard deviations from the base's answer",
            threshold=tail.limit,
            observed=answer.deviation,
            n=1,
            interval=None,
            verdict=FAIL if answer.certain else INCONCLUSIVE if answer.harmful else PASS,
            sentence=f"{photograph_name(answer.photograph, samples)}: {answer.deviation:.1f} points from the base's "
            f"shifted scores (usual: below {tail.limit:.1f}); {_what_is_known(answer)}.",
        )
        for answer in tail.deviant
    )


def _what_is_known(answer: DeviantAnswer) -> str:
    if answer.labelled:
        compared = "further from" if answer.cost > 0 else "closer to"
        return f"{compared} the advisor than the base"
    if answer.unlike_advisor is None:
        return "the advisor's scores are not known"
    whose = "its" if answer.certain else "the base's"
    return f"the advisor's scores are not known, and {whose} scores are unlike those of the advisor's critiques"


TAIL = Gate(
    name="tail",
    rule="answers that deviate from the base's by more than {gates.tail_deviation:g} robust standard deviations, on "
    "photographs with and without labels, can't cost what the others gain, even if all of them are wrong (upper 95 % "
    "bound of their share, lower 90 % bound of the mean gain)",
    fails_when="those that are certainly wrong cost more than the others gain (opposite bounds)",
    inconclusive_when="they may cost more; the gain's lower bound is not above 0 and there is any; too few photographs "
    "to find a share of {gates.tail_share:.0%}",
    recipe_fields=("tail_deviation", "tail_share"),
    judge=_judge_tail,
    next_steps={
        FAIL: "Read the answers that the tail check names in the report, and add critiques of such photographs.",
        INCONCLUSIVE: "Write critiques of the photographs that the tail check names: they decide whether the candidate "
        "or the base is wrong there. If it names none, evaluate on more photographs (evaluate.compliance_photographs).",
    },
    steps_by_cause={
        Cause.TOO_FEW: "Put more of your photographs into source/ of the workspace, without critiques, and evaluate "
        "again. If they are there already, raise evaluate.compliance_photographs.",
    },
    required=Requirement.ALWAYS,
)
