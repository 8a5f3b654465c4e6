"""Every photograph of a dataset as if none were held out: the rows that folds and small sets are trained on.

Held-out photographs get the augmented rows that training would give them. Those were made from the original pixels when
the dataset was built, so they are the rows that the same photograph has in a training split. Reviewed drafts are left
out: they were calibrated on the critiques of other photographs, which a fold holds back.
"""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.augmentation import image_variants
from mondrian_core.data.dataset.examples import DatasetExample, augmented_examples
from mondrian_core.data.dataset.version import DatasetVersion
from mondrian_core.data.splits.split import SPLITS, TRAIN
from mondrian_core.dataset_types import DatasetRow, original_rows
from mondrian_core.images import jpeg_bytes
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import make_critique


def all_photograph_rows(version: DatasetVersion) -> list[DatasetRow]:
    """One row per photograph of every split, the photograph itself; no drafts.

    Raises:
        BadInput: when the dataset's files are damaged.
    """
    return original_rows(row for split in SPLITS for row in _rows_without_drafts(version, split))


def all_training_rows(version: DatasetVersion) -> list[DatasetRow]:
    """The rows of every photograph of every split with its augmented rows; no drafts. A photograph's weights sum to 1.

    Raises:
        BadInput: when the dataset's files are damaged.
    """
    stored, recipe = version.held_out_variants(), version.recipe
    rows = _rows_without_drafts(version, TRAIN)
    for split in SPLITS:
        for row in _rows_without_drafts(version, split) if split != TRAIN else ():
            augmented = _variants_of_stored_picture(row, recipe) if stored is None else stored.get(row.photo_id, [])
            weight = 1 / (1 + len(augmented))
            rows += [replace(each, weight=weight) for each in (row, *augmented)]
    return rows


def count_reviewed_drafts(version: DatasetVersion) -> int:
    """How many photographs of the dataset are reviewed drafts, which the functions above leave out."""
    return len(version.manifest["members"]) - len(version.near_duplicate_groups)


def _rows_without_drafts(version: DatasetVersion, split: str) -> list[DatasetRow]:
    groups = version.near_duplicate_groups
    return [row for row in version.rows(split) if row.photo_id in groups]


def _variants_of_stored_picture(row: DatasetRow, recipe: DataRecipe) -> list[DatasetRow]:
    """The augmented rows of a held-out photograph of a format 1 dataset, which doesn't store them.

    They are made from the stored JPEG, so their pixels differ slightly (up to 0.6 of 255 on average) from those that a
    build makes from the original.
    """
    image = row.image.convert("RGB")
    comments = {name: each.comment for name, each in parse_critique_strict(row.answer).assessments.items()}
    original = DatasetExample(
        photo_id=row.photo_id,
        record="",
        variant=image_variants.ORIGINAL,
        jpeg=jpeg_bytes(image),
        critique=make_critique(row.scores, comments),
        answer=row.answer,
    )
    return [_row(row, example) for example in augmented_examples(original, image, recipe, lambda *_: True)]


def _row(original: DatasetRow, example: DatasetExample) -> DatasetRow:
    message = {"role": "assistant", "content": [{"type": "text", "text": example.answer}]}
    return replace(
        original,
        image=Image.open(io.BytesIO(example.jpeg)),
        messages=[*original.messages[:-1], message],
        answer=example.answer,
        loss_dimensions=example.variant.kept_dimensions,
    )
