"""Answers: greedy or sampled, free or constrained by the rubric's schema, with the expected value of each score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import Decoder, make_decoder
from mondrian_core.models.inference.generation_loop import GenerationLoop, TokenSampler
from mondrian_core.models.inference.ngram_draft import NgramDrafter
from mondrian_core.models.inference.speculation import SpeculativeGenerationLoop
from mondrian_core.models.kl import mean_kl
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_prompt
from mondrian_core.models.score_distribution import expected_score

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Generation", "generate", "mean_kl", "prepare_prompt"]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """An answer and how it came about.

    Attributes:
        text: the answer without end token.
        tokens: its tokens, without end token.
        finish_reason: "stop" when the model ended it, "length" when the limit did.
        prompt_tokens: tokens before the answer, those of the photograph included.
        image_tokens: tokens of the photograph.
        prefill_seconds: from the photograph to the first token that the model chose.
        decode_seconds: from there to the last token.
        expected_scores: expected value (0-10) over the score tokens by dimension, before any mask.
        score_chances: by dimension the probabilities of 0 to 10 that it is made of, shares of the whole vocabulary.
        passes: how often the language model ran after the prompt, probing for a ten left out.
        drafted: tokens that were tried because earlier answers let expect them.
        accepted: those of them that are part of the answer.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    image_tokens: int
    prefill_seconds: float
    decode_seconds: float
    expected_scores: dict[str, float] = field(default_factory=dict)
    score_chances: dict[str, tuple[float, ...]] = field(default_factory=dict)
    passes: int = 0
    drafted: int = 0
    accepted: int = 0


def prepare_prompt(base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image | None) -> EncodedPrompt:
    """Tokens, vision features and positions of a prompt, to be used by several answers (`prepared=`)."""
    return encode_prompt(base, messages, image)


def generate(
    base: BaseVLM,
    messages: list[dict[str, Any]],
    image: Image.Image | None,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    constrained: bool = False,
    exact_tokens: int | None = None,
    on_token: Callable[[str], None] | None = None,
    prepared: EncodedPrompt | None = None,
    precedents: NgramDrafter | None = None,
) -> Generation:
    """Answer about a photograph with the base and whatever adapter is mounted and in use.

    Args:
        messages: system and user (`prompts.critique_messages`).
        max_tokens: the answer is cut there.
        temperature: 0 takes the likeliest token, above 0 it is sampled with `seed`.
        constrained: only what the rubric's schema allows can be written.
        exact_tokens: exactly so many tokens, the end token suppressed: equal work for timing.
        on_token: hears each piece of text as it comes.
        prepared: what `prepare` gave for the same messages and image; its time then isn't in `prefill_seconds`.
        precedents: what this model, with the adapter in use, answered before: the same greedy answer in fewer passes.
            It learns the answer. Sampled answers and `exact_tokens`, whose work must be equal, neither use nor fill it.
    """
    began = time.perf_counter()
    prompt = prepared or encode_prompt(base, messages, image)
    decoder = make_decoder(base)
    first = decoder.start(prompt)
    choose = TokenSampler(base, first.shape[-1], temperature, seed, exact_tokens is not None, constrained)
    answer = _generation_loop(base, decoder, choose, exact_tokens or max_tokens, on_token, precedents)
    answer.run(first)
    ended = time.perf_counter()
    known = answer.first_token_time or ended
    chances = answer.score_recorder.score_probabilities(answer.tokens, decoder.probe)
    return Generation(
        text=base.tokenizer.decode(answer.tokens, skip_special_tokens=True),
        tokens=tuple(answer.tokens),
        finish_reason="stop" if answer.stopped else "length",
        prompt_tokens=len(prompt.ids),
        image_tokens=prompt.image_tokens,
        prefill_seconds=known - began,
        decode_seconds=ended - known,
        expected_scores={name: expected_score(found) for name, found in chances.items()},
        score_chances=chances,
        passes=answer.passes,
        drafted=answer.drafted,
        accepted=answer.accepted,
    )


def _generation_loop(
    base: BaseVLM,
    decoder: Decoder,
    choose: TokenSampler,
    limit: int,
    on_token: Callable[[str], None] | None,
    precedents: NgramDrafter | None,
) -> GenerationLoop:
    if precedents is None or not choose.greedy:
        return GenerationLoop(base, decoder, choose, limit, on_token)
    return SpeculativeGenerationLoop(base, decoder, choose, limit, on_token, precedents)
