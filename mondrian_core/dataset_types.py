"""One example, or one pair of answers, as training, evaluation and the dataset hand it to one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

CORRECTION, OTHER_PHOTOGRAPH = "correction", "other photograph"


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A photograph (or a variant of it) with the conversation the model is taught.

    `lineage` names the source photograph and is the same for every variant of it, so a leak between splits shows.
    `messages` are system, user and assistant as `prompts.training_messages` writes them; `answer` is the assistant's
    text alone. `scores` are the advisor's own (0-10, fractions kept); the answer carries them rounded.
    `loss_dimensions` are the dimensions whose score still holds for this variant; the score tokens of the others don't
    count in the loss. `weight` is positive; the weights of one lineage sum to 1.
    """

    photo_id: str
    image: Image.Image
    messages: list[dict[str, Any]]
    answer: str
    scores: Mapping[str, float]
    loss_dimensions: tuple[str, ...]
    weight: float


def original_rows(rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """The first row of every lineage: the photograph itself, before its variants."""
    first: dict[str, DatasetRow] = {}
    for row in rows:
        first.setdefault(row.photo_id, row)
    return list(first.values())


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one photograph: that of `row` is preferred to `rejected`, in the same canonical form.

    `kind` says why: a person corrected the rejected one (`CORRECTION`), or it is about another photograph (`OTHER`).
    """

    row: DatasetRow
    rejected: str
    kind: str
