"""The gates: a pure function from measured numbers to verdicts. No files, no clock, no model.

A gate says PASS only when the numbers show it, FAIL when they show the opposite, else INCONCLUSIVE: too few
photographs, too much noise, or something that wasn't measured. rules.py says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mondrian_core.evaluation.gates.health_checks import (
    champion_dimension_results,
    contamination_check,
    dimension_titles,
    image_dependence_check,
    metamorphic_check,
    mode_collapse_check,
    repetition_check,
    truncation_check,
)
from mondrian_core.evaluation.gates.messages import (
    folds_prefix,
    not_compared_message,
    too_few_new_message,
    untested_message,
)
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    GateMeasurements,
    GateResult,
    Verdict,
    deciding_comparison,
    overall_verdict,
    short_number,
)
from mondrian_core.evaluation.gates.rule_texts import GATE_RULE_TEXTS
from mondrian_core.evaluation.measure.metrics import ArmComparison, FormatStatistics
from mondrian_core.recipes import GateRecipe
from mondrian_core.statistics import intervals


def evaluate_gates(measured: GateMeasurements, recipe: GateRecipe) -> tuple[GateResult, ...]:
    """Every gate, in the order of PRODUCT; the absolute time only where it is a gate."""
    gates = [gate(measured, recipe) for gate in GATES.values()]
    return (*gates, seconds_gate(measured, recipe)) if measured.metal else tuple(gates)


def integrity_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The adapter's files fit the base."""
    problems = measured.problems
    sentence = "Every file and every LoRA key is in order." if not problems else _sentence("; ".join(problems))
    return GateResult(
        name="integrity",
        rule=GATE_RULE_TEXTS["integrity"](recipe),
        threshold=0.0,
        observed=float(len(problems)),
        n=len(problems),
        interval=None,
        verdict=FAIL if problems else PASS,
        sentence=sentence,
    )


def effect_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The adapter does something."""
    values = measured.divergences
    mean = sum(values) / len(values) if values else None
    if mean is None:
        verdict, sentence = INCONCLUSIVE, "The effect on the base wasn't measured."
    elif not mean >= recipe.effect_floor:
        verdict = FAIL
        sentence = f"The adapter hardly moves the base: {short_number(mean)} nats per score of {short_number(recipe.effect_floor)}."
    else:
        same = measured.same_answers
        beside = "" if same is None else f"; {same:.0%} of the answers are word for word the base's"
        verdict, sentence = PASS, f"The adapter moves the base by {short_number(mean)} nats per score{beside}."
    return GateResult(
        name="effect",
        rule=GATE_RULE_TEXTS["effect"](recipe),
        threshold=recipe.effect_floor,
        observed=mean,
        n=len(values),
        interval=intervals.student_mean_interval(values),
        verdict=verdict,
        sentence=sentence,
    )


def format_compliance_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The answers can be read as they are."""
    counts, base = measured.formats.get("candidate"), measured.formats.get("base")
    rate = counts.rate if counts else None
    if counts is None or rate is None:
        return _unmeasured(
            "format_compliance", recipe, recipe.compliance_observed, "No answer of the candidate was measured."
        )
    low, high = (
        intervals.clopper_pearson_lower(counts.valid, counts.ran),
        intervals.clopper_pearson_upper(counts.valid, counts.ran),
    )
    needed = intervals.perfect_trials_needed(recipe.compliance_bound)
    says = f"{counts.valid} of {counts.ran} answers read strictly ({rate:.1%}, lower bound {low:.1%})"
    if counts.ran < needed and high >= recipe.compliance_observed:
        verdict, why = INCONCLUSIVE, f"; at least {needed} photographs are needed"
    elif rate < recipe.compliance_observed:
        verdict, why = FAIL, f", fewer than {recipe.compliance_observed:.0%}{_reasons(counts)}"
    elif low < recipe.compliance_bound:
        verdict, why = INCONCLUSIVE, f"; the bound must reach {recipe.compliance_bound:.0%}{_reasons(counts)}"
    elif counts.failed > recipe.failed_share * counts.asked:
        verdict, why = INCONCLUSIVE, f"; {counts.failed} of {counts.asked} photographs brought no answer at all"
    else:
        verdict, why = PASS, _reasons(counts)
    return GateResult(
        name="format_compliance",
        rule=GATE_RULE_TEXTS["format_compliance"](recipe),
        threshold=recipe.compliance_observed,
        observed=rate,
        n=counts.ran,
        interval=(low, high),
        verdict=verdict,
        sentence=f"{says}{why}.{_base_rate(base, recipe)}",
    )


def latency_overhead_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The adapter doesn't slow the base down."""
    found, limit = measured.overhead, recipe.overhead_ratio
    if found is None or found.median is None:
        return _unmeasured("latency_overhead", recipe, limit, "No pair of answers was timed.")
    low = None if found.low == -float("inf") else found.low
    high = None if found.high == float("inf") else found.high
    says = f"The candidate takes {found.median:.3f} times the base's time (median of {found.n} pairs"
    says += f", bounds {short_number(low)} to {short_number(high)})" if low is not None and high is not None else ")"
    if found.decision == "pass":
        verdict, why = PASS, ""
    elif found.decision == "fail":
        verdict, why = FAIL, f"; it must stay below {limit:.2f}"
    else:
        verdict, why = INCONCLUSIVE, f"; not sure that it stays below {limit:.2f}"
    return GateResult(
        name="latency_overhead",
        rule=GATE_RULE_TEXTS["latency_overhead"](recipe),
        threshold=limit,
        observed=found.median,
        n=found.n,
        interval=(low, high),
        verdict=verdict,
        sentence=f"{says}{why}.",
    )


def score_error_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The candidate comes closer to the advisor than the base does; where too few tell, the recipe does by folds."""
    wanted = recipe.score_improvement
    found, by_folds = deciding_comparison(measured.against_base, measured.by_folds, recipe)
    if found is None or found.reduction is None:
        why = (
            "No photograph could be compared with the base" if measured.untested is None else untested_message(measured)
        )
        return _unmeasured("score_error", recipe, wanted, f"{why}.")
    gain, start = found.reduction, folds_prefix(measured) if by_folds else ""
    says = (
        f"{start}Squared error {short_number(found.error_ours)} against the base's {short_number(found.error_theirs)}: "
        f"{_percent(gain)} on {found.n} photographs, p = {short_number(found.p_better)}{_beside(found)}"
    )
    if found.n < recipe.score_photographs:
        verdict, why = INCONCLUSIVE, f"; at least {recipe.score_photographs} photographs are needed"
    elif gain <= 0:
        verdict, why = FAIL, "; it isn't better"
    elif _too_many_missing(found, recipe):
        verdict, why = INCONCLUSIVE, f"; {found.no_answer} photographs brought no answer at all"
    elif gain >= wanted and found.p_better <= recipe.p_value:
        verdict, why = PASS, ""
    else:
        verdict, why = INCONCLUSIVE, f"; {_missing(found, recipe)}"
    return GateResult(
        name="score_error",
        rule=GATE_RULE_TEXTS["score_error"](recipe),
        threshold=wanted,
        observed=gain,
        n=found.n,
        interval=found.interval,
        verdict=verdict,
        sentence=f"{says}{why}.{_detectable(found)}",
    )


def champion_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The candidate isn't worse than what is live, on photographs that neither was trained on."""
    rule, margin = GATE_RULE_TEXTS["champion"](recipe), recipe.non_inferiority_margin
    if not measured.has_champion:
        return GateResult(
            name="champion",
            rule=rule,
            threshold=margin,
            observed=None,
            n=0,
            interval=None,
            verdict=PASS,
            sentence="There is no champion to compare with.",
        )
    found, by_folds = deciding_comparison(measured.against_champion, measured.champion_by_folds, recipe)
    if found is None or found.reduction is None:
        if found is not None and found.n and found.error_ours == 0:
            return GateResult(
                name="champion",
                rule=rule,
                threshold=margin,
                observed=0.0,
                n=found.n,
                interval=None,
                verdict=PASS,
                sentence="Neither makes any error.",
            )
        return _unmeasured("champion", recipe, margin, not_compared_message(measured, recipe))
    rise, parts = -found.reduction, champion_dimension_results(found, recipe)
    start = folds_prefix(measured) if by_folds else ""
    says = (
        f"{start}Squared error {short_number(found.error_ours)} against the champion's {short_number(found.error_theirs)} on "
        f"{found.n} photographs: {_percent(-rise)}{_beside(found)}"
    )
    verdict, why = _against_champion(measured, found, parts, recipe)
    interval = (-found.interval[1], -found.interval[0]) if found.interval else None
    return GateResult(
        name="champion",
        rule=rule,
        threshold=margin,
        observed=rise,
        n=found.n,
        interval=interval,
        verdict=verdict,
        sentence=f"{says}{why}.",
        parts=parts,
    )


def _against_champion(
    measured: GateMeasurements, found: ArmComparison, parts: Sequence[GateResult], recipe: GateRecipe
) -> tuple[Verdict, str]:
    """The verdict and why, as the end of a sentence."""
    margin, p_value = recipe.non_inferiority_margin, short_number(found.p_not_inferior)
    worse, doubtful = _named(parts, FAIL), _named(parts, INCONCLUSIVE)
    if found.n < recipe.score_photographs:
        return INCONCLUSIVE, f"; {too_few_new_message(found.n, measured, recipe)}"
    if found.reduction is not None and found.reduction < 0 and found.p_worse <= recipe.p_value:
        return FAIL, f"; it is worse (p = {short_number(found.p_worse)})"
    if worse:
        return FAIL, f"; it is worse in {worse}"
    if _too_many_missing(found, recipe):
        return INCONCLUSIVE, f"; {found.no_answer} photographs brought no answer at all"
    if found.p_not_inferior > recipe.p_value:
        return INCONCLUSIVE, f"; not sure that it is less than {margin:.0%} worse (p = {p_value})"
    if doubtful:
        return INCONCLUSIVE, f"; it may be worse in {doubtful}"
    return PASS, f"; at most {margin:.0%} worse (p = {p_value}) and no dimension is shown to be worse"


def health_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Nothing is wrong that an average would hide."""
    checks = [mode_collapse_check, truncation_check, repetition_check, image_dependence_check, contamination_check]
    if measured.edits is not None:
        checks.append(metamorphic_check)
    parts = tuple(check(measured, recipe) for check in checks)
    verdict = overall_verdict(parts)
    told = [part.sentence for part in parts if part.verdict == verdict] if verdict != PASS else []
    fine = "No collapse, no cut or stuttering answers, no leakage; the answers depend on the photograph"
    fine += ", and no edit is surely judged the wrong way round." if measured.edits is not None else "."
    sentence = " ".join(told) or fine
    passed = sum(part.verdict == PASS for part in parts)
    return GateResult(
        name="health",
        rule=GATE_RULE_TEXTS["health"](recipe),
        threshold=float(len(parts)),
        observed=float(passed),
        n=len(parts),
        interval=None,
        verdict=verdict,
        sentence=sentence,
        parts=parts,
    )


def seconds_gate(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """The absolute time for one photograph; asked for on Metal only."""
    counts, limit = measured.formats.get("candidate"), recipe.seconds_per_photograph
    value = counts.seconds if counts else None
    if counts is None or value is None:
        return _unmeasured("seconds_per_photograph", recipe, limit, "No answer of the candidate was timed.")
    says = f"A critique takes {value:.2f} s (median of {counts.ran} photographs, limit {limit:.1f} s)."
    return GateResult(
        name="seconds_per_photograph",
        rule=GATE_RULE_TEXTS["seconds_per_photograph"](recipe),
        threshold=limit,
        observed=value,
        n=counts.ran,
        interval=None,
        verdict=PASS if value < limit else FAIL,
        sentence=says,
    )


GATES: Mapping[str, Callable[[GateMeasurements, GateRecipe], GateResult]] = {
    "integrity": integrity_gate,
    "effect": effect_gate,
    "format_compliance": format_compliance_gate,
    "latency_overhead": latency_overhead_gate,
    "score_error": score_error_gate,
    "champion": champion_gate,
    "health": health_gate,
}


def _unmeasured(name: str, recipe: GateRecipe, threshold: float, sentence: str) -> GateResult:
    return GateResult(
        name=name,
        rule=GATE_RULE_TEXTS[name](recipe),
        threshold=threshold,
        observed=None,
        n=0,
        interval=None,
        verdict=INCONCLUSIVE,
        sentence=sentence,
    )


def _too_many_missing(found: ArmComparison, recipe: GateRecipe) -> bool:
    return found.no_answer > recipe.failed_share * (found.n + found.left_out + found.no_answer)


def _missing(found: ArmComparison, recipe: GateRecipe) -> str:
    """What keeps a better candidate from passing, and what would."""
    assert found.reduction is not None
    if found.reduction < recipe.score_improvement:
        return f"better, but by less than {recipe.score_improvement:.0%}"
    needed = f"; about {found.needed} photographs would show it" if found.needed and found.needed > found.n else ""
    return f"that may be chance (p must be <= {recipe.p_value:g}){needed}"


def _detectable(found: ArmComparison) -> str:
    if found.detectable is None:
        return ""
    return f" {found.n} photographs of this spread usually show a drop of {found.detectable:.0%} or more."


def _beside(found: ArmComparison) -> str:
    told = []
    if found.penalised:
        told.append(f"{found.penalised} answers of the candidate lack scores, which count with the worst error")
    if found.left_out:
        told.append(f"{found.left_out} photographs left out because the other answer lacks scores")
    return f" ({'; '.join(told)})" if told else ""


def _reasons(counts: FormatStatistics) -> str:
    told = ", ".join(f"{reason} {number}" for reason, number in counts.reasons.items())
    return f" ({told})" if told else ""


def _base_rate(base: FormatStatistics | None, recipe: GateRecipe) -> str:
    if base is None or base.rate is None:
        return ""
    side = "reaches" if base.rate >= recipe.base_compliance else "misses"
    return f" The base's own rate, {base.rate:.1%}, {side} {recipe.base_compliance:.0%}."


def _named(parts: Sequence[GateResult], verdict: Verdict) -> str:
    return dimension_titles([part.name for part in parts if part.verdict == verdict])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _percent(gain: float) -> str:
    return f"{gain:.1%} lower" if gain > 0 else f"{-gain:.1%} higher" if gain < 0 else "no difference"
