"""How likely texts are under the model with the adapter in use, given a photograph (teacher forcing).

The prompt is read once for all texts. Shapes: `B` answers in a pass, `A` tokens of the longest one, `D` width,
`H` key-value heads, `E` width of a head, `T` prompt tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs, hidden_states
from mondrian_core.models.inference.batch_size import MAX_ROWS, rows_within
from mondrian_core.models.inference.decoding import prefill
from mondrian_core.models.kl import log_probabilities
from mondrian_core.models.prompt_encoding import EncodedAnswer, EncodedPrompt
from mondrian_core.rubric import text_spans

_BUDGET = 1 << 30  # bytes of keys and values of the answers of a pass


@dataclass(frozen=True)
class TextLikelihood:
    """Log-likelihood of the comments and recommendations of an answer, in nats (0 or less), and their tokens."""

    nats: float
    tokens: int


def text_likelihoods(
    base: BaseVLM, prompt: EncodedPrompt, answers: Sequence[str], encoded: Sequence[EncodedAnswer]
) -> list[TextLikelihood]:
    """Log-likelihood of each answer's comments, with everything before a token given: scores and earlier comments.

    Keys, scores and grade are only given, so a model is not rewarded for the form of the answer.

    Args:
        base: the base, with the adapter in use.
        prompt: the question with its photograph.
        answers: in the spelling of `canonical_answer`.
        encoded: the same answers as tokens.
    """
    rows = min(MAX_ROWS, rows_within(base, len(prompt.ids) + max(len(each.ids) for each in encoded), _BUDGET))
    _, caches = prefill(base, prompt)
    found: list[TextLikelihood] = []
    for start in range(0, len(answers), rows):
        group = encoded[start : start + rows]
        states = _answer_states(base, prompt, group, caches)
        for row, (answer, tokens) in enumerate(zip(answers[start : start + rows], group, strict=True)):
            found.append(_likelihood(base, states[row], answer, tokens))
    return found


def _answer_states(
    base: BaseVLM, prompt: EncodedPrompt, group: Sequence[EncodedAnswer], caches: Sequence[Any]
) -> mx.array:
    """Hidden states (B, A - 1, D) after each token of the answers but the last; padding follows an answer's end."""
    width = max(len(each.ids) for each in group) - 1
    ids = np.zeros((len(group), width), np.int32)
    for row, each in enumerate(group):
        ids[row, : len(each.ids) - 1] = each.ids[:-1]
    ahead = mx.arange(prompt.next_position, prompt.next_position + width, dtype=mx.int32)
    inputs = DecoderInputs(
        base.language_model.model.embed_tokens(mx.array(ids)), mx.broadcast_to(ahead, (3, len(group), width))
    )
    states = hidden_states(base, inputs, caches=_repeated(base, caches, len(group)))
    mx.eval(states)
    return states


def _repeated(base: BaseVLM, caches: Sequence[Any], rows: int) -> list[Any]:
    """Caches whose keys and values (B, H, T, E) begin every row with the prompt."""
    from mlx_vlm.models.cache import make_prompt_cache

    fresh = make_prompt_cache(base.language_model)
    for new, old in zip(fresh, caches, strict=True):
        new.update_and_fetch(*(mx.repeat(each, rows, axis=0) for each in old.state))
    return list(fresh)


def _likelihood(base: BaseVLM, states: mx.array, answer: str, tokens: EncodedAnswer) -> TextLikelihood:
    """The sum over the tokens of the texts; state k - 1 predicts token k, and the first token holds no text."""
    places = sorted(set(_text_places(answer, tokens)))
    if not places:
        return TextLikelihood(0.0, 0)
    logs = log_probabilities(base, states[mx.array([place - 1 for place in places])])
    wanted = mx.array([tokens.ids[place] for place in places], dtype=mx.int32)
    chosen = mx.take_along_axis(logs, wanted[:, None], axis=1)
    return TextLikelihood(float(np.array(chosen).sum()), len(places))


def _text_places(answer: str, tokens: EncodedAnswer) -> Iterator[int]:
    for span in text_spans(answer):
        held = tokens.tokens_at(span)
        yield from range(held.start, held.stop)
