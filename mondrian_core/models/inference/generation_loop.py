"""The loop that generates one answer: a pass reads the token that the model chose and all tokens that it forces.

Shapes: `V` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import Decoder
from mondrian_core.models.inference.json_grammar import CritiqueGrammar, answer_grammar
from mondrian_core.models.inference.loop_detection import LoopDetector
from mondrian_core.models.score_distribution import ScoreLogitsRecorder

_FEW_CHOICES = 16  # tokens that may come next: the digits and what may follow a digit, not the words of a comment


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
        self._grammar = None if schema is None else answer_grammar(base, schema, vocabulary)
        # what a caller's own schema asks for may repeat: a table of zeros is not a loop
        self.may_repeat = endless or (schema is not None and not isinstance(self._grammar, CritiqueGrammar))
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

    def choose(self, logits: mx.array) -> int:
        """The next token; this waits for the logits (V,)."""
        if self.greedy:
            return self.greedy_token(logits, cast(int, mx.argmax(logits).item()))
        return cast(int, self.sample(logits).item())

    @property
    def decides_what_follows(self) -> bool:
        """True if the next token is one of a few, such as digits, after which the grammar is likely to force tokens."""
        return self._grammar is not None and self._grammar.choices() <= _FEW_CHOICES

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
        self._loop_detector = None if choose.may_repeat else LoopDetector(base)
        self.looping = False
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

    def _forced(self) -> list[int]:
        return self._choose.forced()

    def _after_choice(self, token: int) -> list[int]:
        """The token that the model chose and those that it forces; [] if it ends the answer. The grammar is told."""
        if not self._register_choice(token):
            return []
        self._choose.consume([token])
        known = self._cut([token, *self._forced()])
        self._choose.consume(known[1:])
        return known

    def _after_forced(self, forced: list[int]) -> list[int]:
        """The forced tokens that belong to the answer. The grammar is told."""
        known = self._cut(forced)
        self._choose.consume(known)
        return known

    def _cut(self, tokens: list[int]) -> list[int]:
        """The tokens before the limit and before an end token."""
        tokens = tokens[: self._limit - len(self.tokens)]
        ending = next((index for index, token in enumerate(tokens) if token in self._end), None)
        self.stopped = ending is not None
        return tokens[:ending]

    def _goes_on(self, tokens: list[int]) -> bool:
        """True if more tokens may follow these."""
        return not self.stopped and len(self.tokens) + len(tokens) < self._limit

    def _append_known(self, known: list[int], following: mx.array | None, *, chosen: bool) -> None:
        """Add tokens of which the grammar knows already; `chosen` if the model chose the first of them."""
        for number, token in enumerate(known, start=1):
            ahead = following if number == len(known) else None
            self._append_token(token, ahead, chosen=chosen and number == 1)

    def _append_token(self, token: int, following: mx.array | None, *, chosen: bool) -> None:
        """Add a token to the answer, with the logits after it if they are known; a loop ends the answer."""
        if self.looping:
            return  # a pass may have read tokens after the one that made it a loop
        self.tokens.append(token)
        if self._loop_detector is not None and self._loop_detector.add(token):
            self.looping, self._limit = True, len(self.tokens)
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
        if not self._decoder.builds_ahead or self._choose.decides_what_follows:
            return self._take_known(logits)
        forced = self._forced()
        return self._take_forced(forced) if forced else self._take_chosen(logits)

    def _take_known(self, logits: mx.array) -> mx.array | None:
        """Read what comes next and what it forces in one pass; the logits after the last token, None at the end."""
        known, chosen = self._known(logits)
        following = self._extend(known) if self._goes_on(known) else None
        if following is not None:
            mx.async_eval(following)
        self._append_known(known, following, chosen=chosen)
        return following

    def _known(self, logits: mx.array) -> tuple[list[int], bool]:
        """(tokens that come next whatever the model chooses later, whether it chose the first of them)."""
        forced = self._forced()
        return (self._after_forced(forced), False) if forced else (self._after_choice(self._choice(logits)), True)

    def _choice(self, logits: mx.array) -> int:
        return self._choose.choose(logits)

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
        """Add tokens to the answer; `following` are the logits after the last one."""
        for number, token in enumerate(tokens, start=1):
            self._append_token(token, following if number == len(tokens) else None, chosen=chosen)
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
