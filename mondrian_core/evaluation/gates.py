"""The gates: a pure function from measured numbers to verdicts. No files, no clock, no model.

A gate says PASS only when the numbers show it, FAIL when they show the opposite, else INCONCLUSIVE: too few photographs,
too much noise, or something that wasn't measured. `RULES` are the same rules in words; docs/gates.md is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mondrian_core.evaluation import statistics
from mondrian_core.evaluation.health import Collapse, Dependence
from mondrian_core.evaluation.latency import Overhead
from mondrian_core.evaluation.metrics import Comparison, Format
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS, TITLES

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
PASS: Verdict = "PASS"
FAIL: Verdict = "FAIL"
INCONCLUSIVE: Verdict = "INCONCLUSIVE"


@dataclass(frozen=True)
class GateResult:
    """What one gate says.

    Attributes:
        name: as in PRODUCT, such as "score_error".
        rule: the rule in words, with its numbers.
        threshold, observed: the numbers that are compared; None where the rule has none or nothing was measured.
        n: photographs, pairs or files behind it.
        interval: of the observed value; one side may be None. The rule says how sure it is.
        verdict: PASS, FAIL or INCONCLUSIVE.
        sentence: why, for people.
        parts: the checks it is made of, if it is made of several.
    """

    name: str
    rule: str
    threshold: float | None
    observed: float | None
    n: int
    interval: tuple[float | None, float | None] | None
    verdict: Verdict
    sentence: str
    parts: tuple[GateResult, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "parts": [part.as_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateResult:
        """The result that `as_dict` wrote."""
        interval = values.get("interval")
        return cls(**{**values, "interval": tuple(interval) if interval else None,
                      "parts": tuple(cls.from_dict(part) for part in values.get("parts", ()))})  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """All numbers that the gates look at; None where something wasn't measured.

    Attributes:
        problems: what the check of the adapter's files found.
        formats: by arm.
        divergences: mean KL(base || candidate) in nats per token, one per photograph.
        same_answers: share of photographs on which base and candidate wrote the same text.
        against_base, against_champion: comparisons in pairs; the latter is None without a champion.
        has_champion: there is one to compare with.
        overhead, collapse, dependence: see their modules.
        leaked: lineages that are in training too; None when the training lineages weren't given.
        metal: the figures of time come from Metal.
    """

    problems: tuple[str, ...] = ()
    formats: Mapping[str, Format] = field(default_factory=dict)
    divergences: tuple[float, ...] = ()
    same_answers: float | None = None
    against_base: Comparison | None = None
    against_champion: Comparison | None = None
    has_champion: bool = False
    overhead: Overhead | None = None
    collapse: Collapse | None = None
    dependence: Dependence | None = None
    leaked: tuple[str, ...] | None = None
    metal: bool = False


def judge(measured: Measured, recipe: GateRecipe) -> tuple[GateResult, ...]:
    """Every gate, in the order of PRODUCT; the absolute time only where it is a gate."""
    gates = [gate(measured, recipe) for gate in GATES.values()]
    return (*gates, seconds(measured, recipe)) if measured.metal else tuple(gates)


def verdict_of(gates: Sequence[GateResult]) -> Verdict:
    """Any FAIL: FAIL; else any INCONCLUSIVE, or no gate at all: INCONCLUSIVE; else PASS."""
    verdicts = [gate.verdict for gate in gates]
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts and INCONCLUSIVE not in verdicts else INCONCLUSIVE


def integrity(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The adapter's files fit the base."""
    problems = measured.problems
    sentence = "Every file and every LoRA key is in order." if not problems else _sentence("; ".join(problems))
    return GateResult("integrity", RULES["integrity"](recipe), 0.0, float(len(problems)), len(problems), None,
                      FAIL if problems else PASS, sentence)  # fmt: skip


def effect(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The adapter does something."""
    values = measured.divergences
    mean = sum(values) / len(values) if values else None
    if mean is None:
        verdict, sentence = INCONCLUSIVE, "The effect on the base wasn't measured."
    elif not mean >= recipe.effect_floor:
        verdict = FAIL
        sentence = f"The adapter hardly moves the base: {_n(mean)} nats per token, at least {_n(recipe.effect_floor)} are needed."
    else:
        same = measured.same_answers
        beside = "" if same is None else f"; {same:.0%} of the answers are word for word the base's"
        verdict, sentence = PASS, f"The adapter moves the base by {_n(mean)} nats per token{beside}."
    return GateResult("effect", RULES["effect"](recipe), recipe.effect_floor, mean, len(values),
                      statistics.mean_interval(values), verdict, sentence)  # fmt: skip


def format_compliance(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The answers can be read as they are."""
    counts, base = measured.formats.get("candidate"), measured.formats.get("base")
    rate = counts.rate if counts else None
    if counts is None or rate is None:
        return _unmeasured(
            "format_compliance", recipe, recipe.compliance_observed, "No answer of the candidate was measured."
        )
    low, high = statistics.rate_lower(counts.valid, counts.ran), statistics.rate_upper(counts.valid, counts.ran)
    needed = statistics.perfect_run_needed(recipe.compliance_bound)
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
    return GateResult("format_compliance", RULES["format_compliance"](recipe), recipe.compliance_observed, rate,
                      counts.ran, (low, high), verdict, f"{says}{why}.{_base_rate(base, recipe)}")  # fmt: skip


def latency_overhead(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The adapter doesn't slow the base down."""
    found, limit = measured.overhead, recipe.overhead_ratio
    if found is None or found.median is None:
        return _unmeasured("latency_overhead", recipe, limit, "No pair of answers was timed.")
    low = None if found.low == -float("inf") else found.low
    high = None if found.high == float("inf") else found.high
    says = f"The candidate takes {found.median:.3f} times the base's time (median of {found.n} pairs"
    says += f", bounds {_n(low)} to {_n(high)})" if low is not None and high is not None else ")"
    if found.decision == "pass":
        verdict, why = PASS, ""
    elif found.decision == "fail":
        verdict, why = FAIL, f"; it must stay below {limit:.2f}"
    else:
        verdict, why = INCONCLUSIVE, f"; too noisy here to tell whether it stays below {limit:.2f}"
    return GateResult("latency_overhead", RULES["latency_overhead"](recipe), limit, found.median, found.n, (low, high),
                      verdict, f"{says}{why}.")  # fmt: skip


def score_error(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The candidate comes closer to the advisor than the base does."""
    found, wanted = measured.against_base, recipe.score_improvement
    if found is None or found.reduction is None:
        return _unmeasured("score_error", recipe, wanted, "No photograph could be compared with the base.")
    gain = found.reduction
    says = (f"Squared error {_n(found.error_ours)} against the base's {_n(found.error_theirs)}: "
            f"{_percent(gain)} on {found.n} photographs, p = {_n(found.p_better)}{_beside(found)}")  # fmt: skip
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
    return GateResult("score_error", RULES["score_error"](recipe), wanted, gain, found.n, found.interval, verdict,
                      f"{says}{why}.")  # fmt: skip


def champion(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The candidate isn't worse than what is live."""
    rule, margin = RULES["champion"](recipe), recipe.non_inferiority_margin
    if not measured.has_champion:
        return GateResult("champion", rule, margin, None, 0, None, PASS, "There is no champion to compare with.")
    found = measured.against_champion
    if found is None or found.reduction is None:
        if found is not None and found.n and found.error_ours == 0:
            return GateResult("champion", rule, margin, 0.0, found.n, None, PASS, "Neither makes any error.")
        return _unmeasured("champion", recipe, margin, "No photograph could be compared with the champion.")
    rise = -found.reduction
    parts = _champion_dimensions(found, recipe)
    worse, doubtful = _named(parts, FAIL), _named(parts, INCONCLUSIVE)
    says = (f"Squared error {_n(found.error_ours)} against the champion's {_n(found.error_theirs)} on {found.n} "
            f"photographs: {_percent(-rise)}{_beside(found)}")  # fmt: skip
    if found.n < recipe.score_photographs:
        verdict, why = INCONCLUSIVE, f"; at least {recipe.score_photographs} photographs are needed"
    elif rise > 0 and found.p_worse <= recipe.p_value:
        verdict, why = FAIL, f"; it is worse (p = {_n(found.p_worse)})"
    elif worse:
        verdict, why = FAIL, f"; it is worse in {worse}"
    elif _too_many_missing(found, recipe):
        verdict, why = INCONCLUSIVE, f"; {found.no_answer} photographs brought no answer at all"
    elif found.p_not_inferior > recipe.p_value:
        verdict, why = (
            INCONCLUSIVE,
            f"; not sure that it is less than {margin:.0%} worse (p = {_n(found.p_not_inferior)})",
        )
    elif doubtful:
        verdict, why = INCONCLUSIVE, f"; it may be worse in {doubtful}"
    else:
        verdict, why = (
            PASS,
            f"; at most {margin:.0%} worse (p = {_n(found.p_not_inferior)}) and no dimension is shown to be worse",
        )
    interval = (-found.interval[1], -found.interval[0]) if found.interval else None
    return GateResult("champion", rule, margin, rise, found.n, interval, verdict, f"{says}{why}.", parts)


def _champion_dimensions(found: Comparison, recipe: GateRecipe) -> tuple[GateResult, ...]:
    margin, results = recipe.non_inferiority_margin, []
    for dimension in found.dimensions:
        rise = -dimension.reduction if dimension.reduction is not None else None
        if found.n < recipe.score_photographs:
            verdict, says = INCONCLUSIVE, "too few photographs"
        elif dimension.p_worse_holm <= recipe.p_value:
            verdict, says = FAIL, "worse by more than the margin"
        elif dimension.p_worse <= recipe.p_value:
            verdict, says = INCONCLUSIVE, "may be worse by more than the margin"
        else:
            verdict, says = PASS, "not shown to be worse"
        interval = (-dimension.interval[1], -dimension.interval[0]) if dimension.interval else None
        results.append(GateResult(dimension.name, f"not more than {margin:.0%} worse, Holm over eight", margin, rise, found.n,
                                  interval, verdict, f"{TITLES[dimension.name]}: {says} (p = {_n(dimension.p_worse)})."))  # fmt: skip
    return tuple(results)


def health(measured: Measured, recipe: GateRecipe) -> GateResult:
    """Nothing is wrong that an average would hide."""
    parts = tuple(check(measured, recipe) for check in (_collapse, _truncation, _dependence, _leakage))
    verdict = verdict_of(parts)
    told = [part.sentence for part in parts if part.verdict == verdict] if verdict != PASS else []
    sentence = " ".join(told) or "No collapse, no cut answers, no leakage, and the answers depend on the photograph."
    passed = sum(part.verdict == PASS for part in parts)
    return GateResult("health", RULES["health"](recipe), float(len(parts)), float(passed), len(parts), None, verdict,
                      sentence, parts)  # fmt: skip


def _collapse(measured: Measured, recipe: GateRecipe) -> GateResult:
    found, name, limit = measured.collapse, "mode_collapse", recipe.modal_share
    rule = f"no score that one dimension gets in {limit:.0%} of the answers or more, unless the advisor does it too"
    if found is None or found.n < recipe.score_photographs:
        return GateResult(name, rule, limit, None, found.n if found else 0, None, INCONCLUSIVE,
                          "Too few answers to see whether scores collapse.")  # fmt: skip
    collapsed = [dimension for dimension in DIMENSIONS
                 if found.modal_share[dimension] >= limit > found.advisor_share[dimension] + 0.1]  # fmt: skip
    worst = max(found.modal_share.values())
    if len(collapsed) > len(DIMENSIONS) // 2 or found.same_answer_share >= limit > found.advisor_same_share + 0.1:
        verdict, says = (
            FAIL,
            f"Scores have collapsed: {_list(collapsed) or 'all eight together'} nearly always get the same score.",
        )
    elif collapsed:
        verdict, says = INCONCLUSIVE, f"Nearly always the same score in {_list(collapsed)}; look at the critiques."
    else:
        verdict, says = PASS, "Scores vary from photograph to photograph."
    return GateResult(name, rule, limit, worst, found.n, None, verdict, says)


def _truncation(measured: Measured, recipe: GateRecipe) -> GateResult:
    name, limit = "truncation", recipe.truncated_share
    rule = f"at most {limit:.0%} of the answers cut by the token limit"
    counts = measured.formats.get("candidate")
    if counts is None or not counts.ran:
        return GateResult(name, rule, limit, None, 0, None, INCONCLUSIVE, "No answer of the candidate was measured.")
    share, low = counts.cut / counts.ran, statistics.rate_lower(counts.cut, counts.ran)
    verdict = PASS if share <= limit else FAIL if low > limit else INCONCLUSIVE
    says = (
        "No answer was cut." if not counts.cut else f"{counts.cut} of {counts.ran} answers were cut at the token limit."
    )
    return GateResult(
        name, rule, limit, share, counts.ran, (low, statistics.rate_upper(counts.cut, counts.ran)), verdict, says
    )


def _dependence(measured: Measured, recipe: GateRecipe) -> GateResult:
    found, name = measured.dependence, "photograph_dependence"
    rule = f"the error rises when the photographs are exchanged (permutation over photographs, p <= {recipe.p_value})"
    if found is None or found.own is None or found.shuffled is None or found.n < recipe.score_photographs:
        return GateResult(name, rule, recipe.p_value, None, found.n if found else 0, None, INCONCLUSIVE,
                          "Too few photographs to see whether the answers depend on them.")  # fmt: skip
    says = f"error {_n(found.own)} with the right photographs, {_n(found.shuffled)} with exchanged ones (p = {_n(found.p)})"
    if found.own >= found.shuffled - 1e-9:
        verdict, start = FAIL, "The answers don't depend on the photograph"
    elif found.p <= recipe.p_value:
        verdict, start = PASS, "The answers depend on the photograph"
    else:
        verdict, start = INCONCLUSIVE, "Not sure that the answers depend on the photograph"
    return GateResult(name, rule, recipe.p_value, found.p, found.n, None, verdict, f"{start}: {says}.")


def _leakage(measured: Measured, recipe: GateRecipe) -> GateResult:
    name, rule = "leakage", "no photograph of the evaluation, nor a variant of it, is in training"
    if measured.leaked is None:
        return GateResult(
            name, rule, 0.0, None, 0, None, INCONCLUSIVE, "What was trained on isn't known, so leakage wasn't checked."
        )
    count = len(measured.leaked)
    shown = ", ".join(measured.leaked[:3]) + (", ..." if count > 3 else "")
    says = (
        f"Trained on {count} of the photographs it is tested with: {shown}." if count else "No photograph is in both."
    )
    return GateResult(name, rule, 0.0, float(count), count, None, FAIL if count else PASS, says)


def seconds(measured: Measured, recipe: GateRecipe) -> GateResult:
    """The absolute time for one photograph; asked for on Metal only."""
    counts, limit = measured.formats.get("candidate"), recipe.seconds_per_photograph
    value = counts.seconds if counts else None
    if counts is None or value is None:
        return _unmeasured("seconds_per_photograph", recipe, limit, "No answer of the candidate was timed.")
    says = f"A critique takes {value:.2f} s (median of {counts.ran} photographs, limit {limit:.1f} s)."
    return GateResult("seconds_per_photograph", RULES["seconds_per_photograph"](recipe), limit, value, counts.ran, None,
                      PASS if value < limit else FAIL, says)  # fmt: skip


GATES: Mapping[str, Callable[[Measured, GateRecipe], GateResult]] = {
    "integrity": integrity,
    "effect": effect,
    "format_compliance": format_compliance,
    "latency_overhead": latency_overhead,
    "score_error": score_error,
    "champion": champion,
    "health": health,
}

RULES: Mapping[str, Callable[[GateRecipe], str]] = {
    "integrity": lambda r: "every LoRA key of the base matched, shapes right, values finite, files and base as recorded",
    "effect": lambda r: f"mean KL(base || adapter) over the tokens of answers >= {r.effect_floor:g} nats",
    "format_compliance": lambda r: (f"unconstrained answers that read strictly: observed >= {r.compliance_observed:.0%} and "
                                    f"exact one-sided 95 % lower bound >= {r.compliance_bound:.0%}"),
    "latency_overhead": lambda r: ("median of paired, interleaved time ratios at equal output length, its upper 95 % bound "
                                   f"< {r.overhead_ratio:.2f}"),
    "score_error": lambda r: (f"squared error at least {r.score_improvement:.0%} below the base's, one-sided p <= {r.p_value:g} "
                              "(sign-flip, paired over photographs); not better: FAIL; between: INCONCLUSIVE"),
    "champion": lambda r: (f"squared error less than {r.non_inferiority_margin:.0%} above the champion's (one-sided p <= "
                           f"{r.p_value:g}, paired); no dimension shown to be worse by more (Holm over eight)"),
    "health": lambda r: "scores haven't collapsed, answers aren't cut, they depend on the photograph, nothing leaked",
    "seconds_per_photograph": lambda r: f"median time of a critique < {r.seconds_per_photograph:g} s (a gate on Metal only)",
}  # fmt: skip


def _unmeasured(name: str, recipe: GateRecipe, threshold: float, sentence: str) -> GateResult:
    return GateResult(name, RULES[name](recipe), threshold, None, 0, None, INCONCLUSIVE, sentence)


def _too_many_missing(found: Comparison, recipe: GateRecipe) -> bool:
    return found.no_answer > recipe.failed_share * (found.n + found.left_out + found.no_answer)


def _missing(found: Comparison, recipe: GateRecipe) -> str:
    """What keeps a better candidate from passing, and what would."""
    assert found.reduction is not None
    if found.reduction < recipe.score_improvement:
        return f"better, but by less than {recipe.score_improvement:.0%}"
    needed = f"; about {found.needed} photographs would show it" if found.needed and found.needed > found.n else ""
    return f"that may be chance (p must be <= {recipe.p_value:g}){needed}"


def _beside(found: Comparison) -> str:
    told = []
    if found.penalised:
        told.append(f"{found.penalised} unreadable answers of the candidate counted with the worst error")
    if found.left_out:
        told.append(f"{found.left_out} photographs left out because the other answer couldn't be read")
    return f" ({'; '.join(told)})" if told else ""


def _reasons(counts: Format) -> str:
    told = ", ".join(f"{reason} {number}" for reason, number in counts.reasons.items())
    return f" ({told})" if told else ""


def _base_rate(base: Format | None, recipe: GateRecipe) -> str:
    if base is None or base.rate is None:
        return ""
    side = "reaches" if base.rate >= recipe.base_compliance else "misses"
    return f" The base's own rate, {base.rate:.1%}, {side} {recipe.base_compliance:.0%}."


def _named(parts: Sequence[GateResult], verdict: Verdict) -> str:
    return _list([part.name for part in parts if part.verdict == verdict])


def _list(names: Sequence[str]) -> str:
    return ", ".join(TITLES.get(name, name).lower() for name in names)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _percent(gain: float) -> str:
    return f"{gain:.1%} lower" if gain > 0 else f"{-gain:.1%} higher" if gain < 0 else "no difference"


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
