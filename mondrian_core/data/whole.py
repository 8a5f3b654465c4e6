"""Every photograph that the advisor critiqued, as if none were held out: what folds, and small sets, are trained on.

A dataset's held-out photographs have no variants. Here they get those that they would have in training, so that every
photograph is taught alike. That is a function of the dataset version: of its rows and of the recipe in its manifest.
Reviewed drafts are left out: they were calibrated on the critiques of other photographs, which a fold holds back.
"""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from mondrian_core.data import augment
from mondrian_core.data.dataset import DatasetVersion
from mondrian_core.data.examples import Example, varied
from mondrian_core.data.split import SPLITS, TRAIN
from mondrian_core.images import jpeg_bytes
from mondrian_core.recipes import DataRecipe
from mondrian_core.rows import Row, originals
from mondrian_core.rubric import read_strict

__all__ = ["drafts", "photographs", "taught"]


def photographs(version: DatasetVersion) -> list[Row]:
    """One row of each photograph of every split, the photograph itself; no drafts.

    Raises:
        BadInput: when the dataset's files are damaged.
    """
    return originals(row for split in SPLITS for row in version.rows(split) if row.lineage in version.groups)


def taught(version: DatasetVersion) -> list[Row]:
    """The rows of every photograph of every split, each with its variants; no drafts. Weights of a lineage sum to 1.

    Raises:
        BadInput: when the dataset's files are damaged.
    """
    recipe = DataRecipe.model_validate(version.manifest["recipe"])
    rows = [row for row in version.rows(TRAIN) if row.lineage in version.groups]
    held_out = [row for split in SPLITS if split != TRAIN for row in version.rows(split)]
    return rows + [each for row in held_out if row.lineage in version.groups for each in _with_variants(row, recipe)]


def drafts(version: DatasetVersion) -> int:
    """How many photographs of the dataset are reviewed drafts, which the functions above leave out."""
    return len(version.manifest["members"]) - len(version.groups)


def _with_variants(row: Row, recipe: DataRecipe) -> list[Row]:
    """A held-out photograph as training would have it. Other wordings are made by rules alone: no model is asked."""
    comments = {name: each.comment for name, each in read_strict(row.answer).assessments.items()}
    image = row.image.convert("RGB")
    original = Example(
        split=TRAIN,
        lineage=row.lineage,
        record="",
        variant=augment.ORIGINAL,
        jpeg=jpeg_bytes(image),
        comments=comments,
        scores=row.scores,
        weight=1.0,
    )
    first, *others = varied(original, image, recipe)
    return [replace(row, weight=first.weight), *(_row(row, each) for each in others)]


def _row(original: Row, example: Example) -> Row:
    answer = example.answer()
    said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    return Row(
        lineage=original.lineage,
        image=Image.open(io.BytesIO(example.jpeg)),
        messages=[*original.messages[:-1], said],
        answer=answer,
        scores=original.scores,
        loss_dimensions=example.variant.kept,
        weight=example.weight,
    )
