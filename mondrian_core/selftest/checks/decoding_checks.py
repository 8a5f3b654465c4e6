"""Decoding: the same text with drafts as without, and constrained answers that are valid critiques."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.models.inference.generation import Generation, generate, prepare_prompt
from mondrian_core.models.inference.ngram_draft import ForwardPassCosts, NgramDrafter
from mondrian_core.models.prompt_encoding import EncodedPrompt
from mondrian_core.rubric import MAX_ANSWER_TOKENS
from mondrian_core.selftest.checks.context import CheckContext, CheckOutcome, SkipCheck
from mondrian_core.selftest.checks.logit_checks import whole_pass
from mondrian_core.selftest.checks.question import question
from mondrian_core.selftest.steps import StepCause
from mondrian_core.selftest.tolerances import LARGEST_TO_RMS

_DRAFTED_TOKENS = 64
_USUAL_TOKENS = 150  # of a whole answer with short comments


class _FreeCosts(ForwardPassCosts):
    """Wide passes that cost nothing more, so that drafts are tried whatever this device's times are."""

    def cost(self, tokens: int) -> float:
        """See ForwardPassCosts."""
        return 1.0


def check_drafts(context: CheckContext) -> CheckOutcome:
    """An answer without drafts, then with drafts from the first one."""
    messages, image = question()
    prompt = prepare_prompt(context.base, messages, image)
    context.require_time("two short answers", forward_tokens=2 * len(prompt.ids), decoded_tokens=2 * _DRAFTED_TOKENS)

    def answer(drafter: NgramDrafter | None) -> Generation:
        return generate(
            context.base,
            messages,
            image,
            max_tokens=_DRAFTED_TOKENS,
            constrained=True,
            prepared=prompt,
            precedents=drafter,
        )

    context.report("without drafts")
    plain = answer(None)
    drafter = NgramDrafter()
    drafter.costs = _FreeCosts()
    drafter.learn_answer(plain.tokens)
    context.report("with drafts")
    drafted = answer(drafter)
    figures: dict[str, float] = {
        "tokens": len(plain.tokens),
        "drafted": drafted.drafted,
        "accepted": drafted.accepted,
        "passes": drafted.passes,
    }
    if not drafted.drafted:
        return CheckOutcome("no token was drafted from an answer that is known", figures, StepCause.WRONG_RESULT)
    place = _first_difference(plain.tokens, drafted.tokens)
    if place is None:
        return CheckOutcome(
            f"the same {len(plain.tokens)} tokens; {drafted.accepted} of {drafted.drafted} drafted ones accepted",
            figures,
        )
    gap, allowed = _gap(context, prompt, plain.tokens, drafted.tokens, place)
    figures |= {"first_difference": place, "gap": gap, "allowed_gap": allowed}
    if gap <= allowed:
        sentence = f"token {place} differs where two tokens are equally likely within rounding (gap {gap:.1g})"
        return CheckOutcome(sentence, figures)
    sentence = f"drafts change the text at token {place}: gap {gap:.2g} of the spread, rounding explains {allowed:.1g}"
    return CheckOutcome(sentence, figures, StepCause.WRONG_RESULT)


def _first_difference(first: tuple[int, ...], second: tuple[int, ...]) -> int | None:
    if first == second:
        return None
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _gap(
    context: CheckContext, prompt: EncodedPrompt, first: tuple[int, ...], second: tuple[int, ...], place: int
) -> tuple[float, float]:
    """(distance of the two tokens' logits relative to the spread, what rounding explains) where the answers part."""
    if place >= min(len(first), len(second)):
        return float("inf"), 0.0
    row = whole_pass(context, prompt, [*first[:place], first[place]])[-1]
    logits = np.array(row.astype(mx.float32))
    allowed = 2 * LARGEST_TO_RMS * context.allowed(prompt.embeddings.dtype)
    return float(abs(logits[first[place]] - logits[second[place]]) / (logits.std() or 1.0)), allowed


def check_constrained(context: CheckContext) -> CheckOutcome:
    """A whole constrained answer is valid."""
    messages, image = question()
    context.require_time("a whole answer", decoded_tokens=_USUAL_TOKENS)
    written = 0

    def on_token(_: str) -> None:
        nonlocal written
        written += 1
        context.report(f"{written} tokens")
        if context.seconds_left < 1:
            raise SkipCheck(f"a whole answer takes too long on this stream ({written} tokens in this time)")

    answer = generate(context.base, messages, image, max_tokens=MAX_ANSWER_TOKENS, constrained=True, on_token=on_token)
    seconds = answer.prefill_seconds + answer.decode_seconds
    figures = {"tokens": len(answer.tokens), "seconds": seconds, "finish_reason": answer.finish_reason}
    if answer.finish_reason != "stop":
        sentence = f"the answer did not end within {len(answer.tokens)} tokens"
        return CheckOutcome(sentence, figures, StepCause.WRONG_RESULT)
    try:
        parse_critique_strict(answer.text)
    except CritiqueParseError as error:
        return CheckOutcome(f"the answer is not a valid critique ({error})", figures, StepCause.WRONG_RESULT)
    return CheckOutcome(f"a valid critique of {len(answer.tokens)} tokens in {seconds:.1f} s", figures)
