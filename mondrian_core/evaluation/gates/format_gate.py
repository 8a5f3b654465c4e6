"""The gate about the format of the answers. The workspace's own photographs decide; rendered ones only fill up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mondrian_core.evaluation.gates.gate import Gate, Judgement
from mondrian_core.evaluation.gates.invalid_answers import invalid_answers_cause
from mondrian_core.evaluation.gates.messages import own_photographs_note
from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS, Cause, GateMeasurements, Verdict
from mondrian_core.evaluation.measure.metrics import FormatStatistics
from mondrian_core.recipes import GateRecipe
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics import intervals


@dataclass(frozen=True)
class _Rate:
    """Strictly valid answers among those that ran, with exact one-sided 95 % bounds."""

    valid: int
    ran: int

    @property
    def share(self) -> float:
        return self.valid / self.ran if self.ran else 0.0

    @property
    def low(self) -> float:
        return intervals.clopper_pearson_lower(self.valid, self.ran)

    @property
    def high(self) -> float:
        return intervals.clopper_pearson_upper(self.valid, self.ran)


def format_is_lost(
    own: FormatStatistics, others: FormatStatistics, planned: tuple[int, int], recipe: GateRecipe
) -> bool:
    """True when the gate fails even if every answer that is still to come is strictly valid.

    Args:
        own: the answers so far about the workspace's own photographs.
        others: those about other photographs.
        planned: numbers of photographs, own and others, that will have been asked about.
        recipe: the thresholds.
    """
    return _at_best(own, others, planned, recipe)[0] == FAIL


def _at_best(
    own: FormatStatistics | None, others: FormatStatistics | None, planned: tuple[int, int], recipe: GateRecipe
) -> tuple[Verdict, _Rate]:
    """The verdict, and the deciding rate, if every answer that is still to come is strictly valid."""
    mine, rest = (
        _Rate(counts.valid + to_come, counts.ran + to_come) if counts else _Rate(wanted, wanted)
        for counts, wanted in zip((own, others), planned, strict=True)
        for to_come in [max(0, wanted - counts.asked) if counts else wanted]
    )
    filled = _Rate(mine.valid + rest.valid, mine.ran + rest.ran)
    deciding = mine if _is_enough(mine, filled, recipe) else filled
    return _verdict(mine, deciding, recipe)[0], mine if mine.ran else filled


def _is_enough(mine: _Rate, filled: _Rate, recipe: GateRecipe) -> bool:
    """True when the own photographs decide by themselves."""
    return mine.low >= recipe.compliance_bound or filled.ran == mine.ran


def _judge_format_compliance(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The answers parse under the strict reader."""
    own = measured.own_formats.get(CANDIDATE)
    others = measured.formats_of_others.get(CANDIDATE)
    counts = [each for each in (own, others) if each is not None]
    if not any(each.ran for each in counts):
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence="The candidate gave no answers to measure.",
            cause=Cause.NO_ANSWER if counts else Cause.NOT_MEASURED,
        )
    mine = _Rate(own.valid, own.ran) if own else _Rate(0, 0)
    filled = _Rate(sum(each.valid for each in counts), sum(each.ran for each in counts))
    enough = _is_enough(mine, filled, recipe)
    asked = sum(each.asked for each in ([own] if own and enough else counts))
    unanswered = asked - (mine.ran if enough else filled.ran)
    verdict, cause, why = _verdict(mine, mine if enough else filled, recipe)
    if verdict == PASS and unanswered > recipe.failed_share * asked:
        verdict, cause = INCONCLUSIVE, Cause.NO_ANSWER
        why = f"; {unanswered} of {asked} photographs got no answer"
    counted = own.reasons if own and enough else _added(counts)
    says = _statement(mine, filled, enough, measured)
    if measured.planned is not None:
        verdict, cause, why = _verdict_when_stopped(own, others, measured.planned, recipe)
    if verdict == FAIL:
        cause = invalid_answers_cause(counted, measured.samples)
    return Judgement(
        verdict=verdict,
        sentence=f"{says}{why}{_reasons(counted)}.{_base_rate(measured, recipe)}",
        observed=mine.share if mine.ran else filled.share,
        n=mine.ran,
        interval=(mine.low, mine.high) if mine.ran else (filled.low, filled.high),
        cause=cause,
    )


def _verdict(own: _Rate, deciding: _Rate, recipe: GateRecipe) -> tuple[Verdict, Cause | None, str]:
    """The verdict, its cause, and the reason as the end of a sentence.

    Args:
        own: the answers about the workspace's own photographs.
        deciding: the same where they reach the bound by themselves; otherwise with the others, which fill up.
        recipe: the thresholds.
    """
    observed, bound = recipe.compliance_observed, recipe.compliance_bound
    needed = intervals.perfect_trials_needed(bound)
    bad = own.ran > 0 and own.share < observed
    all_bad = deciding.share < observed and (deciding.ran >= needed or deciding.high < observed)
    if (bad and (all_bad or own.ran >= needed or own.high < observed)) or (not own.ran and deciding.high < observed):
        return FAIL, None, f", fewer than {observed:.0%}"
    if missing := _missing(own, deciding, recipe):
        return INCONCLUSIVE, Cause.TOO_FEW, f"; {missing}"
    if deciding.low < bound:
        return INCONCLUSIVE, Cause.UNCERTAIN, f"; the bound must reach {bound:.0%}"
    return PASS, None, ""


def _verdict_when_stopped(
    own: FormatStatistics | None, others: FormatStatistics | None, planned: tuple[int, int], recipe: GateRecipe
) -> tuple[Verdict, Cause | None, str]:
    """`_verdict` of an evaluation that stopped early: it fails only if no answer that is missing could change that."""
    verdict, best = _at_best(own, others, planned, recipe)
    if verdict != FAIL:  # another recipe than the one that stopped it
        return INCONCLUSIVE, Cause.NOT_MEASURED, "; the evaluation stopped early under stricter thresholds"
    return (
        FAIL,
        None,
        f"; the evaluation stopped there: even if all others were valid, {best.valid} of {best.ran} "
        f"({best.share:.1%}) would be fewer than {recipe.compliance_observed:.0%}",
    )


def _missing(own: _Rate, deciding: _Rate, recipe: GateRecipe) -> str:
    """What own photographs are missing for, as the end of a sentence; "" when there are enough."""
    observed, needed = recipe.compliance_observed, intervals.perfect_trials_needed(recipe.compliance_bound)
    if own.ran < recipe.own_photographs:
        return f"at least {recipe.own_photographs} own photographs are needed"
    if own.share < observed:
        return f"at least {observed:.0%} of the answers about own photographs must be valid"
    if deciding.ran < needed:
        return f"at least {needed} photographs are needed"
    if deciding.share < observed:
        return "with so many invalid answers about the others, more own photographs are needed"
    return ""


def _statement(own: _Rate, filled: _Rate, enough: bool, measured: GateMeasurements) -> str:
    """The counts: those of the own photographs, and apart from them those of the others."""
    others = _Rate(filled.valid - own.valid, filled.ran - own.ran)
    about = " about own photographs" if others.ran else ""
    says = f"{own.valid} of {own.ran} answers{about} are strictly valid"
    if own.ran:
        says += f" ({own.share:.1%}, lower bound {own.low:.1%})"
    says += own_photographs_note(measured)
    if not others.ran:
        return says
    kind = measured.other_photographs
    if enough:
        return f"{says}; {others.valid} of {others.ran} about {kind}, which don't count"
    return f"{says}; with {others.valid} of {others.ran} about {kind} the lower bound is {filled.low:.1%}"


def _added(counts: list[FormatStatistics]) -> Mapping[str, int]:
    reasons: dict[str, int] = {}
    for each in counts:
        for reason, number in each.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + number
    return reasons


def _reasons(counted: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{reason} {number}" for reason, number in counted.items())
    return f" ({reasons})" if reasons else ""


def _base_rate(measured: GateMeasurements, recipe: GateRecipe) -> str:
    base = measured.own_formats.get(BASE)
    if base is None or base.rate is None:
        base = measured.formats.get(BASE)
    if base is None or base.rate is None:
        return ""
    comparison = "reaches" if base.rate >= recipe.base_compliance else "misses"
    return f" The base's own rate, {base.rate:.1%}, {comparison} {recipe.base_compliance:.0%}."


FORMAT_COMPLIANCE = Gate(
    name="format_compliance",
    rule="unconstrained answers about own photographs that are strictly valid: observed >= "
    "{gates.compliance_observed:.0%} and exact one-sided 95 % lower bound >= {gates.compliance_bound:.0%}; where "
    "at least {gates.own_photographs} are too few for the bound, rendered photographs fill up",
    fails_when="observed < {gates.compliance_observed:.0%}; with fewer own photographs, if their upper bound or all "
    "photographs together show it too",
    inconclusive_when="fewer than {gates.own_photographs} own photographs; the lower bound is too low; even a perfect "
    "result on so few photographs could not reach it; more than {gates.failed_share:.0%} of the photographs got no "
    "answer",
    recipe_fields=("compliance_observed", "compliance_bound", "own_photographs", "base_compliance", "failed_share"),
    judge=_judge_format_compliance,
    next_steps={
        FAIL: "Read the invalid answers in the report. Train longer.",
        INCONCLUSIVE: "Read the invalid answers in the report, and evaluate on more photographs.",
    },
    steps_by_cause={
        Cause.TOO_FEW: "Put more of your photographs into source/ of the workspace, without critiques, and evaluate "
        "again. If they are there already, raise evaluate.compliance_photographs.",
        Cause.LOOPS: "Most invalid answers repeat the same words without end: train fewer epochs or at a lower "
        "learning rate, and look for phrases that many critiques share.",
        Cause.CUT: "Most invalid answers reach the token limit: raise evaluate.max_tokens, or teach shorter comments.",
        Cause.PROSE: "Most invalid answers are not the rubric's JSON: train longer. If the base's own rate is high, "
        "the training broke the form: lower the learning rate.",
        Cause.WRONG_KEYS: "Most invalid answers are JSON with other keys than the rubric's: see whether the advisor's "
        "own prompt asks for another form or language, then train longer.",
        Cause.OTHER_SCRIPT: "Most invalid answers are in another script than the critiques: see which language the "
        "advisor's own prompt asks for, then train longer.",
        Cause.WRONG_VALUES: "Most invalid answers have the right form, but scores, comments or grades that don't fit "
        "it: read them in the report, then train longer.",
    },
    judges_stopped=True,
)
