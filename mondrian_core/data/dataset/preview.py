"""Preview of a dataset row as the model sees it: every token, its kind, and its weight in the loss.

Training decides the weights; the caller passes that function in, so the preview can't disagree with the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mondrian_core.data.dataset.token_budget import RowLength
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedAnswer, encode_answer, encode_prompt, image_token_id

PROMPT, PHOTOGRAPH, ANSWER = "prompt", "photograph", "answer"

TokenWeighting = Callable[[DatasetRow, EncodedAnswer], Sequence[float]]


@dataclass(frozen=True)
class TokenSpan:
    """Consecutive tokens of one kind and weight: their text, number, and weight in the loss (prompt: 0)."""

    kind: str
    text: str
    tokens: int
    weight: float


@dataclass(frozen=True)
class RowPreview:
    """A row as spans, in the order the model reads them."""

    photo_id: str
    spans: tuple[TokenSpan, ...]

    def count(self, kind: str) -> int:
        """Number of tokens of one kind."""
        return sum(piece.tokens for piece in self.spans if piece.kind == kind)

    @property
    def total(self) -> int:
        """Number of tokens, including those of the photograph and the end token."""
        return sum(piece.tokens for piece in self.spans)

    @property
    def length(self) -> RowLength:
        """The counts, for `token_budget.check_row_lengths`."""
        return RowLength(self.count(PROMPT), self.count(PHOTOGRAPH), self.count(ANSWER))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        counts = {kind: self.count(kind) for kind in (PROMPT, PHOTOGRAPH, ANSWER)}
        pieces = [
            {"kind": each.kind, "text": each.text, "tokens": each.tokens, "weight": each.weight} for each in self.spans
        ]
        return {"lineage": self.photo_id, "tokens": {**counts, "total": self.total}, "pieces": pieces}


def preview_row(base: BaseVLM, row: DatasetRow, weigh: TokenWeighting) -> RowPreview:
    """The row as the model sees it; `weigh(row, answer)` returns the weight of each answer token."""
    prompt = encode_prompt(base, row.messages, row.image)
    answer = encode_answer(base, row.messages, row.answer)
    photograph = image_token_id(base)
    kinds = [PHOTOGRAPH if token == photograph else PROMPT for token in prompt.ids] + [ANSWER] * len(answer.ids)
    weights = [0.0] * len(prompt.ids) + [float(weight) for weight in weigh(row, answer)]
    tokens = list(zip(kinds, weights, [*prompt.ids, *answer.ids], strict=True))
    return RowPreview(row.photo_id, tuple(_joined(base, tokens)))


def _joined(base: BaseVLM, tokens: Iterable[tuple[str, float, int]]) -> Iterable[TokenSpan]:
    for (kind, weight), group in groupby(tokens, key=lambda each: each[:2]):
        ids = [token for _, _, token in group]
        text = base.tokenizer.decode(ids, skip_special_tokens=False)
        yield TokenSpan(kind, f"[the photograph: {len(ids)} tokens]" if kind == PHOTOGRAPH else text, len(ids), weight)
