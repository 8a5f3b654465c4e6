"""Noticing that an answer has begun to repeat the same tokens without end.

A model that loops fills the whole length limit. An answer is taken for a loop when its last tokens are one block, of
any length, many times in a row: `TIMES` copies without a difference, and at least `FEWEST_TOKENS` repeated tokens. All
digits count as equal, so that a list which only counts on ("Photo 12. Photo 13.") is a loop too. No good answer comes
near: a person doesn't write a phrase three times in a row (`text_quality`), and the keys of the rubric differ.
"""

from __future__ import annotations

import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.score_distribution import decode_token_texts

TIMES = 4  # copies of the block, the first one included
FEWEST_TOKENS = 64  # repeated tokens, the first copy not included
LONGEST_PERIOD = 512  # tokens; longer than a whole answer of the rubric without long comments
_LOOK_EVERY = 16  # tokens; looking at each would cost a small model a few percent
_ANY_DIGIT = -1


class LoopDetector:
    """Follows the tokens of one answer."""

    def __init__(self, base: BaseVLM) -> None:
        self._base = base
        self._tokens: list[int] = []

    def add(self, token: int) -> bool:
        """Follow one more token; True if the answer loops."""
        digits = decode_token_texts(self._base, [token])[0].strip().isdecimal()
        self._tokens.append(_ANY_DIGIT if digits else token)
        return len(self._tokens) % _LOOK_EVERY == 0 and self._ends_in_loop()

    def _ends_in_loop(self) -> bool:
        tokens = np.array(self._tokens[-TIMES * LONGEST_PERIOD :])
        earlier = tokens[-2 : -LONGEST_PERIOD - 2 : -1]
        for period in (each + 1 for each in np.flatnonzero(earlier == tokens[-1]).tolist()):
            repeated = max((TIMES - 1) * period, FEWEST_TOKENS)
            if repeated + period > len(tokens):
                break
            if np.array_equal(tokens[-repeated:], tokens[-repeated - period : -period]):
                return True
        return False
