"""Rows before they are written: the photographs of a split, their variants and other wordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.data.augmentation import image_variants
from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_comments
from mondrian_core.data.linking.link_manifest import HUMAN, SYNTHETIC, LinkedRecord
from mondrian_core.data.splits.near_duplicates import CritiqueFingerprint, critique_fingerprint
from mondrian_core.data.splits.split import TRAIN
from mondrian_core.images import downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import make_critique, overlong_comments, training_target

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class DatasetExample:
    """A row before it is written: the picture as JPEG bytes.

    `corrects` stands with the photograph itself, see `records.LinkedRecord`.
    """

    split: str
    photo_id: str
    record: str
    variant: image_variants.ImageVariant
    jpeg: bytes
    comments: Mapping[str, str]
    scores: Mapping[str, float]
    weight: float
    wording: int = 0
    origin: str = HUMAN
    photograph: str = ""
    corrected_critique: str = ""

    @property
    def name(self) -> str:
        """What was done to picture and words, such as "mirror" or "original~1" (the first other wording)."""
        return f"{self.variant.name}~{self.wording}" if self.wording else self.variant.name

    def answer(self) -> str:
        """What is taught: whole scores, and the grade that belongs to them."""
        return training_target(make_critique(self.scores, self.comments))

    @property
    def critique_fingerprint(self) -> CritiqueFingerprint:
        """What the row teaches, for the leakage check."""
        return critique_fingerprint(self.scores, self.comments)


Paraphraser = Callable[[Mapping[str, str], int], dict[str, str] | None]


def build_dataset_examples(
    record: LinkedRecord, split: str, recipe: DataRecipe, workspace: Path, words: Paraphraser = paraphrase_comments
) -> list[DatasetExample]:
    """The rows of one photograph; their weights sum to 1.

    Only training has variants and other wordings, and a drafted critique has neither: the share of drafts is counted in
    rows and in weight alike.
    """
    image = downscale_to_fit(open_photograph(workspace / record.photograph).image)
    original = DatasetExample(
        split=split,
        photo_id=record.sha256,
        record=record.record,
        variant=image_variants.ORIGINAL,
        jpeg=jpeg_bytes(image),
        comments=record.comments,
        scores=record.scores,
        weight=1.0,
        origin=record.origin,
        photograph=record.photograph,
        corrected_critique=record.corrects or "",
    )
    if split != TRAIN or record.origin == SYNTHETIC:
        return [original]
    return augmented_examples(original, image, recipe, words)


def augmented_examples(
    original: DatasetExample, image: Image.Image, recipe: DataRecipe, words: Paraphraser = paraphrase_comments
) -> list[DatasetExample]:
    """A photograph with the variants and other wordings that training gives it, itself first; weights sum to 1.

    Args:
        image: the photograph that `original` is made of, 8-bit RGB.
    """
    made = [
        (variant, image_variants.apply_variant(variant, image))
        for variant in image_variants.plan_variants(original.photo_id, original.comments, recipe)[1:]
    ]
    examples = [original]
    examples += [
        replace(
            original,
            variant=variant,
            jpeg=jpeg_bytes(picture),
            corrected_critique="",
            comments=image_variants.variant_comments(variant, original.comments),
        )
        for variant, picture in made
        if picture is not None
    ]
    examples += _paraphrased_examples(original, recipe, words)
    return [replace(each, weight=1 / len(examples)) for each in examples]


def _paraphrased_examples(original: DatasetExample, recipe: DataRecipe, make: Paraphraser) -> list[DatasetExample]:
    """The photograph itself with its critique in other words, up to `recipe.variations` times, all different."""
    found = {tuple(original.comments.values()): original}
    for attempt in range(4 * recipe.variations):
        if len(found) > recipe.variations:
            break
        words = make(
            original.comments, image_variants.augmentation_seed(f"words {attempt} {original.photo_id}", recipe.seed)
        )
        if words and not overlong_comments(words):
            found.setdefault(tuple(words.values()), replace(original, comments=words, wording=len(found), corrected_critique=""))
    return list(found.values())[1:]
