"""The health gate and its checks: faults that an average of scores would hide."""

from __future__ import annotations

from mondrian_core.evaluation.gates.gate import Check, Gate, Judgement
from mondrian_core.evaluation.gates.messages import BY_FOLDS_PREFIX, dimension_titles, untested_message
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Cause,
    GateMeasurements,
    Verdict,
    deciding_comparison,
    overall_verdict,
    short_number,
)
from mondrian_core.evaluation.measure.contamination import CONTAMINATION_LABELS
from mondrian_core.evaluation.measure.metamorphic import METAMORPHIC_RELATIONS
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import CANDIDATE
from mondrian_core.statistics import intervals

ADVISOR_MARGIN = 0.1  # how much more frequent than the advisor's the most frequent score of a dimension may be
_NO_ANSWER = "The candidate gave no answers to measure."


def _judge_mode_collapse(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The scores vary between photographs."""
    seen, limit = measured.collapse, recipe.modal_share
    if seen is None or seen.n < recipe.score_photographs:
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence="Too few answers about own photographs to detect a collapse of the scores.",
            n=seen.n if seen else 0,
            cause=Cause.TOO_FEW if seen else Cause.NOT_MEASURED,
        )
    collapsed = [
        dimension
        for dimension in DIMENSIONS
        if seen.modal_share[dimension] >= limit > seen.advisor_share[dimension] + ADVISOR_MARGIN
    ]
    names = dimension_titles(collapsed)
    all_collapsed = seen.same_answer_share >= limit > seen.advisor_same_share + ADVISOR_MARGIN
    verdict: Verdict
    if collapsed and not seen.advisor_n:
        verdict = INCONCLUSIVE
        says = f"Nearly always the same score in {names}; no critique says whether the advisor does the same."
    elif len(collapsed) > len(DIMENSIONS) // 2 or all_collapsed:
        verdict = FAIL
        says = f"Scores have collapsed: {names or 'all dimensions together'} nearly always get the same score."
    elif collapsed:
        verdict, says = INCONCLUSIVE, f"Nearly always the same score in {names}; read the critiques."
    else:
        verdict, says = PASS, "Scores vary from photograph to photograph."
    return Judgement(verdict=verdict, sentence=says, observed=max(seen.modal_share.values()), n=seen.n)


def _judge_rate(count: int, n: int, limit: float, sentence: str) -> Judgement:
    """PASS up to the limit; FAIL when the exact lower 95 % bound is above it."""
    low, high = intervals.clopper_pearson_lower(count, n), intervals.clopper_pearson_upper(count, n)
    verdict = PASS if count / n <= limit else FAIL if low > limit else INCONCLUSIVE
    cause = Cause.UNCERTAIN if verdict == INCONCLUSIVE else None
    return Judgement(verdict=verdict, sentence=sentence, observed=count / n, n=n, interval=(low, high), cause=cause)


def _no_own_answer(measured: GateMeasurements) -> Judgement:
    """The judgement where no own photograph got an answer; rendered ones can't take their place."""
    others = measured.formats_of_others.get(CANDIDATE)
    if others is not None and others.ran and not measured.own_formats.get(CANDIDATE):
        says = "Only rendered photographs were asked about, none of the workspace's own."
        return Judgement(verdict=INCONCLUSIVE, sentence=says, cause=Cause.TOO_FEW)
    cause = Cause.NO_ANSWER if measured.formats.get(CANDIDATE) else Cause.NOT_MEASURED
    return Judgement(verdict=INCONCLUSIVE, sentence=_NO_ANSWER, cause=cause)


def _judge_truncation(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The model ends its answers itself."""
    counts = measured.own_formats.get(CANDIDATE)
    if counts is None or not counts.ran:
        return _no_own_answer(measured)
    others = measured.formats_of_others.get(CANDIDATE)
    apart = f" ({others.cut} of {others.ran} about {measured.other_photographs})" if others and others.cut else ""
    says = f"{counts.cut or 'None'} of {counts.ran} answers were truncated at the token limit or as a loop{apart}."
    return _judge_rate(counts.cut, counts.ran, recipe.truncated_share, says)


def _judge_repetition(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The model writes sentences."""
    if measured.stuttering is None or not measured.stuttering[1]:
        return _no_own_answer(measured)
    count, n = measured.stuttering
    says = f"{count} of {n} answers repeat a word or phrase three times in a row, or contain no text."
    return _judge_rate(count, n, recipe.stuttering_share, says if count else "No answer is repetitive.")


def _judge_image_dependence(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The answers depend on the photograph, nearly as much as the base's do."""
    seen, by_folds = deciding_comparison(measured.dependence, measured.dependence_by_folds, recipe)
    if seen is None or seen.own is None or seen.shuffled is None or seen.n < recipe.score_photographs:
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence="Too few photographs to detect whether the answers depend on them.",
            n=seen.n if seen else 0,
            cause=Cause.TOO_FEW,
        )
    share = ""
    if seen.own >= seen.shuffled - 1e-9:
        verdict, says = FAIL, "The answers don't depend on the photograph"
    elif seen.ratio is not None and seen.ratio < recipe.dependence_kept:
        certain = seen.ratio_upper is not None and seen.ratio_upper < recipe.dependence_kept
        verdict = FAIL if certain else INCONCLUSIVE
        says = f"The adapter {'depends' if certain else 'may depend'} less on the photograph than the base"
        share = f"; its image dependence is {short_number(seen.ratio)} of the base's (95 % upper bound "
        share += f"{short_number(seen.ratio_upper)})"
    elif seen.p <= recipe.p_value:
        verdict, says = PASS, "The answers depend on the photograph"
    else:
        verdict, says = INCONCLUSIVE, "It is not certain that the answers depend on the photograph"
    if by_folds:
        says = f"{BY_FOLDS_PREFIX}: {says[0].lower()}{says[1:]}"
    exchanged = f"exchanged ones{' of the same fold' if by_folds else ''}"
    says += (
        f": error {short_number(seen.own)} with the right photographs, {short_number(seen.shuffled)} with {exchanged}"
    )
    sentence = f"{says} (p = {short_number(seen.p)}){share}."
    return Judgement(verdict=verdict, sentence=sentence, observed=seen.p, n=seen.n)


def _judge_metamorphic(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """Damaged copies don't gain, and copies that look the same get the same scores."""
    tested = {edit: counts for edit, counts in (measured.edits or {}).items() if counts["n"]}
    if not tested:
        return Judgement(verdict=INCONCLUSIVE, sentence="No edited copy could be judged.", cause=Cause.NOT_MEASURED)
    base = {edit: counts for edit, counts in (measured.base_edits or {}).items() if counts["n"]}
    confidence = 1 - 0.05 / len(tested)
    violated = [
        counts["says"]
        for edit, counts in tested.items()
        if intervals.clopper_pearson_lower(counts["broken"], counts["n"], confidence) > recipe.violated_share
        and counts["broken"] / counts["n"] > (base[edit]["rate"] or 0.0 if edit in base else 0.0)
    ]
    rates = [
        f"{edit} {counts['broken']} of {counts['n']}" + (f" (base {base[edit]['broken']})" if edit in base else "")
        for edit, counts in tested.items()
    ]
    broken, n = (sum(counts[key] for counts in tested.values()) for key in ("broken", "n"))
    return Judgement(
        verdict=FAIL if violated else PASS,
        sentence=(f"Violated: {'; '.join(violated)}. " if violated else "") + f"Violations: {', '.join(rates)}.",
        observed=broken / n,
        n=n,
    )


def _judge_contamination(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """No tested photograph was known before. Where the folds decide, this includes their photographs."""
    if measured.leaked is None:
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence="The training set isn't known, so contamination wasn't checked.",
            threshold=0.0,
            cause=Cause.NOT_MEASURED,
        )
    by_folds = deciding_comparison(measured.against_base, measured.by_folds, recipe)[1]
    if measured.untested is not None and not by_folds:
        says = f"{untested_message(measured)}."
        return Judgement(verdict=INCONCLUSIVE, sentence=says, threshold=0.0, cause=Cause.TOO_FEW)
    known = dict((*measured.leaked, *(measured.fold_leaked if by_folds else ())))
    shown = ", ".join(f"{name} ({CONTAMINATION_LABELS[how]})" for name, how in list(known.items())[:3])
    if known:
        says = f"{len(known)} of the tested photographs were known before: {shown}{', ...' if len(known) > 3 else ''}."
    elif by_folds:
        says = "No photograph of a fold was known to the adapter that judged it."
    else:
        says = "No tested photograph was known before."
    return Judgement(
        verdict=FAIL if known else PASS, sentence=says, observed=float(len(known)), n=len(known), threshold=0.0
    )


HEALTH_CHECKS: tuple[Check, ...] = (
    Check(
        name="mode_collapse",
        rule="no dimension gets one score in {gates.modal_share:.0%} of the answers about own photographs or more, "
        "unless the advisor does the same",
        fails_when="one score is that frequent in most dimensions, or one combination of all scores, while the "
        "advisor's scores vary",
        inconclusive_when="one score is that frequent in some dimensions; fewer than {gates.score_photographs} answers",
        recipe_fields=("modal_share", "score_photographs"),
        judge=_judge_mode_collapse,
    ),
    Check(
        name="truncation",
        rule="at most {gates.truncated_share:.0%} of the answers about own photographs truncated, at the token "
        "limit or as a loop",
        fails_when="the exact lower 95 % bound is above that",
        inconclusive_when="more, but the bound is not above that; no answers",
        recipe_fields=("truncated_share",),
        judge=_judge_truncation,
    ),
    Check(
        name="stuttering",
        rule="at most {gates.stuttering_share:.0%} of the answers about own photographs repeat a word or phrase three "
        "times in a row, or contain no text (the service never shows those)",
        fails_when="the exact lower 95 % bound is above that",
        inconclusive_when="more, but the bound is not above that; no answers",
        recipe_fields=("stuttering_share",),
        judge=_judge_repetition,
    ),
    Check(
        name="photograph_dependence",
        rule="the error is larger when answers are exchanged between photographs (permutation test, "
        "p <= {gates.p_value:g}), and image dependence (1 - error / exchanged error) is at least "
        "{gates.dependence_kept:.0%} of the base's",
        fails_when="the error is not larger, or the upper 95 % bound of the dependence (bootstrap over photographs) is "
        "below that share",
        inconclusive_when="neither is shown; fewer than {gates.score_photographs} photographs (the folds count then, "
        "with answers exchanged inside a fold)",
        recipe_fields=("p_value", "dependence_kept", "score_photographs"),
        judge=_judge_image_dependence,
    ),
    Check(
        name="leakage",
        rule="no tested photograph is in the training set, looks like one that is (perceptual hash, also mirrored), is "
        "quoted in the prompt or is offered by retrieval",
        fails_when="any is; where the folds decide, this includes their photographs",
        inconclusive_when="the training set is not known, or nothing was tested",
        recipe_fields=(),
        judge=_judge_contamination,
    ),
    Check(
        name="edited_copies",
        rule=f"no edit ({', '.join(METAMORPHIC_RELATIONS)}) is misjudged on more than "
        "{gates.violated_share:.0%} of the photographs (exact lower bound, Bonferroni over "
        f"{len(METAMORPHIC_RELATIONS)}), unless the base misjudges it as often",
        fails_when="one is, of {evaluate.edited_photographs} photographs",
        inconclusive_when="no edited copy could be judged",
        recipe_fields=("violated_share",),
        judge=_judge_metamorphic,
        applies=lambda measured: measured.edits is not None,
    ),
)


def _judge_health(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """All checks that apply, combined."""
    parts = tuple(check.evaluate(measured, recipe) for check in HEALTH_CHECKS if check.applies(measured))
    verdict = overall_verdict(parts)
    decisive = [part.sentence for part in parts if part.verdict == verdict]
    causes = {part.cause for part in parts if part.verdict == INCONCLUSIVE}
    cause = causes.pop() if verdict == INCONCLUSIVE and len(causes) == 1 else None
    return Judgement(
        verdict=verdict,
        sentence=f"All {len(parts)} checks passed." if verdict == PASS else " ".join(decisive),
        observed=float(sum(part.verdict == PASS for part in parts)),
        n=len(parts),
        parts=parts,
        threshold=float(len(parts)),
        cause=cause,
    )


HEALTH = Gate(
    name="health",
    rule="scores have not collapsed; answers are complete, are not repetitive and depend on the photograph; edited "
    "copies are judged correctly; nothing tested was known before",
    fails_when="a check fails",
    inconclusive_when="a check is inconclusive and none fails",
    recipe_fields=(),
    judge=_judge_health,
    learned=False,
    next_steps={
        FAIL: "Fix what the health check names before anything else; the averages can't be trusted.",
        INCONCLUSIVE: "Read the critiques in the report with the health check's findings in mind.",
    },
)
