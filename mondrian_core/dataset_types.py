"""Dataset rows and preference pairs: the values that datasets, training and evaluation exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mondrian_core.rubric import AnswerForm

if TYPE_CHECKING:
    from PIL import Image

CORRECTION, OTHER_PHOTOGRAPH = "correction", "other photograph"
RECOMMENDATION, ACCEPTED_CROP = "recommendation", "accepted crop"


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A photograph (or a variant of it) with the conversation that the model is trained on.

    Attributes:
        photo_id: SHA-256 of the source photograph; equal for all its variants, so that contamination is visible.
        image: the picture.
        messages: system, user and assistant, as `prompts.training_messages` writes them.
        answer: the text of the assistant's message.
        scores: the advisor's own (0-10, fractions kept); the answer has them rounded.
        loss_dimensions: dimensions whose score still holds for this variant; score tokens of the others have no loss.
        weight: positive; the weights of one photograph sum to 1.
        form: of the answer.
    """

    photo_id: str
    image: Image.Image
    messages: list[dict[str, Any]]
    answer: str
    scores: Mapping[str, float]
    loss_dimensions: tuple[str, ...]
    weight: float
    form: AnswerForm = AnswerForm.COMMENTS


def original_rows(rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """The first row of every photograph: the photograph itself, before its variants."""
    first: dict[str, DatasetRow] = {}
    for row in rows:
        first.setdefault(row.photo_id, row)
    return list(first.values())


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one photograph: the answer of `row` is preferred to `rejected`, in the same canonical form.

    `kind` is the reason: `CORRECTION` (a person corrected the rejected answer), `OTHER_PHOTOGRAPH` (it is about another
    photograph), `RECOMMENDATION` or `ACCEPTED_CROP` (a person prefers the advice on `dimension`). With a `dimension`
    the answers differ in the advice on it alone, and only that advice is preferred.
    """

    row: DatasetRow
    rejected: str
    kind: str
    dimension: str = ""
