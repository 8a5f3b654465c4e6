"""Every photograph of a dataset as training has it: held-out ones get the variants that they would have had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mondrian_core import stages
from mondrian_core.data import whole
from mondrian_core.data.dataset import DatasetVersion, load
from mondrian_core.recipes import recipe_of
from mondrian_core.settings import Settings


def built(samples: Path, **data: object) -> DatasetVersion:
    context = stages.new_context(Settings(workspace=samples, base_model="mini"), "ansel", recipe_of({"data": data}))
    stages.link(context)
    return load(Path(stages.dataset(context).path))


def test_held_out_photographs_get_the_variants_that_training_would_give_them(samples: Path) -> None:
    """The same photographs under another seed of the split: who is trained on there has these rows."""
    version = built(samples)
    held_out = {row.lineage for split in ("validation", "test") for row in version.rows(split)}
    rows = whole.taught(version)
    assert {row.lineage for row in rows} == set(version.groups) and held_out < set(version.groups)
    for lineage in version.groups:
        own = [row for row in rows if row.lineage == lineage]
        assert sum(row.weight for row in own) == pytest.approx(1)
        assert all(row.messages[-1]["content"][0]["text"] == row.answer for row in own)
    assert any(sum(row.lineage == lineage for row in rows) > 1 for lineage in held_out)
    mirrored = [row for row in rows if row.lineage in held_out][:2]
    original, variant = (np.asarray(row.image.convert("RGB"), dtype=float) for row in mirrored)
    assert np.abs(variant - original[:, ::-1]).mean() < 2 < np.abs(variant - original).mean()


def test_training_rows_stay_as_they_are_stored(samples: Path) -> None:
    version = built(samples)
    stored = [(row.lineage, row.answer, row.weight) for row in version.rows("train")]
    assert [(row.lineage, row.answer, row.weight) for row in whole.taught(version)][: len(stored)] == stored


def test_a_recipe_without_variants_gives_one_row_each(samples: Path) -> None:
    version = built(samples, variants=0)
    assert [row.lineage for row in whole.taught(version)] == [row.lineage for row in whole.photographs(version)]
    assert all(row.weight == 1 for row in whole.taught(version)) and whole.drafts(version) == 0
