"""A row exactly as the model sees it: every token, which of them are learned, how much each counts, how many there are.

What a token counts is the training's business; the caller hands that function in, so that the preview shows the truth
and not a second opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mondrian_core.data.fit import Length
from mondrian_core.models.base import Base
from mondrian_core.models.encoding import answer_ids, encode, image_token
from mondrian_core.rows import Row

PROMPT, PHOTOGRAPH, ANSWER = "prompt", "photograph", "answer"

Weigh = Callable[[Base, Row, Sequence[int]], Sequence[float]]


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of one kind that count the same: their text, number, and weight in the loss (prompt: 0)."""

    kind: str
    text: str
    tokens: int
    weight: float


@dataclass(frozen=True)
class Preview:
    """A row in pieces, in the order the model reads them."""

    lineage: str
    pieces: tuple[Piece, ...]

    def count(self, kind: str) -> int:
        """Tokens of a kind."""
        return sum(piece.tokens for piece in self.pieces if piece.kind == kind)

    @property
    def total(self) -> int:
        """All tokens, those of the photograph and the end token included."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def length(self) -> Length:
        """The counts, for `fit.check_fit`."""
        return Length(self.count(PROMPT), self.count(PHOTOGRAPH), self.count(ANSWER))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        counts = {kind: self.count(kind) for kind in (PROMPT, PHOTOGRAPH, ANSWER)}
        pieces = [
            {"kind": each.kind, "text": each.text, "tokens": each.tokens, "weight": each.weight} for each in self.pieces
        ]
        return {"lineage": self.lineage, "tokens": {**counts, "total": self.total}, "pieces": pieces}


def preview(base: Base, row: Row, weigh: Weigh) -> Preview:
    """The row as the model sees it. `weigh(base, row, answer tokens)` gives what each token of the answer counts."""
    asked = encode(base, row.messages, row.image)
    answer = answer_ids(base, row.messages, row.answer)
    photograph = image_token(base)
    kinds = [PHOTOGRAPH if token == photograph else PROMPT for token in asked.ids] + [ANSWER] * len(answer)
    weights = [0.0] * len(asked.ids) + [float(weight) for weight in weigh(base, row, answer)]
    tokens = list(zip(kinds, weights, [*asked.ids, *answer], strict=True))
    return Preview(row.lineage, tuple(_joined(base, tokens)))


def _joined(base: Base, tokens: Iterable[tuple[str, float, int]]) -> Iterable[Piece]:
    for (kind, weight), group in groupby(tokens, key=lambda each: each[:2]):
        ids = [token for _, _, token in group]
        text = base.tokenizer.decode(ids, skip_special_tokens=False)
        yield Piece(kind, f"[the photograph: {len(ids)} tokens]" if kind == PHOTOGRAPH else text, len(ids), weight)
