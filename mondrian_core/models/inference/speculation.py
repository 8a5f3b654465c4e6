"""Speculative decoding of one answer: a draft from earlier answers is verified in a pass that is needed anyway.

A pass gives the model's own choice after each of its tokens. The draft is accepted as far as it equals what the model
(and the grammar) would have written; the rest is removed from the cache. The answer equals the one without drafts, up
to rounding between passes of different widths (Leviathan et al. 2023, arXiv 2211.17192, for the greedy case).

Shapes: `V` vocabulary, `D` drafted tokens.
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
    """Decodes greedily with drafts from earlier answers, and adds the answer to them."""

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
        self._pending_forced: list[int] = []  # forced tokens of which the draft accepted only the first
        self._known_choice: int | None = None  # the model's choice, if the last pass gave it
        self._plain_pass: tuple[int, float] | None = None  # width and start of the last pass, if it had no draft
        precedents.start_answer()

    def _advance(self, logits: mx.array) -> mx.array | None:
        if not self._precedents.worth_drafting:
            return super()._advance(logits)
        self._plain_pass = None
        return self._verify_draft(logits)

    def _forced(self) -> list[int]:
        forced, self._pending_forced = self._pending_forced or super()._forced(), []
        return forced

    def _pick(self, logits: mx.array) -> mx.array:
        known, self._known_choice = self._known_choice, None
        return super()._pick(logits) if known is None else mx.array(known, dtype=mx.int32)

    def _choice(self, logits: mx.array) -> int:
        known, self._known_choice = self._known_choice, None
        return super()._choice(logits) if known is None else known

    def _take_known(self, logits: mx.array) -> mx.array | None:
        mx.eval(logits)
        now, written = time.perf_counter(), len(self.tokens)
        if self._plain_pass is not None:
            width, began = self._plain_pass
            self._precedents.costs.record(width, now - began)
        following = super()._take_known(logits)
        self._plain_pass = (len(self.tokens) - written, now)
        return following

    def _take_chosen(self, logits: mx.array) -> mx.array | None:
        began = time.perf_counter()
        following = super()._take_chosen(logits)
        self._precedents.costs.record(1, time.perf_counter() - began)
        return following

    def _append_token(self, token: int, following: mx.array | None, *, chosen: bool) -> None:
        self._precedents.observe(token, chosen=chosen)
        super()._append_token(token, following, chosen=chosen)

    def _verify_draft(self, logits: mx.array) -> mx.array | None:
        """Read the known tokens and a draft in one pass; the logits after the accepted ones, None at the end."""
        known, chosen = self._known(logits)
        for number, token in enumerate(known):
            self._precedents.observe(token, chosen=chosen and number == 0)
        if not self._goes_on(known):
            self._append_observed(known, None)
            return None
        # the model chooses one more token itself, so a fully accepted draft stays within the limit
        room = self._limit - len(self.tokens) - len(known) - 1
        drafts = self._before_the_end(self._precedents.draft(len(known), room))
        began = time.perf_counter()
        rows = self._read(known, drafts)
        likeliest = mx.argmax(rows, axis=-1)
        mx.async_eval(likeliest, rows)
        self._append_observed(known, rows[0])
        choices = cast(list[int], likeliest.tolist())
        self._precedents.costs.record(len(known) + len(drafts), time.perf_counter() - began)
        accepted = self._accept_drafts(drafts, rows, choices)
        self._decoder.undo(len(drafts) - accepted)
        return rows[accepted]

    def _append_observed(self, known: list[int], following: mx.array | None) -> None:
        for number, token in enumerate(known, start=1):
            super()._append_token(token, following if number == len(known) else None, chosen=True)

    def _before_the_end(self, drafts: list[int]) -> list[int]:
        ending = next((index for index, token in enumerate(drafts) if token in self._end), None)
        return drafts[:ending]

    def _read(self, known: list[int], drafts: list[int]) -> mx.array:
        """Logits (1 + D, V) after the last known token and after each drafted one."""
        self.passes += 1
        if drafts:
            return self._decoder.read([*known, *drafts])[len(known) - 1 :]
        return self._decoder.extend(known)[None]

    def _accept_drafts(self, drafts: list[int], rows: mx.array, choices: list[int]) -> int:
        """Add the drafted tokens that are what comes next to the answer; how many they are.

        Args:
            drafts: the D drafted tokens.
            rows: logits (1 + D, V) of the pass.
            choices: the likeliest token of each row.
        """
        accepted, expected = 0, self._expected(rows[0], choices[0])
        while accepted < len(drafts) and drafts[accepted] == expected:
            self._choose.consume([expected])
            self._append_token(expected, rows[accepted + 1], chosen=not self._pending_forced)
            self._pending_forced = self._pending_forced[1:]
            accepted += 1
            expected = self._expected(rows[accepted], choices[accepted])
        if not self._pending_forced:
            self._known_choice = expected
        self.drafted += len(drafts)
        self.accepted += accepted
        self._precedents.record_verification(len(drafts), accepted)
        return accepted

    def _expected(self, logits: mx.array, likeliest: int) -> int:
        """The token that comes next, forced or chosen."""
        self._pending_forced = self._forced()
        return self._pending_forced[0] if self._pending_forced else self._choose.greedy_token(logits, likeliest)
