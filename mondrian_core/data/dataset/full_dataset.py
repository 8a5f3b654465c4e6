"""Every photograph that the advisor critiqued, as if none were held out: what folds, and small sets, are trained on.

A dataset's held-out photographs have no variants. Here they get those that they would have in training, so that every
photograph is taught alike. That is a function of the dataset version: of its rows and of the recipe in its manifest.
Reviewed drafts are left out: they were calibrated on the critiques of other photographs, which a fold holds back.
"""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.augmentation import image_variants
from mondrian_core.data.dataset.builder import DatasetVersion
from mondrian_core.data.dataset.examples import DatasetExample, augmented_examples
from mondrian_core.data.splits.split import SPLITS, TRAIN
from mondrian_core.dataset_types import DatasetRow, original_rows
from mondrian_core.images import jpeg_bytes
from mondrian_core.recipes import DataRecipe

__all__ = ["all_photograph_rows", "all_training_rows", "count_reviewed_drafts"]


def all_photograph_rows(version: DatasetVersion) -> list[DatasetRow]:
    """One row of each photograph of every split, the photograph itself; no drafts.

    Raises:
        BadInput: when the dataset's files are damaged.
    """
    return original_rows(
        row for split in SPLITS for row in version.rows(split) if row.photo_id in version.near_duplicate_groups
    )


def all_training_rows(version: DatasetVersion) -> list[DatasetRow]:
    """The rows of every photograph of every split, each with its variants; no drafts. Weights of a lineage sum to 1.

    Raises:
        BadInput: when the dataset's files are damaged.
    """
    recipe = DataRecipe.model_validate(version.manifest["recipe"])
    rows = [row for row in version.rows(TRAIN) if row.photo_id in version.near_duplicate_groups]
    held_out = [row for split in SPLITS if split != TRAIN for row in version.rows(split)]
    return rows + [
        each
        for row in held_out
        if row.photo_id in version.near_duplicate_groups
        for each in _with_variants(row, recipe)
    ]


def count_reviewed_drafts(version: DatasetVersion) -> int:
    """How many photographs of the dataset are reviewed drafts, which the functions above leave out."""
    return len(version.manifest["members"]) - len(version.near_duplicate_groups)


def _with_variants(row: DatasetRow, recipe: DataRecipe) -> list[DatasetRow]:
    """A held-out photograph as training would have it. Other wordings are made by rules alone: no model is asked."""
    comments = {name: each.comment for name, each in parse_critique_strict(row.answer).assessments.items()}
    image = row.image.convert("RGB")
    original = DatasetExample(
        split=TRAIN,
        photo_id=row.photo_id,
        record="",
        variant=image_variants.ORIGINAL,
        jpeg=jpeg_bytes(image),
        comments=comments,
        scores=row.scores,
        weight=1.0,
    )
    first, *others = augmented_examples(original, image, recipe)
    return [replace(row, weight=first.weight), *(_row(row, each) for each in others)]


def _row(original: DatasetRow, example: DatasetExample) -> DatasetRow:
    answer = example.answer()
    said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    return DatasetRow(
        photo_id=original.photo_id,
        image=Image.open(io.BytesIO(example.jpeg)),
        messages=[*original.messages[:-1], said],
        answer=answer,
        scores=original.scores,
        loss_dimensions=example.variant.kept_dimensions,
        weight=example.weight,
    )
