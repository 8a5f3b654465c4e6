"""Checks that gates are made of: the parts of health, and the champion's eight dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from mondrian_core.evaluation.gates.messages import BY_FOLDS_PREFIX, untested_message
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    GateMeasurements,
    GateResult,
    deciding_comparison,
    short_number,
)
from mondrian_core.evaluation.measure.contamination import CONTAMINATION_LABELS
from mondrian_core.evaluation.measure.metrics import ArmComparison
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.statistics import intervals


def champion_dimension_results(found: ArmComparison, recipe: GateRecipe) -> tuple[GateResult, ...]:
    """Each dimension against the champion: worse by more than the margin (Holm), maybe, or not shown to be."""
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
        rule = f"not more than {margin:.0%} worse, Holm over eight"
        sentence = f"{DIMENSION_TITLES[dimension.name]}: {says} (p = {short_number(dimension.p_worse)})."
        results.append(
            GateResult(
                name=dimension.name,
                rule=rule,
                threshold=margin,
                observed=rise,
                n=found.n,
                interval=interval,
                verdict=verdict,
                sentence=sentence,
            )
        )
    return tuple(results)


def mode_collapse_check(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Do the scores move at all?"""
    found, name, limit = measured.collapse, "mode_collapse", recipe.modal_share
    rule = f"no score that one dimension gets in {limit:.0%} of the answers or more, unless the advisor does it too"
    if found is None or found.n < recipe.score_photographs:
        return GateResult(
            name=name,
            rule=rule,
            threshold=limit,
            observed=None,
            n=found.n if found else 0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence="Too few answers to see whether scores collapse.",
        )
    collapsed = [
        dimension
        for dimension in DIMENSIONS
        if found.modal_share[dimension] >= limit > found.advisor_share[dimension] + 0.1
    ]
    worst = max(found.modal_share.values())
    if collapsed and not found.advisor_n:
        verdict, says = (
            INCONCLUSIVE,
            f"Nearly always the same score in {dimension_titles(collapsed)}; no critique says if the advisor does it too.",
        )
    elif len(collapsed) > len(DIMENSIONS) // 2 or found.same_answer_share >= limit > found.advisor_same_share + 0.1:
        verdict, says = (
            FAIL,
            f"Scores have collapsed: {dimension_titles(collapsed) or 'all eight together'} nearly always get the same score.",
        )
    elif collapsed:
        verdict, says = (
            INCONCLUSIVE,
            f"Nearly always the same score in {dimension_titles(collapsed)}; look at the critiques.",
        )
    else:
        verdict, says = PASS, "Scores vary from photograph to photograph."
    return GateResult(
        name=name, rule=rule, threshold=limit, observed=worst, n=found.n, interval=None, verdict=verdict, sentence=says
    )


def truncation_check(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Does the model end its answers itself?"""
    name, limit = "truncation", recipe.truncated_share
    rule = f"at most {limit:.0%} of the answers cut by the token limit"
    counts = measured.formats.get("candidate")
    if counts is None or not counts.ran:
        return GateResult(
            name=name,
            rule=rule,
            threshold=limit,
            observed=None,
            n=0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence="No answer of the candidate was measured.",
        )
    share, low = counts.cut / counts.ran, intervals.clopper_pearson_lower(counts.cut, counts.ran)
    verdict = PASS if share <= limit else FAIL if low > limit else INCONCLUSIVE
    says = (
        "No answer was cut." if not counts.cut else f"{counts.cut} of {counts.ran} answers were cut at the token limit."
    )
    return GateResult(
        name=name,
        rule=rule,
        threshold=limit,
        observed=share,
        n=counts.ran,
        interval=(low, intervals.clopper_pearson_upper(counts.cut, counts.ran)),
        verdict=verdict,
        sentence=says,
    )


def repetition_check(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Does it write sentences?"""
    name, limit = "stuttering", recipe.stuttering_share
    rule = f"at most {limit:.0%} of the answers with a word three times in a row, without a word, or otherwise no text"
    if measured.stuttering is None or not measured.stuttering[1]:
        return GateResult(
            name=name,
            rule=rule,
            threshold=limit,
            observed=None,
            n=0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence="No answer of the candidate was measured.",
        )
    count, n = measured.stuttering
    low, high = intervals.clopper_pearson_lower(count, n), intervals.clopper_pearson_upper(count, n)
    verdict = PASS if count / n <= limit else FAIL if low > limit else INCONCLUSIVE
    says = (
        f"{count} of {n} answers say a word or phrase three times in a row, or are no text at all."
        if count
        else "No answer stutters."
    )
    return GateResult(
        name=name,
        rule=rule,
        threshold=limit,
        observed=count / n,
        n=n,
        interval=(low, high),
        verdict=verdict,
        sentence=says,
    )


def image_dependence_check(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Does it look at the photograph?"""
    name = "photograph_dependence"
    found, by_folds = deciding_comparison(measured.dependence, measured.dependence_by_folds, recipe)
    rule = (
        f"the error rises when the photographs are exchanged (permutation over photographs, p <= {recipe.p_value}), "
        f"and looking is worth at least {recipe.dependence_kept:.0%} of what it is worth to the base"
    )
    if found is None or found.own is None or found.shuffled is None or found.n < recipe.score_photographs:
        return GateResult(
            name=name,
            rule=rule,
            threshold=recipe.p_value,
            observed=None,
            n=found.n if found else 0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence="Too few photographs to see whether the answers depend on them.",
        )
    says = f"error {short_number(found.own)} with the right photographs, {short_number(found.shuffled)} with exchanged ones"
    says += f" of the same fold (p = {short_number(found.p)})" if by_folds else f" (p = {short_number(found.p)})"
    if found.own >= found.shuffled - 1e-9:
        verdict, start = FAIL, "The answers don't depend on the photograph"
    elif found.ratio is not None and found.ratio < recipe.dependence_kept:
        sure = found.ratio_upper is not None and found.ratio_upper < recipe.dependence_kept
        verdict = FAIL if sure else INCONCLUSIVE
        start = f"The adapter{'' if sure else ' may have'} unlearned to look"
        says += f"; looking is worth {short_number(found.ratio)} of what it is worth to the base (at most "
        says += f"{short_number(found.ratio_upper)}, 95 %)"
    elif found.p <= recipe.p_value:
        verdict, start = PASS, "The answers depend on the photograph"
    else:
        verdict, start = INCONCLUSIVE, "Not sure that the answers depend on the photograph"
    whose = f"{BY_FOLDS_PREFIX}: {start[0].lower()}{start[1:]}" if by_folds else start
    return GateResult(
        name=name,
        rule=rule,
        threshold=recipe.p_value,
        observed=found.p,
        n=found.n,
        interval=None,
        verdict=verdict,
        sentence=f"{whose}: {says}.",
    )


def metamorphic_check(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Does it judge a spoilt copy the right way round, and one that looks the same the same?"""
    name, limit = "edited_copies", recipe.violated_share
    rule = (
        f"no edit (blurred, tilted, dark, invisible) judged the wrong way round on surely more than {limit:.0%} of the "
        "photographs (exact, Bonferroni over four) unless the base does so as often"
    )
    found = {edit: each for edit, each in (measured.edits or {}).items() if each["n"]}
    inherited = {edit: each["rate"] or 0.0 for edit, each in (measured.base_edits or {}).items()}
    if not found:
        return GateResult(
            name=name,
            rule=rule,
            threshold=limit,
            observed=None,
            n=0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence="No edited copy could be judged.",
        )
    confidence = 1 - 0.05 / len(found)
    wrong = [
        each
        for edit, each in found.items()
        if intervals.clopper_pearson_lower(each["broken"], each["n"], confidence) > limit
        and each["broken"] / each["n"] > inherited.get(edit, 0.0)
    ]
    broken, n = sum(each["broken"] for each in found.values()), sum(each["n"] for each in found.values())
    told = ", ".join(
        f"{edit} {each['broken']} of {each['n']}{_of_base(edit, measured)}" for edit, each in found.items()
    )
    says = f"Wrong way round: {told}."
    if wrong:
        says = f"It doesn't hold that {'; '.join(each['says'] for each in wrong)}. {says}"
    return GateResult(
        name=name,
        rule=rule,
        threshold=limit,
        observed=broken / n,
        n=n,
        interval=None,
        verdict=FAIL if wrong else PASS,
        sentence=says,
    )


def _of_base(edit: str, measured: GateMeasurements) -> str:
    each = (measured.base_edits or {}).get(edit)
    return f" (base {each['broken']})" if each and each["n"] else ""


def contamination_check(measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
    """Was it known before what it is tested with? Where the folds decide, that goes for their photographs too."""
    name = "leakage"
    rule = "no photograph of the evaluation is in training, looks like one that is, or is quoted in the prompt"
    if measured.leaked is None:
        return GateResult(
            name=name,
            rule=rule,
            threshold=0.0,
            observed=None,
            n=0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence="What was trained on isn't known, so leakage wasn't checked.",
        )
    by_folds = deciding_comparison(measured.against_base, measured.by_folds, recipe)[1]
    if measured.untested is not None and not by_folds:
        return GateResult(
            name=name,
            rule=rule,
            threshold=0.0,
            observed=None,
            n=0,
            interval=None,
            verdict=INCONCLUSIVE,
            sentence=f"{untested_message(measured)}.",
        )
    found = dict((*measured.leaked, *(measured.fold_leaked if by_folds else ())))
    count = len(found)
    shown = ", ".join(f"{photograph} ({CONTAMINATION_LABELS[how]})" for photograph, how in list(found.items())[:3])
    more = ", ..." if count > 3 else ""
    says = f"{count} of the photographs it is tested with were known before: {shown}{more}."
    fine = "No photograph of the test was known before."
    if by_folds:
        fine = "No photograph of a fold was known to the adapter that judged it."
    return GateResult(
        name=name,
        rule=rule,
        threshold=0.0,
        observed=float(count),
        n=count,
        interval=None,
        verdict=FAIL if count else PASS,
        sentence=says if count else fine,
    )


def dimension_titles(names: Sequence[str]) -> str:
    """Names of dimensions for a sentence."""
    return ", ".join(DIMENSION_TITLES.get(name, name).lower() for name in names)
