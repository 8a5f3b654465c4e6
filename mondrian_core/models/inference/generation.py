"""Generate an answer: greedy or sampled, free or constrained by the rubric's schema, with expected scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import Decoder, make_decoder
from mondrian_core.models.inference.generation_loop import AnswerInProgress, GenerationLoop, TokenSampler
from mondrian_core.models.inference.ngram_draft import NgramDrafter
from mondrian_core.models.inference.speculation import SpeculativeGenerationLoop
from mondrian_core.models.kl import mean_kl
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_prompt
from mondrian_core.models.score_distribution import ScoreDistribution
from mondrian_core.rubric import critique_json_schema

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Generation", "generate", "mean_kl", "prepare_prompt"]

FinishReason = Literal["stop", "length", "loop"]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """An answer and how it was generated.

    Attributes:
        text: the answer without its end token.
        tokens: its tokens, without the end token.
        finish_reason: "stop" if the model ended it, "length" if it reached the limit, "loop" if it
            only repeated itself (`loop_detection`).
        prompt_tokens: tokens before the answer, including the photograph's.
        image_tokens: tokens of the photograph.
        prefill_seconds: time until the first token that the model chose.
        decode_seconds: time from there to the last token.
        expected_scores: expected score (0-10) by dimension, from the distribution before any mask, a written fraction
            included (`ScoreDistribution`).
        score_chances: probabilities of 0 to 10 by dimension, as shares of the whole vocabulary.
        passes: forward passes of the language model after the prompt, without the probes of unwritten scores.
        drafted: tokens that were tried because earlier answers predicted them.
        accepted: drafted tokens that became part of the answer.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
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
    """Encode a prompt for several answers (`prepared=`)."""
    return encode_prompt(base, messages, image)


def generate(  # noqa: PLR0913  keyword-only options of one call, as in mlx_vlm.generate
    base: BaseVLM,
    messages: list[dict[str, Any]],
    image: Image.Image | None,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    constrained: bool = False,
    schema: Mapping[str, Any] | None = None,
    exact_tokens: int | None = None,
    on_token: Callable[[str], None] | None = None,
    prepared: EncodedPrompt | None = None,
    precedents: NgramDrafter | None = None,
) -> Generation:
    """Answer about a photograph with the base and the adapter in use.

    Args:
        base: the base.
        messages: system and user message (`prompts.critique_messages`).
        image: the photograph; None for a prompt without one.
        max_tokens: limit of the answer's length.
        temperature: 0 takes the likeliest token; above 0 tokens are sampled.
        seed: seed of the sampling.
        constrained: allow only what the schema allows.
        schema: a JSON schema; None: the rubric's.
        exact_tokens: generate exactly this many tokens with the end token suppressed, as equal work for timing.
        on_token: receives each piece of text as it is generated.
        prepared: result of `prepare_prompt` for the same messages and image; its time isn't in `prefill_seconds`.
        precedents: earlier answers of this model with the adapter in use. They give the same greedy answer in fewer
            passes, and the answer is added to them. Sampled answers and `exact_tokens` neither use nor change them.
    """
    began = time.perf_counter()
    prompt = prepared or encode_prompt(base, messages, image)
    decoder = make_decoder(base)
    first = decoder.start(prompt)
    followed = (schema or critique_json_schema()) if constrained else None
    choose = TokenSampler(base, first.shape[-1], temperature, seed, exact_tokens is not None, followed)
    answer = _generation_loop(base, decoder, choose, exact_tokens or max_tokens, on_token, precedents)
    answer.run(first)
    ended = time.perf_counter()
    scores = answer.score_recorder.score_distributions(answer.tokens, decoder.probe)
    return finished_generation(base, prompt, answer, scores, (began, answer.first_token_time or ended, ended))


def finished_generation(
    base: BaseVLM,
    prompt: EncodedPrompt,
    answer: AnswerInProgress,
    scores: Mapping[str, ScoreDistribution],
    times: tuple[float, float, float],
) -> Generation:
    """The value of an answer that has ended.

    Args:
        base: the base.
        prompt: what was asked.
        answer: the answer.
        scores: the distributions of its scores, by dimension.
        times: of the start, the first chosen token and the end, in seconds of one clock.
    """
    began, known, ended = times
    return Generation(
        text=base.tokenizer.decode(answer.tokens, skip_special_tokens=True),
        tokens=tuple(answer.tokens),
        finish_reason="loop" if answer.looping else "stop" if answer.stopped else "length",
        prompt_tokens=len(prompt.ids),
        image_tokens=prompt.image_tokens,
        prefill_seconds=known - began,
        decode_seconds=ended - known,
        expected_scores={name: found.expected_score for name, found in scores.items()},
        score_chances={name: found.chances for name, found in scores.items()},
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
