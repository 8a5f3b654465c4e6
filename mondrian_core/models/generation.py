"""Answers: greedy or sampled, free or constrained by the rubric's schema, with the expected value of each score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import mlx.core as mx

from mondrian_core.models.base import Base
from mondrian_core.models.decoding import Decoder, make_decoder
from mondrian_core.models.divergence import mean_kl
from mondrian_core.models.encoding import Prompt, encode
from mondrian_core.models.scores import ScoreWatch, expected_of
from mondrian_core.models.structured import Grammar
from mondrian_core.rubric import json_schema

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Generation", "generate", "mean_kl", "prepare"]


@dataclass(frozen=True)
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


def prepare(base: Base, messages: list[dict[str, Any]], image: Image.Image | None) -> Prompt:
    """Tokens, vision features and positions of a prompt, to be used by several answers (`prepared=`)."""
    return encode(base, messages, image)


def generate(
    base: Base,
    messages: list[dict[str, Any]],
    image: Image.Image | None,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    constrained: bool = False,
    exact_tokens: int | None = None,
    on_token: Callable[[str], None] | None = None,
    prepared: Prompt | None = None,
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
    """
    began = time.perf_counter()
    prompt = prepared or encode(base, messages, image)
    decoder = make_decoder(base)
    first = decoder.start(prompt)
    choose = _Chooser(base, first.shape[-1], temperature, seed, exact_tokens is not None, constrained)
    answer = _Answer(base, decoder, choose, exact_tokens or max_tokens, on_token)
    answer.run(first)
    ended = time.perf_counter()
    known = answer.first_known or ended
    chances = answer.watch.chances(answer.tokens, decoder.probe)
    return Generation(
        text=base.tokenizer.decode(answer.tokens, skip_special_tokens=True),
        tokens=tuple(answer.tokens),
        finish_reason="stop" if answer.stopped else "length",
        prompt_tokens=len(prompt.ids),
        image_tokens=prompt.image_tokens,
        prefill_seconds=known - began,
        decode_seconds=ended - known,
        expected_scores={name: expected_of(found) for name, found in chances.items()},
        score_chances=chances,
    )


class _Chooser:
    """Picks the next token from logits (V,)."""

    def __init__(self, base: Base, vocabulary: int, temperature: float, seed: int, endless: bool,
                 constrained: bool) -> None:  # fmt: skip
        self._temperature = temperature
        self._key = mx.random.key(seed)
        self.grammar = Grammar(base, json_schema(), vocabulary) if constrained else None
        self._forbidden: mx.array | None = None
        if endless:
            ends = mx.array(sorted(base.end_tokens))
            self._forbidden = mx.zeros(vocabulary).at[ends].add(-mx.inf)

    def forced(self) -> list[int]:
        """Tokens that come next whatever the model says; none where it has a choice, or the end is forbidden."""
        return [] if self.grammar is None or self._forbidden is not None else self.grammar.forced()

    def pick(self, logits: mx.array) -> mx.array:
        """The token, a scalar int32 array that need not be evaluated yet."""
        if self.grammar is not None:
            logits = self.grammar.allow(logits)
        if self._forbidden is not None:
            logits = logits + self._forbidden
        if self._temperature <= 0:
            return mx.argmax(logits).astype(mx.int32)
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(logits.astype(mx.float32) / self._temperature, key=key).astype(mx.int32)


class _Answer:
    """The loop that decodes; the next step is under way while a token is looked at."""

    def __init__(self, base: Base, decoder: Decoder, choose: _Chooser, limit: int,
                 on_token: Callable[[str], None] | None) -> None:  # fmt: skip
        self._decoder, self._choose, self._limit = decoder, choose, limit
        self._end = base.end_tokens
        self._speak = _Speech(base, on_token) if on_token else None
        self.watch = ScoreWatch(base)
        self.tokens: list[int] = []
        self.stopped = False
        self.first_known: float | None = None

    def run(self, logits: mx.array) -> None:
        """Decode from the logits of the first token until the model ends or the limit is reached."""
        following: mx.array | None = logits
        while following is not None and len(self.tokens) < self._limit:
            forced = self._choose.forced()
            following = self._take_forced(forced) if forced else self._take_chosen(following)

    def _take_chosen(self, logits: mx.array) -> mx.array | None:
        """Let the model choose one token; the logits after it, None at the end."""
        token = self._choose.pick(logits)
        following = self._decoder.step(token) if len(self.tokens) + 1 < self._limit else None
        mx.async_eval(token, *([] if following is None else [following]))
        identity = cast(int, token.item())
        if self.first_known is None:
            self.first_known = time.perf_counter()
        if identity in self._end:
            self.stopped = True
            return None
        self._note([identity], following)
        return following

    def _take_forced(self, forced: list[int]) -> mx.array | None:
        """Feed tokens that are no choice together, without waiting for their logits; the logits after the last."""
        tokens = forced[: self._limit - len(self.tokens)]
        ending = next((index for index, token in enumerate(tokens) if token in self._end), None)
        self.stopped = ending is not None
        tokens = tokens[:ending]
        more = not self.stopped and len(self.tokens) + len(tokens) < self._limit
        following = self._decoder.extend(tokens) if more else None
        if following is not None:
            mx.async_eval(following)
        self._note(tokens, following)
        return following

    def _note(self, tokens: list[int], following: mx.array | None) -> None:
        """`following` are the logits after the last of the tokens."""
        for number, token in enumerate(tokens, start=1):
            self.tokens.append(token)
            self.watch.see(len(self.tokens) - 1, token, following if number == len(tokens) else None)
            if self._speak is not None:
                self._speak.token(token)
        if self._choose.grammar is not None:
            self._choose.grammar.consume(*tokens)


class _Speech:
    """Hands on text piece by piece, whole characters only."""

    def __init__(self, base: Base, on_token: Callable[[str], None]) -> None:
        self._tokenizer, self._hear = base.tokenizer, on_token
        self._pending: list[int] = []

    def token(self, identity: int) -> None:
        """Say what the token completes; a character that isn't whole yet waits."""
        self._pending.append(identity)
        text = self._tokenizer.decode(self._pending, skip_special_tokens=True)
        if text and not text.endswith("\ufffd"):
            self._hear(text)
            self._pending.clear()
