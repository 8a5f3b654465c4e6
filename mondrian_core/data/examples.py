"""Rows before they are written: the photographs of a split, their variants and other wordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.data import augment
from mondrian_core.data.records import HUMAN, SYNTHETIC, LinkedRecord
from mondrian_core.data.split import TRAIN
from mondrian_core.data.twins import Says, said
from mondrian_core.data.variations import vary
from mondrian_core.images import bounded, jpeg_bytes, open_photograph
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import make_critique, taught, too_long

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row before it is written: the picture as JPEG bytes.

    `corrects` stands with the photograph itself, see `records.LinkedRecord`.
    """

    split: str
    lineage: str
    record: str
    variant: augment.Variant
    jpeg: bytes
    comments: Mapping[str, str]
    scores: Mapping[str, float]
    weight: float
    wording: int = 0
    origin: str = HUMAN
    photograph: str = ""
    corrects: str = ""

    @property
    def name(self) -> str:
        """What was done to picture and words, such as "mirror" or "original~1" (the first other wording)."""
        return f"{self.variant.name}~{self.wording}" if self.wording else self.variant.name

    def answer(self) -> str:
        """What is taught: whole scores, and the grade that belongs to them."""
        return taught(make_critique(self.scores, self.comments))

    @property
    def says(self) -> Says:
        """What the row teaches, for the leakage check."""
        return said(self.scores, self.comments)


Vary = Callable[[Mapping[str, str], int], dict[str, str] | None]


def examples_of(
    record: LinkedRecord, split: str, recipe: DataRecipe, workspace: Path, words: Vary = vary
) -> list[Example]:
    """The rows of one photograph; their weights sum to 1.

    Only training has variants and other wordings, and a drafted critique has neither: the share of drafts is counted in
    rows and in weight alike.
    """
    image = bounded(open_photograph(workspace / record.photograph).image)
    original = Example(
        split=split,
        lineage=record.sha256,
        record=record.record,
        variant=augment.ORIGINAL,
        jpeg=jpeg_bytes(image),
        comments=record.comments,
        scores=record.scores,
        weight=1.0,
        origin=record.origin,
        photograph=record.photograph,
        corrects=record.corrects or "",
    )
    if split != TRAIN or record.origin == SYNTHETIC:
        return [original]
    return varied(original, image, recipe, words)


def varied(original: Example, image: Image.Image, recipe: DataRecipe, words: Vary = vary) -> list[Example]:
    """A photograph with the variants and other wordings that training gives it, itself first; weights sum to 1.

    Args:
        image: the photograph that `original` is made of, 8-bit RGB.
    """
    made = [
        (variant, augment.applied(variant, image))
        for variant in augment.plan(original.lineage, original.comments, recipe)[1:]
    ]
    examples = [original]
    examples += [
        replace(
            original,
            variant=variant,
            jpeg=jpeg_bytes(picture),
            corrects="",
            comments=augment.applied_to_comments(variant, original.comments),
        )
        for variant, picture in made
        if picture is not None
    ]
    examples += _reworded(original, recipe, words)
    return [replace(each, weight=1 / len(examples)) for each in examples]


def _reworded(original: Example, recipe: DataRecipe, make: Vary) -> list[Example]:
    """The photograph itself with its critique in other words, up to `recipe.variations` times, all different."""
    found = {tuple(original.comments.values()): original}
    for attempt in range(4 * recipe.variations):
        if len(found) > recipe.variations:
            break
        words = make(original.comments, augment.seed_of(f"words {attempt} {original.lineage}", recipe.seed))
        if words and not too_long(words):
            found.setdefault(tuple(words.values()), replace(original, comments=words, wording=len(found), corrects=""))
    return list(found.values())[1:]
