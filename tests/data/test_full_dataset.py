"""Every photograph of a dataset as training has it: held-out ones get the variants that they would have had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mondrian_core import stages
from mondrian_core.data.dataset import full_dataset
from mondrian_core.data.dataset.builder import DatasetVersion, load_dataset_version
from mondrian_core.recipes import recipe_from_values
from mondrian_core.settings import Settings


def built(legacy_workspace_copy: Path, **data: object) -> DatasetVersion:
    context = stages.new_stage_context(
        Settings(workspace=legacy_workspace_copy, base_model="mini"), "ansel", recipe_from_values({"data": data})
    )
    stages.link_stage(context)
    return load_dataset_version(Path(stages.dataset_stage(context).path))


def test_held_out_photographs_get_the_variants_that_training_would_give_them(legacy_workspace_copy: Path) -> None:
    """The same photographs under another seed of the split: who is trained on there has these rows."""
    version = built(legacy_workspace_copy)
    held_out = {row.photo_id for split in ("validation", "test") for row in version.rows(split)}
    rows = full_dataset.all_training_rows(version)
    assert {row.photo_id for row in rows} == set(version.near_duplicate_groups) and held_out < set(
        version.near_duplicate_groups
    )
    for lineage in version.near_duplicate_groups:
        own = [row for row in rows if row.photo_id == lineage]
        assert sum(row.weight for row in own) == pytest.approx(1)
        assert all(row.messages[-1]["content"][0]["text"] == row.answer for row in own)
    assert any(sum(row.photo_id == lineage for row in rows) > 1 for lineage in held_out)
    mirrored = [row for row in rows if row.photo_id in held_out][:2]
    original, variant = (np.asarray(row.image.convert("RGB"), dtype=float) for row in mirrored)
    assert np.abs(variant - original[:, ::-1]).mean() < 2 < np.abs(variant - original).mean()


def test_full_dataset_keeps_stored_training_rows(legacy_workspace_copy: Path) -> None:
    version = built(legacy_workspace_copy)
    stored = [(row.photo_id, row.answer, row.weight) for row in version.rows("train")]
    assert [(row.photo_id, row.answer, row.weight) for row in full_dataset.all_training_rows(version)][
        : len(stored)
    ] == stored


def test_a_recipe_without_variants_gives_one_row_each(legacy_workspace_copy: Path) -> None:
    version = built(legacy_workspace_copy, variants=0)
    assert [row.photo_id for row in full_dataset.all_training_rows(version)] == [
        row.photo_id for row in full_dataset.all_photograph_rows(version)
    ]
    assert (
        all(row.weight == 1 for row in full_dataset.all_training_rows(version))
        and full_dataset.count_reviewed_drafts(version) == 0
    )
