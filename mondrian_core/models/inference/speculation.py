"""Speculative decoding of one answer: what earlier answers let expect is read in a pass that is needed anyway.

The model's own choice is known for every token of the pass. The draft holds as far as it is what the model (and the
grammar) would have written; the rest is taken back out of the cache. The answer is the one without drafts, up to the
rounding between passes of different widths (Leviathan et al. 2023, arXiv 2211.17192, for the greedy case).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import Decoder
from mondrian_core.models.inference.generation_loop import GenerationLoop, TokenSampler
from mondrian_core.models.inference.ngram_draft import NgramDrafter


class SpeculativeGenerationLoop(GenerationLoop):
    """Decodes greedily with drafts from precedents, and adds the answer to them."""

    def __init__(
        self,
        base: BaseVLM,
        decoder: Decoder,
        choose: TokenSampler,
        limit: int,
        on_token: Callable[[str], None] | None,
        precedents: NgramDrafter,
    ) -> None:
        super().__init__(base, decoder, choose, limit, on_token)
        self._precedents = precedents
        self._pending_forced: list[int] = []  # forced tokens of which a draft had the first ones only
        self._known_choice: int | None = None  # the model's choice, where the pass before has told it
        precedents.start_answer()

    def _advance(self, logits: mx.array) -> mx.array | None:
        return self._verify_draft(logits) if self._precedents.worth_drafting else super()._advance(logits)

    def _forced(self) -> list[int]:
        forced, self._pending_forced = self._pending_forced or super()._forced(), []
        return forced

    def _pick(self, logits: mx.array) -> mx.array:
        settled, self._known_choice = self._known_choice, None
        return super()._pick(logits) if settled is None else mx.array(settled, dtype=mx.int32)

    def _take_chosen(self, logits: mx.array) -> mx.array | None:
        began = time.perf_counter()
        following = super()._take_chosen(logits)
        self._precedents.costs.record(1, time.perf_counter() - began)
        return following

    def _append_token(self, token: int, following: mx.array | None, *, chosen: bool) -> None:
        self._precedents.observe(token, chosen=chosen)
        super()._append_token(token, following, chosen=chosen)

    def _verify_draft(self, logits: mx.array) -> mx.array | None:
        """Read the tokens that are known and a draft behind them; the logits after those that hold."""
        known, chosen = self._known(logits)
        for number, token in enumerate(known):
            self._precedents.observe(token, chosen=chosen and number == 0)
        if not self._goes_on(known):
            self._append_known(known, None)
            return None
        # the model chooses one more token itself, so a draft that holds never passes the limit
        room = self._limit - len(self.tokens) - len(known) - 1
        drafts = self._before_the_end(self._precedents.draft(len(known), room))
        began = time.perf_counter()
        rows = self._read(known, drafts)
        likeliest = mx.argmax(rows, axis=-1)
        mx.async_eval(likeliest, rows)
        self._append_known(known, rows[0])
        choices = cast(list[int], likeliest.tolist())
        self._precedents.costs.record(len(known) + len(drafts), time.perf_counter() - began)
        held = self._accept_drafts(drafts, rows, choices)
        self._decoder.undo(len(drafts) - held)
        return rows[held]

    def _known(self, logits: mx.array) -> tuple[list[int], bool]:
        """Tokens that come next whatever is drafted, and whether the first of them was the model's choice."""
        forced = self._forced()
        chosen = not forced
        if chosen:
            token, self._known_choice = self._known_choice, None
            if token is None:
                token = self._choose.greedy_token(logits, cast(int, mx.argmax(logits).item()))
            if not self._register_choice(token):
                return [], True
            self._choose.consume([token])
            forced = [token, *self._forced()]
        known = self._cut(forced)
        self._choose.consume(known[1:] if chosen else known)
        return known, chosen

    def _append_known(self, known: list[int], following: mx.array | None) -> None:
        for number, token in enumerate(known, start=1):
            super()._append_token(token, following if number == len(known) else None, chosen=True)

    def _before_the_end(self, drafts: list[int]) -> list[int]:
        ending = next((index for index, token in enumerate(drafts) if token in self._end), None)
        return drafts[:ending]

    def _read(self, known: list[int], drafts: list[int]) -> mx.array:
        """Logits (1 + D, V) after the last known token and after each of the D drafts."""
        self.passes += 1
        if drafts:
            return self._decoder.read([*known, *drafts])[len(known) - 1 :]
        return self._decoder.extend(known)[None]

    def _accept_drafts(self, drafts: list[int], rows: mx.array, choices: list[int]) -> int:
        """How many of the drafts are what comes next; they are taken into the answer."""
        held, expected = 0, self._expected(rows[0], choices[0])
        while held < len(drafts) and drafts[held] == expected:
            self._choose.consume([expected])
            self._append_token(expected, rows[held + 1], chosen=not self._pending_forced)
            self._pending_forced = self._pending_forced[1:]
            held += 1
            expected = self._expected(rows[held], choices[held])
        if not self._pending_forced:
            self._known_choice = expected
        self.drafted += len(drafts)
        self.accepted += held
        self._precedents.record_verification(len(drafts), held)
        return held

    def _expected(self, logits: mx.array, likeliest: int) -> int:
        """The token that comes next, forced or chosen."""
        self._pending_forced = self._forced()
        return self._pending_forced[0] if self._pending_forced else self._choose.greedy_token(logits, likeliest)
