"""The loop that generates one answer: forced tokens are read in one pass, chosen tokens one by one.

Shapes: `V` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import Decoder
from mondrian_core.models.inference.json_grammar import JsonGrammar
from mondrian_core.models.score_distribution import ScoreLogitsRecorder


class TokenSampler:
    """Chooses the next token from logits (V,)."""

    def __init__(
        self,
        base: BaseVLM,
        vocabulary: int,
        temperature: float,
        seed: int,
        endless: bool,
        schema: Mapping[str, Any] | None,
    ) -> None:
        """A chooser for one answer.

        Args:
            base: the base.
            vocabulary: length of the logits.
            temperature: 0 takes the likeliest token.
            seed: of the sampling.
            endless: suppress the end tokens.
            schema: the JSON schema that the answer follows; None: any text.
        """
        self._temperature = temperature
        self._key = mx.random.key(seed)
        self._grammar = None if schema is None else JsonGrammar(base, schema, vocabulary)
        self._forbidden: mx.array | None = None
        if endless:
            ends = mx.array(sorted(base.end_tokens))
            self._forbidden = mx.zeros(vocabulary).at[ends].add(-mx.inf)

    @property
    def greedy(self) -> bool:
        """True if the choice is always the likeliest token that the grammar allows."""
        return self._temperature <= 0 and self._forbidden is None

    def forced(self) -> list[int]:
        """Tokens that must come next; [] if the model has a choice or the end tokens are suppressed."""
        return [] if self._grammar is None or self._forbidden is not None else self._grammar.forced()

    def sample(self, logits: mx.array) -> mx.array:
        """The next token, a scalar int32 array that may not be evaluated yet."""
        if self._grammar is not None:
            logits = self._grammar.mask_logits(logits)
        if self._forbidden is not None:
            logits = logits + self._forbidden
        if self._temperature <= 0:
            return mx.argmax(logits).astype(mx.int32)
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(logits.astype(mx.float32) / self._temperature, key=key).astype(mx.int32)

    def greedy_token(self, logits: mx.array, likeliest: int) -> int:
        """The token that `sample` chooses greedily, if the likeliest of all tokens is already known."""
        if self._grammar is None or self._grammar.allows(likeliest):
            return likeliest
        return cast(int, mx.argmax(self._grammar.mask_logits(logits)).item())

    def consume(self, tokens: Sequence[int]) -> None:
        """Tell the grammar which tokens come next."""
        if self._grammar is not None:
            self._grammar.consume(*tokens)


class AnswerInProgress:
    """One answer while it is generated: its tokens so far, its limit, its end, and the logits at its scores."""

    def __init__(self, base: BaseVLM, choose: TokenSampler, limit: int, on_token: Callable[[str], None] | None) -> None:
        self._choose, self._limit = choose, limit
        self._end = base.end_tokens
        self._streamer = TextStreamer(base, on_token) if on_token else None
        self.score_recorder = ScoreLogitsRecorder(base)
        self.tokens: list[int] = []
        self.passes = self.drafted = self.accepted = 0
        self.stopped = False
        self.first_token_time: float | None = None

    def _register_choice(self, chosen: int) -> bool:
        """Record that the model chose a token; False if it ends the answer."""
        if self.first_token_time is None:
            self.first_token_time = time.perf_counter()
        self.stopped = chosen in self._end
        return not self.stopped

    def _cut(self, tokens: Sequence[int], pending: int = 0) -> list[int]:
        """The tokens before the limit and before an end token, after `pending` tokens that aren't in the answer yet."""
        kept = list(tokens[: self._limit - len(self.tokens) - pending])
        ending = next((index for index, token in enumerate(kept) if token in self._end), None)
        self.stopped = ending is not None
        return kept[:ending]

    def _goes_on(self, tokens: Sequence[int]) -> bool:
        """True if more tokens may follow these."""
        return not self.stopped and len(self.tokens) + len(tokens) < self._limit

    def _append(self, tokens: Sequence[int], following: mx.array | None, *, chosen: bool = True) -> None:
        """Add tokens to the answer; `following` are the logits after the last one."""
        for number, token in enumerate(tokens, start=1):
            self._append_token(token, following if number == len(tokens) else None, chosen=chosen)

    def _append_token(self, token: int, following: mx.array | None, *, chosen: bool) -> None:
        """Add a token to the answer, with the logits after it if they are known."""
        self.tokens.append(token)
        self.score_recorder.record(len(self.tokens) - 1, token, following)
        if self._streamer is not None:
            self._streamer.add_token(token)


class GenerationLoop(AnswerInProgress):
    """Decodes one answer; the next step is computed while the current token is processed."""

    def __init__(
        self, base: BaseVLM, decoder: Decoder, choose: TokenSampler, limit: int, on_token: Callable[[str], None] | None
    ) -> None:
        super().__init__(base, choose, limit, on_token)
        self._decoder = decoder

    def run(self, logits: mx.array) -> None:
        """Decode from the logits (V,) of the first token until the model ends the answer or the limit is reached."""
        following: mx.array | None = logits
        while following is not None and len(self.tokens) < self._limit:
            following = self._advance(following)

    def _advance(self, logits: mx.array) -> mx.array | None:
        """Add the next token or tokens; the logits after them, None at the end."""
        forced = self._forced()
        return self._take_forced(forced) if forced else self._take_chosen(logits)

    def _forced(self) -> list[int]:
        return self._choose.forced()

    def _pick(self, logits: mx.array) -> mx.array:
        return self._choose.sample(logits)

    def _take_chosen(self, logits: mx.array) -> mx.array | None:
        """Let the model choose one token; the logits after it, None at the end."""
        token = self._pick(logits)
        following = self._step(token) if len(self.tokens) + 1 < self._limit else None
        mx.async_eval(token, *([] if following is None else [following]))
        identity = cast(int, token.item())
        if not self._register_choice(identity):
            return None
        self._note([identity], following)
        return following

    def _step(self, token: mx.array) -> mx.array:
        self.passes += 1
        return self._decoder.step(token)

    def _take_forced(self, forced: list[int]) -> mx.array | None:
        """Read forced tokens in one pass, without waiting for the logits in between; the logits after the last."""
        tokens = self._cut(forced)
        following = self._extend(tokens) if self._goes_on(tokens) else None
        if following is not None:
            mx.async_eval(following)
        self._note(tokens, following, chosen=False)
        return following

    def _extend(self, tokens: list[int]) -> mx.array:
        self.passes += 1
        return self._decoder.extend(tokens)

    def _note(self, tokens: Sequence[int], following: mx.array | None, *, chosen: bool = True) -> None:
        """As `_append`, and tell the grammar."""
        self._append(tokens, following, chosen=chosen)
        self._choose.consume(tokens)


class TextStreamer:
    """Passes text on piece by piece, in whole characters."""

    def __init__(self, base: BaseVLM, on_token: Callable[[str], None]) -> None:
        self._tokenizer, self._on_token = base.tokenizer, on_token
        self._pending: list[int] = []

    def add_token(self, identity: int) -> None:
        """Pass on the text that the token completes; an incomplete character waits for the next token."""
        self._pending.append(identity)
        text = self._tokenizer.decode(self._pending, skip_special_tokens=True)
        if text and not text.endswith("\ufffd"):
            self._on_token(text)
            self._pending.clear()
