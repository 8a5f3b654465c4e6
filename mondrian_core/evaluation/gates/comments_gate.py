"""The gate about words: comments that are likely, fit their photograph and score, and are the adapter's own.

Each check fails only where the numbers show the fault. Seven checks share one error rate: each is tested at a seventh
of `gates.p_value`, so an adapter at the limit of all of them is refused wrongly in that share of evaluations at most.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mondrian_core.evaluation.gates.gate import Check, Gate, Judgement
from mondrian_core.evaluation.gates.messages import BY_FOLDS_PREFIX, untested_message
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Cause,
    GateMeasurements,
    Verdict,
    short_number,
)
from mondrian_core.evaluation.measure.comment_measurement import CommentMeasurement
from mondrian_core.evaluation.measure.comments.voice import FEWEST_CRITIQUES
from mondrian_core.evaluation.measure.contamination import NGRAM_WORDS
from mondrian_core.recipes import GateRecipe
from mondrian_core.statistics import bootstrap, intervals, permutation_tests


def _level(recipe: GateRecipe) -> float:
    """The level of one check."""
    return recipe.p_value / len(COMMENT_CHECKS)


def _shown(differences: ArrayLike, recipe: GateRecipe) -> bool:
    """True when the mean of the paired differences is shown to be above 0."""
    values = np.asarray(differences, dtype=np.float64)
    return bool(values.mean() > 0) and permutation_tests.sign_flip_p_value(values) <= _level(recipe)


def _not_judged(why: str, n: int = 0, cause: Cause = Cause.TOO_FEW) -> Judgement:
    return Judgement(verdict=INCONCLUSIVE, sentence=f"Not judged: {why}.", n=n, cause=cause)


def _too_few(n: int, recipe: GateRecipe) -> Judgement | None:
    if n >= recipe.score_photographs:
        return None
    return _not_judged(f"{n} of at least {recipe.score_photographs} photographs", n)


def _measured(measured: GateMeasurements) -> CommentMeasurement:
    assert measured.comments is not None  # the gate doesn't call its checks otherwise
    return measured.comments


def _judge_likelihood(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The advisor's comments are as likely as under the base."""
    found = _measured(measured).likelihood
    if found is None:
        return _not_judged("no held-out comment was read by both models", cause=Cause.NOT_MEASURED)
    margin = recipe.comment_likelihood_margin
    gain = found.base - found.candidate
    worse = _shown(found.candidate - (1 + margin) * found.base, recipe)
    says = (
        f"The advisor's held-out comments take {short_number(found.candidate.mean())} nats per token, "
        f"{short_number(found.base.mean())} under the base"
    )
    return _too_few(len(gain), recipe) or Judgement(
        verdict=FAIL if worse else PASS,
        sentence=f"{says}: more than {margin:.0%} worse." if worse else f"{says}.",
        observed=float(gain.mean()),
        n=len(gain),
        interval=bootstrap.bca_mean_interval(gain),
        threshold=-margin * float(found.base.mean()),
    )


@dataclass(frozen=True, slots=True)
class _Retrieval:
    """In how many of `n` photographs the right one was found among `choices`, and the sentence that says so."""

    found: int
    n: int
    choices: int
    sentence: str


def _judge_retrieval(
    retrieval: _Retrieval, candidate: NDArray[np.float64], base: NDArray[np.float64], recipe: GateRecipe
) -> Judgement:
    """FAIL where the base shows that texts depend on the photograph, and the candidate is shown to keep too little.

    Args:
        retrieval: what is observed.
        candidate: by how much a text fits its own photograph better than others, one value for each photograph.
        base: the same of the base, for the same photographs.
        recipe: share to keep, and level.
    """
    kept = recipe.dependence_kept
    lost = len(base) > 0 and _shown(base, recipe) and _shown(kept * base - candidate, recipe)
    return Judgement(
        verdict=FAIL if lost else PASS,
        sentence=f"{retrieval.sentence}: less than {kept:.0%} of the base's." if lost else f"{retrieval.sentence}.",
        observed=retrieval.found / retrieval.n,
        n=retrieval.n,
        interval=_two_sided(retrieval.found, retrieval.n),
        threshold=1 / retrieval.choices,
    )


def _judge_dependence(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The photograph tells the candidate about the advisor's comments what it tells the base."""
    found = _measured(measured).likelihood
    if found is None:
        return _not_judged("no held-out comment was read by both models", cause=Cause.NOT_MEASURED)
    n = len(found.candidate_told)
    if too_few := _too_few(n, recipe):
        return too_few
    says = (
        f"The right photograph makes a comment likelier by {short_number(found.candidate_told.mean())} nats per token "
        f"(base: {short_number(found.base_told.mean())}), and is found among {found.choices} in {found.found} of {n}"
    )
    retrieval = _Retrieval(found=found.found, n=n, choices=found.choices, sentence=says)
    return _judge_retrieval(retrieval, found.candidate_told, found.base_told, recipe)


def _judge_specificity(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The candidate's own comments fit their photograph."""
    own, base = _measured(measured).specificity, _measured(measured).base_specificity
    if own is None or base is None:
        return _not_judged("the advisor commented on too few photographs that both models answered")
    n = len(own.photographs)
    if too_few := _too_few(n, recipe):
        return too_few
    of_base = dict(zip(base.photographs, base.excess, strict=True))
    shared = [k for k, name in enumerate(own.photographs) if name in of_base]
    excess, reference = own.excess[shared], np.array([of_base[own.photographs[k]] for k in shared])
    says = (
        f"Its comments resemble the advisor's on the same photograph more than those on others by "
        f"{short_number(own.excess.mean())} (base: {short_number(base.excess.mean())}), and find it among "
        f"{own.choices} in {own.found} of {n}"
    )
    retrieval = _Retrieval(found=own.found, n=n, choices=own.choices, sentence=says)
    return _judge_retrieval(retrieval, excess, reference, recipe)


def _judge_voice(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The comments are in the advisor's voice, and not in another advisor's."""
    found = _measured(measured).voice
    if found is None:
        return _not_judged(f"fewer than {FEWEST_CRITIQUES} critiques by this advisor or by others in the workspace")
    n, tested = len(found.candidate), 2 * found.critiques
    recognizes = intervals.clopper_pearson_lower(found.recognized, tested, 1 - _level(recipe))
    says = (
        f"{found.attributed} of {n} answers are attributed to the advisor; of {tested} critiques {found.recognized} are"
    )
    if too_few := _too_few(n, recipe):
        return too_few
    if recognizes <= recipe.attributed_share:
        return _not_judged(
            f"the classifier can't distinguish the voices ({found.recognized} of {tested} critiques)",
            n,
        )
    another = intervals.clopper_pearson_upper(found.attributed, n, 1 - _level(recipe)) < recipe.attributed_share
    closer = np.mean([found.candidate[name] - value for name, value in found.base.items()]) if found.base else -1.0
    failed = another and closer <= 0
    why = ": it is another advisor's voice" if failed else ""
    return Judgement(
        verdict=FAIL if failed else PASS,
        sentence=f"{says} attributed rightly{why}.",
        observed=found.attributed / n,
        n=n,
        interval=_two_sided(found.attributed, n),
    )


def _judge_agreement(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """Comments and scores say the same."""
    found = _measured(measured).agreement
    if found is None:
        return _not_judged("too few critiques to learn from, or constant scores")
    if too_few := _too_few(min(found.candidate.n, found.advisor.n), recipe):
        return too_few
    confidence = 1 - 2 * _level(recipe)
    low, high = found.advisor.interval(confidence)
    sign = 1 if low > 0 else -1 if high < 0 else 0
    if not sign:
        return _not_judged(
            "the advisor's held-out comments don't tell the scores "
            f"(rank correlation {found.advisor.correlation:.2f}, {low:.2f} to {high:.2f})",
            found.advisor.n,
        )
    certain = min(sign * low, sign * high)
    most = max(sign * end for end in found.candidate.interval(confidence))
    failed = most < recipe.agreement_kept * certain
    says = (
        f"Scores that a probe reads from the comments correlate with the written ones at "
        f"{found.candidate.correlation:.2f} (advisor: {found.advisor.correlation:.2f}"
        f"{f', base: {found.base.correlation:.2f}' if found.base else ''})"
    )
    return Judgement(
        verdict=FAIL if failed else PASS,
        sentence=f"{says}: the comments contradict the scores." if failed else f"{says}.",
        observed=found.candidate.correlation,
        n=found.candidate.n,
        interval=found.candidate.interval(),
        threshold=recipe.agreement_kept * sign * certain,
    )


def _judge_copied(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The comments aren't recited from the critiques of training."""
    found = _measured(measured).copied
    if found is None:
        return _not_judged("no critique of training, or no held-out one", cause=Cause.NOT_MEASURED)
    excess = found.candidate - found.advisor
    if too_few := _too_few(len(excess), recipe):
        return too_few
    failed = _shown(excess - recipe.copied_share, recipe)
    says = (
        f"{found.candidate.mean():.0%} of the words stand in runs of {NGRAM_WORDS} or more from a critique of training "
        f"({found.advisor.mean():.0%} of the advisor's held-out ones)"
    )
    return Judgement(
        verdict=FAIL if failed else PASS,
        sentence=f"{says}: they are copied." if failed else f"{says}.",
        observed=float(excess.mean()),
        n=len(excess),
        interval=bootstrap.bca_mean_interval(excess),
    )


def _judge_broken(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The comments say something."""
    found = _measured(measured).broken
    if too_few := _too_few(found.n, recipe):
        return too_few
    count, limit = len(found.broken), recipe.stuttering_share
    if found.advisor_n:
        limit = max(limit, intervals.clopper_pearson_upper(found.advisor_broken, found.advisor_n))
    failed = intervals.clopper_pearson_lower(count, found.n, 1 - _level(recipe)) > limit
    kinds = ", ".join(f"{times} {kind}" for kind, times in Counter(found.broken.values()).most_common())
    says = f"{count} of {found.n} answers say nothing{f' ({kinds})' if kinds else ''}"
    return Judgement(
        verdict=FAIL if failed else PASS,
        sentence=f"{says}." if count else "No answer is empty, repetitive or of unknown words.",
        observed=count / found.n,
        n=found.n,
        interval=_two_sided(count, found.n),
        threshold=limit,
    )


def _two_sided(successes: int, n: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a rate."""
    return intervals.clopper_pearson_lower(successes, n, 0.975), intervals.clopper_pearson_upper(successes, n, 0.975)


_FEW = "fewer than {gates.score_photographs} photographs"
COMMENT_CHECKS: tuple[Check, ...] = (
    Check(
        name="likelihood",
        rule="the advisor's held-out comments are as likely as under the base (nats per token, teacher forced)",
        fails_when="less likely by more than {gates.comment_likelihood_margin:.0%} (sign-flip test)",
        inconclusive_when=_FEW,
        recipe_fields=("comment_likelihood_margin", "p_value", "score_photographs"),
        judge=_judge_likelihood,
    ),
    Check(
        name="comments_depend_on_photograph",
        rule="the right photograph makes the advisor's comments likelier than another one, at least "
        "{gates.dependence_kept:.0%} as much as under the base; observed: the right one is found among eight",
        fails_when="shown to be less, where the base shows any (sign-flip tests)",
        inconclusive_when=_FEW,
        recipe_fields=("dependence_kept", "p_value", "score_photographs"),
        judge=_judge_dependence,
    ),
    Check(
        name="specificity",
        rule="the candidate's own comments resemble the advisor's on the same photograph more than those on others "
        "(tf-idf), at least {gates.dependence_kept:.0%} as much as the base's; observed: the right one is found among "
        "eight",
        fails_when="shown to be less, where the base shows any (sign-flip tests)",
        inconclusive_when=_FEW,
        recipe_fields=("dependence_kept", "p_value", "score_photographs"),
        judge=_judge_specificity,
    ),
    Check(
        name="voice",
        rule="a classifier of words attributes the answers to this advisor, and not to the workspace's other advisors",
        fails_when="fewer than {gates.attributed_share:.0%} are (exact bound), and they are not closer to the advisor "
        "than the base's answers",
        inconclusive_when=f"fewer than {FEWEST_CRITIQUES} critiques on a side, or the classifier can't tell them apart "
        "(leave-one-out)",
        recipe_fields=("attributed_share", "p_value", "score_photographs"),
        judge=_judge_voice,
    ),
    Check(
        name="agreement",
        rule="scores that a probe, trained on the advisor's pairs, reads from the comments agree with the written ones "
        "(rank correlation)",
        fails_when="the upper bound is below {gates.agreement_kept:.0%} of the lower bound of the advisor's held-out "
        "pairs (bootstrap over photographs)",
        inconclusive_when=f"{_FEW}; the probe doesn't read the advisor's own held-out comments",
        recipe_fields=("agreement_kept", "p_value", "score_photographs"),
        judge=_judge_agreement,
    ),
    Check(
        name="copied",
        rule=f"at most {{gates.copied_share:.0%}} more of the words than in the advisor's held-out comments stand in "
        f"runs of {NGRAM_WORDS} words from one comment of training",
        fails_when="shown to be more (sign-flip test)",
        inconclusive_when=_FEW,
        recipe_fields=("copied_share", "p_value", "score_photographs"),
        judge=_judge_copied,
    ),
    Check(
        name="broken",
        rule="at most {gates.stuttering_share:.0%} of the answers are empty, repetitive, the same for most photographs "
        "or of words that neither advisor nor base uses; more where the advisor's critiques are",
        fails_when="the exact lower bound is above that",
        inconclusive_when=_FEW,
        recipe_fields=("stuttering_share", "p_value", "score_photographs"),
        judge=_judge_broken,
    ),
)


def _judge_comments(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """Any check that fails. The likelihood must be known; the other checks stop nothing where they can't judge."""
    found = measured.comments
    if found is None or found.photographs < recipe.score_photographs:
        n = found.photographs if found else 0
        says = f"{n} of at least {recipe.score_photographs} photographs have held-out comments and an answer"
        if measured.untested is not None and not n:
            says = untested_message(measured)
        cause = Cause.TOO_FEW if measured.formats else Cause.NOT_MEASURED
        return Judgement(verdict=INCONCLUSIVE, sentence=f"{says}.", n=n, threshold=0.0, cause=cause)
    parts = tuple(check.evaluate(measured, recipe) for check in COMMENT_CHECKS)
    failed = [part for part in parts if part.verdict == FAIL]
    judged = [part for part in parts if part.verdict != INCONCLUSIVE]
    verdict: Verdict = FAIL if failed else PASS if parts[0].verdict != INCONCLUSIVE else INCONCLUSIVE
    left = ", ".join(part.name for part in parts if part.verdict == INCONCLUSIVE)
    says = " ".join(f"{part.name}: {part.sentence}" for part in failed)
    says = says or f"None of {len(judged)} checks shows a fault{f' (not judged: {left})' if left else ''}."
    return Judgement(
        verdict=verdict,
        sentence=f"{BY_FOLDS_PREFIX}: {says[0].lower()}{says[1:]}" if found.by_folds else says,
        observed=float(len(failed)),
        n=found.photographs,
        parts=parts,
        threshold=0.0,
        cause=parts[0].cause if verdict == INCONCLUSIVE else None,
    )


COMMENTS = Gate(
    name="comments",
    rule="no check shows that the comments are less likely than under the base, independent of the photograph, in "
    "another advisor's voice, at odds with the scores, copied or broken",
    fails_when="a check fails",
    inconclusive_when=f"{_FEW} with held-out comments, or their likelihood was not measured",
    recipe_fields=(),
    judge=_judge_comments,
    next_steps={
        FAIL: "Read the comments in the report next to the advisor's. Check that the critiques of training belong to "
        "their photographs and scores, then train again.",
        INCONCLUSIVE: "Add critiques with comments: too few are held out to judge the words.",
    },
)
