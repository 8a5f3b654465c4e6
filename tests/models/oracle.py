"""A drafter that knows what the answer will be, for tests of what the decoder makes of its drafts."""

from __future__ import annotations

from collections.abc import Callable

from mondrian_core.models.inference.ngram_draft import NgramDrafter


class Oracle(NgramDrafter):
    """Expects what `expect` returns, with certainty, at every token."""

    def __init__(self, expect: Callable[[int, int], list[int]]) -> None:
        super().__init__()
        self._expect, self._written = expect, 0

    @property
    def worth_drafting(self) -> bool:
        return True

    def start_answer(self) -> None:
        super().start_answer()
        self._written = 0

    def observe(self, token: int, *, chosen: bool = True) -> None:
        super().observe(token, chosen=chosen)
        self._written += 1

    def likely_continuation(self, limit: int) -> tuple[list[int], list[float]]:
        tokens = self._expect(self._written, limit)[:limit]
        return tokens, [1.0] * len(tokens)
