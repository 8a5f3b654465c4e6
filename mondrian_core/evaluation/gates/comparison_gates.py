"""The gates about score errors in pairs: better than the base, and not worse than the champion."""

from __future__ import annotations

from collections.abc import Sequence

from mondrian_core.evaluation.gates.gate import Gate, Judgement, Requirement
from mondrian_core.evaluation.gates.messages import (
    dimension_titles,
    folds_prefix,
    not_compared_message,
    too_few_new_message,
    untested_message,
)
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
from mondrian_core.evaluation.measure.metrics import ArmComparison
from mondrian_core.evaluation.measure.pooled_evidence import LookEvidence
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS

_TOO_FEW = "fewer than {gates.score_photographs} paired photographs"


def _judge_score_error(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The candidate is closer to the advisor than the base is.

    Where too few photographs are held out, cross-validation of the recipe decides instead.
    """
    compared, by_folds = deciding_comparison(measured.against_base, measured.by_folds, recipe)
    if compared is None or compared.reduction is None:
        no_pair = "No photograph could be compared with the base"
        why = no_pair if measured.untested is None else untested_message(measured)
        return Judgement(verdict=INCONCLUSIVE, sentence=f"{why}.", cause=no_pair_cause(compared, measured))
    gain, look = compared.reduction, _look_of(measured, compared, recipe)
    if compared.n < recipe.score_photographs:
        verdict, why = INCONCLUSIVE, f"; at least {recipe.score_photographs} photographs are needed"
    elif gain <= 0:
        verdict, why = FAIL, "; it is not better"
    elif too_many_unanswered(compared, recipe):
        verdict, why = INCONCLUSIVE, f"; {compared.no_answer} photographs got no answer"
    elif gain >= recipe.score_improvement and compared.p_better <= recipe.p_value and look.passes:
        verdict, why = PASS, ""
    else:
        verdict, why = INCONCLUSIVE, f"; {_what_is_missing(compared, gain, recipe)}"
    says = (
        f"{folds_prefix(measured) if by_folds else ''}Squared error {short_number(compared.error_ours)} against the "
        f"base's {short_number(compared.error_theirs)}: {_percent(gain)} on {compared.n} photographs, "
        f"p = {short_number(compared.p_better)}{_missing_scores(compared)}"
    )
    return Judgement(
        verdict=verdict,
        sentence=f"{says}{why}. {_look_sentence(look)}{_detectable(compared)}",
        observed=gain,
        n=compared.n,
        interval=compared.interval,
        cause=undecided_cause(verdict, compared, recipe),
    )


def _judge_champion(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The candidate is not worse than the champion, on photographs that neither was trained on."""
    if not measured.has_champion:
        return Judgement(verdict=PASS, sentence="There is no champion to compare with.")
    compared, by_folds = deciding_comparison(measured.against_champion, measured.champion_by_folds, recipe)
    if compared is None or compared.reduction is None:
        if compared is not None and compared.n and compared.error_ours == 0:
            return Judgement(verdict=PASS, sentence="Neither makes any error.", observed=0.0, n=compared.n)
        cause = no_pair_cause(compared, measured)
        return Judgement(verdict=INCONCLUSIVE, sentence=not_compared_message(measured, recipe), cause=cause)
    parts = champion_dimension_results(compared, recipe)
    verdict, why = _non_inferiority(measured, compared, parts, recipe)
    says = (
        f"{folds_prefix(measured) if by_folds else ''}Squared error {short_number(compared.error_ours)} against the "
        f"champion's {short_number(compared.error_theirs)} on {compared.n} photographs: "
        f"{_percent(compared.reduction)}{_missing_scores(compared)}"
    )
    return Judgement(
        verdict=verdict,
        sentence=f"{says}{why}.",
        observed=-compared.reduction,
        n=compared.n,
        interval=(-compared.interval[1], -compared.interval[0]) if compared.interval else None,
        parts=parts,
        cause=undecided_cause(verdict, compared, recipe),
    )


def no_pair_cause(compared: ArmComparison | None, measured: GateMeasurements) -> Cause:
    """Why no photograph could be compared."""
    if compared is not None and (compared.no_answer or compared.left_out):
        return Cause.NO_ANSWER
    return Cause.NOT_MEASURED if compared is None and measured.untested is None else Cause.TOO_FEW


def undecided_cause(verdict: Verdict, compared: ArmComparison, recipe: GateRecipe) -> Cause | None:
    """Why a comparison is INCONCLUSIVE."""
    if verdict != INCONCLUSIVE:
        return None
    if compared.n < recipe.score_photographs:
        asked = compared.n + compared.no_answer + compared.left_out
        return Cause.NO_ANSWER if asked >= recipe.score_photographs else Cause.TOO_FEW
    return Cause.NO_ANSWER if too_many_unanswered(compared, recipe) else Cause.UNCERTAIN


def _non_inferiority(
    measured: GateMeasurements, compared: ArmComparison, parts: Sequence[GateResult], recipe: GateRecipe
) -> tuple[Verdict, str]:
    """The verdict, and the reason as the end of a sentence."""
    margin, p_value = recipe.non_inferiority_margin, short_number(compared.p_not_inferior)
    worse, doubtful = _titles_with(parts, FAIL), _titles_with(parts, INCONCLUSIVE)
    if compared.n < recipe.score_photographs:
        return INCONCLUSIVE, f"; {too_few_new_message(compared.n, measured, recipe)}"
    if compared.reduction is not None and compared.reduction < 0 and compared.p_worse <= recipe.p_value:
        return FAIL, f"; it is worse (p = {short_number(compared.p_worse)})"
    if worse:
        return FAIL, f"; it is worse in {worse}"
    if too_many_unanswered(compared, recipe):
        return INCONCLUSIVE, f"; {compared.no_answer} photographs got no answer"
    verdict, reason = PASS, f"at most {margin:.0%} worse (p = {p_value}) and no dimension is shown to be worse"
    if compared.reduction is not None and compared.reduction < 0:
        verdict, reason = INCONCLUSIVE, "it must not be above the champion's"
    elif compared.p_not_inferior > recipe.p_value:
        verdict, reason = INCONCLUSIVE, f"not shown to be less than {margin:.0%} worse (p = {p_value})"
    elif doubtful:
        verdict, reason = INCONCLUSIVE, f"it may be worse in {doubtful}"
    return verdict, f"; {reason}"


def _judge_best_champion(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The candidate is not worse than the best champion so far, on photographs that neither was trained on."""
    compared, by_folds = deciding_comparison(measured.against_best, measured.best_by_folds, recipe)
    name, margin = measured.best_champion, recipe.best_champion_margin
    if compared is None or compared.reduction is None:
        if compared is not None and compared.n and compared.error_ours == 0:
            return Judgement(verdict=PASS, sentence="Neither makes any error.", observed=0.0, n=compared.n)
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence=f"No photograph could be compared with {name}, the best champion so far.",
            cause=no_pair_cause(compared, measured),
        )
    p_value = short_number(compared.p_not_inferior)
    if compared.n < recipe.score_photographs:
        verdict, why = INCONCLUSIVE, f"; at least {recipe.score_photographs} photographs are needed"
    elif compared.reduction < 0 and compared.p_worse <= recipe.p_value:
        verdict, why = FAIL, f"; it is worse (p = {short_number(compared.p_worse)})"
    elif too_many_unanswered(compared, recipe):
        verdict, why = INCONCLUSIVE, f"; {compared.no_answer} photographs got no answer"
    elif compared.p_not_inferior > recipe.p_value:
        verdict, why = INCONCLUSIVE, f"; not shown to be less than {margin:.0%} worse (p = {p_value})"
    else:
        verdict, why = PASS, f"; less than {margin:.0%} worse (p = {p_value})"
    says = (
        f"{folds_prefix(measured) if by_folds else ''}Squared error {short_number(compared.error_ours)} against "
        f"{short_number(compared.error_theirs)} of {name}, the best champion so far, on {compared.n} photographs: "
        f"{_percent(compared.reduction)}"
    )
    return Judgement(
        verdict=verdict,
        sentence=f"{says}{why}.",
        observed=-compared.reduction,
        n=compared.n,
        interval=(-compared.interval[1], -compared.interval[0]) if compared.interval else None,
        cause=undecided_cause(verdict, compared, recipe),
    )


def champion_dimension_results(compared: ArmComparison, recipe: GateRecipe) -> tuple[GateResult, ...]:
    """Each dimension against the champion: worse by more than the margin (Holm), possibly worse, or neither."""
    margin, results = recipe.non_inferiority_margin, []
    for dimension in compared.dimensions:
        if compared.n < recipe.score_photographs:
            verdict, says = INCONCLUSIVE, "too few photographs"
        elif dimension.p_worse_holm <= recipe.p_value:
            verdict, says = FAIL, "worse by more than the margin"
        elif dimension.p_worse <= recipe.p_value:
            verdict, says = INCONCLUSIVE, "may be worse by more than the margin"
        else:
            verdict, says = PASS, "not shown to be worse"
        results.append(
            GateResult(
                name=dimension.name,
                rule=f"not more than {margin:.0%} worse, Holm over {len(DIMENSIONS)} dimensions",
                threshold=margin,
                observed=-dimension.reduction if dimension.reduction is not None else None,
                n=compared.n,
                interval=(-dimension.interval[1], -dimension.interval[0]) if dimension.interval else None,
                verdict=verdict,
                sentence=f"{DIMENSION_TITLES[dimension.name]}: {says} (p = {short_number(dimension.p_worse)}).",
            )
        )
    return tuple(results)


def _score_error_steps(measured: GateMeasurements, recipe: GateRecipe) -> list[str]:
    """How small an improvement these photographs can show, and how a small set can get a verdict."""
    compared, _ = deciding_comparison(measured.against_base, measured.by_folds, recipe)
    steps = []
    if compared and compared.detectable:
        steps.append(
            f"With {compared.n} photographs of this spread, an error reduction below {compared.detectable:.0%} usually "
            "can't be distinguished from chance."
        )
    if measured.by_folds is None and (compared or measured.untested is not None):
        steps.append("On a small set, use --folds 5: it retrains the recipe five times, so every critique counts.")
    return steps


SCORE_ERROR = Gate(
    name="score_error",
    rule="squared error at least {gates.score_improvement:.0%} below the base's and one-sided p <= {gates.p_value:g} "
    "(sign-flip test, paired over photographs); together with the year's earlier candidates p <= the level of this "
    "look, so that a year of looks errs with probability {gates.yearly_level:g} at most",
    fails_when="not better than the base",
    inconclusive_when=f"{_TOO_FEW} (those of the folds count if the recipe has folds); better by less than required, "
    "or possibly by chance; the year's looks don't show it yet, or are spent",
    recipe_fields=(
        "score_improvement",
        "p_value",
        "yearly_level",
        "first_look_level",
        "looks_per_year",
        "score_photographs",
        "failed_share",
    ),
    judge=_judge_score_error,
    next_steps={
        FAIL: "The base is at least as close to the advisor: add critiques or change the training settings.",
        INCONCLUSIVE: "Add critiques by this advisor to make the comparison more certain.",
    },
    further_steps=_score_error_steps,
)
CHAMPION_COMPARISON = Gate(
    name="champion",
    rule="observed squared error not above the champion's, and shown to be less than "
    "{gates.non_inferiority_margin:.0%} above it (one-sided p <= {gates.p_value:g}, paired over photographs), and no "
    f"dimension shown to be worse by more (Holm over {len(DIMENSIONS)})",
    fails_when="shown to be worse overall (p <= {gates.p_value:g}), or by more than the margin in a dimension (Holm)",
    inconclusive_when=f"{_TOO_FEW} that neither was trained on (folds as above); above the champion's, or the margin "
    "is not shown; a dimension may be worse by more than the margin (p <= {gates.p_value:g} before Holm)",
    recipe_fields=("non_inferiority_margin", "p_value", "score_photographs", "failed_share"),
    judge=_judge_champion,
    next_steps={
        FAIL: "The champion stays.",
        INCONCLUSIVE: "The champion stays unless a person decides otherwise; compare the photographs in the report.",
    },
    required=Requirement.WITH_CHAMPION,
)


BEST_CHAMPION_COMPARISON = Gate(
    name="best_champion",
    rule="squared error less than {gates.best_champion_margin:.0%} above that of the best champion so far (one-sided "
    "p <= {gates.p_value:g}, paired over photographs), so that a chain of slightly worse champions can't form",
    fails_when="shown to be worse (p <= {gates.p_value:g})",
    inconclusive_when=f"{_TOO_FEW} that neither was trained on (folds as above); the margin is not shown",
    recipe_fields=("best_champion_margin", "p_value", "score_photographs", "failed_share"),
    judge=_judge_best_champion,
    applies=lambda measured: measured.has_champion and measured.best_champion is not None,
    next_steps={
        FAIL: "The champion stays; an earlier champion was better than this candidate.",
        INCONCLUSIVE: "The champion stays until a candidate is shown to be as good as the best one so far.",
    },
    required=Requirement.IF_MEASURED,
)


def _look_of(measured: GateMeasurements, compared: ArmComparison, recipe: GateRecipe) -> LookEvidence:
    """The look; where no registry counts looks, this comparison alone at the level of a first look."""
    if measured.look is not None:
        return measured.look
    return LookEvidence(
        number=None,
        level=recipe.first_look_level,
        spent=recipe.first_look_level,
        yearly_level=recipe.yearly_level,
        photographs=compared.n,
        fresh=compared.n,
        candidates=1,
        p_value=compared.p_better,
    )


def _look_sentence(look: LookEvidence) -> str:
    """Which look this is and what it cost."""
    level = f"this look may pass at p <= {short_number(look.level)}"
    if look.number is None:
        return (
            f"No registry counts the looks at this adapter, so {level}, the level of a first look, and the result "
            "can't promote it."
        )
    if not look.level:
        return f"Look {look.number} of the year: the looks of this year are spent, so this one can't pass."
    pooled = ""
    if look.candidates > 1:
        earlier = "the earlier candidate" if look.candidates == 2 else f"the {look.candidates - 1} earlier candidates"
        pooled = f" (p = {short_number(look.p_value)} with {earlier} of the year)"
    return (
        f"Look {look.number} of the year: {level}{pooled}; {short_number(look.spent)} of the year's "
        f"{short_number(look.yearly_level)} is spent; {look.fresh} of {look.photographs} photographs are new."
    )


def too_many_unanswered(compared: ArmComparison, recipe: GateRecipe) -> bool:
    """True when more photographs got no answer than the recipe tolerates (`failed_share`)."""
    return compared.no_answer > recipe.failed_share * (compared.n + compared.left_out + compared.no_answer)


def _what_is_missing(compared: ArmComparison, gain: float, recipe: GateRecipe) -> str:
    """Why a better candidate does not pass yet."""
    if gain < recipe.score_improvement:
        return f"better, but by less than {recipe.score_improvement:.0%}"
    enough = f"; about {compared.needed} photographs would show it" if (compared.needed or 0) > compared.n else ""
    if compared.p_better <= recipe.p_value:
        return "the looks of this year don't show it yet"
    return f"this may be chance (p must be <= {recipe.p_value:g}){enough}"


def _detectable(compared: ArmComparison) -> str:
    if compared.detectable is None:
        return ""
    return f" {compared.n} photographs of this spread usually show a reduction of {compared.detectable:.0%} or more."


def _missing_scores(compared: ArmComparison) -> str:
    notes = []
    if compared.penalised:
        notes.append(f"{compared.penalised} answers of the candidate lack scores and count with the largest error")
    if compared.left_out:
        notes.append(f"{compared.left_out} photographs left out because the other answer lacks scores")
    return f" ({'; '.join(notes)})" if notes else ""


def _titles_with(parts: Sequence[GateResult], verdict: Verdict) -> str:
    return dimension_titles([part.name for part in parts if part.verdict == verdict])


def _percent(gain: float) -> str:
    return f"{gain:.1%} lower" if gain > 0 else f"{-gain:.1%} higher" if gain < 0 else "no difference"
