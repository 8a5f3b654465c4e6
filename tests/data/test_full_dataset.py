"""Every photograph of a dataset as training has it: held-out ones get the rows that training would give them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mondrian_core.data.dataset import full_dataset
from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.dataset.version import DatasetVersion, load_dataset_version
from mondrian_core.data.dataset.writer import HELD_OUT_VARIANTS
from mondrian_core.data.linking.link import LinkManifest, link_critiques
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.recipes import DataRecipe
from tests.data.stand_in import VOICE, picture, profile, workspace_of

PHOTOGRAPHS = 12


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LinkManifest]:
    """Photographs with grain, large enough to be downscaled: JPEG loses something of them."""
    folder = tmp_path_factory.mktemp("full")
    with workspace_of(folder, 0) as store:
        for number in range(PHOTOGRAPHS):
            grain = np.random.default_rng(number).integers(-12, 13, (800, 1200, 3))
            pixels = np.clip(np.asarray(picture(number, (1200, 800)), dtype=int) + grain, 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "source" / f"photo_{number}.jpg", quality=90)
        store.add_profiles(profile(number) for number in range(PHOTOGRAPHS))
        return folder, link_critiques(store, folder, "ansel")


def built(workspace: tuple[Path, LinkManifest], **data: int) -> DatasetVersion:
    return build_dataset(workspace[1], VOICE, DataRecipe(**data), workspace[0])


def by_photograph(rows: list[DatasetRow]) -> dict[str, list[DatasetRow]]:
    found: dict[str, list[DatasetRow]] = {}
    for row in rows:
        found.setdefault(row.photo_id, []).append(row)
    return found


def pixels(row: DatasetRow) -> np.ndarray:
    return np.asarray(row.image.convert("RGB"), dtype=float)


def test_held_out_variants_equal_training_variants(workspace: tuple[Path, LinkManifest]) -> None:
    """Another validation share trains on photographs that the first dataset holds out: its rows are the reference.

    The share moves no seed, so both recipes ask for the same variants.
    """
    holding_out = built(workspace, validation_fraction=0.5)
    training = built(workspace, validation_fraction=0.0)
    expected = by_photograph(training.rows("train"))
    rows = by_photograph(full_dataset.all_training_rows(holding_out))
    both = {row.photo_id for row in holding_out.rows("validation")} & expected.keys()
    assert len(both) >= 3 and any(len(rows[photo_id]) > 1 for photo_id in both)
    for photo_id in both:
        assert len(rows[photo_id]) == len(expected[photo_id])
        for row, reference in zip(rows[photo_id], expected[photo_id], strict=True):
            assert np.abs(pixels(row) - pixels(reference)).mean() < 0.01
            assert (row.answer, row.messages, row.loss_dimensions, row.scores, row.weight) == (
                reference.answer,
                reference.messages,
                reference.loss_dimensions,
                reference.scores,
                reference.weight,
            )


def test_weights_of_every_photograph_sum_to_one(workspace: tuple[Path, LinkManifest]) -> None:
    version = built(workspace)
    rows = by_photograph(full_dataset.all_training_rows(version))
    assert rows.keys() == version.near_duplicate_groups.keys()
    for own in rows.values():
        assert sum(row.weight for row in own) == pytest.approx(1)
        assert all(row.messages[-1]["content"][0]["text"] == row.answer for row in own)


def test_full_dataset_keeps_stored_training_rows(workspace: tuple[Path, LinkManifest]) -> None:
    version = built(workspace)
    stored = [(row.photo_id, row.answer, row.weight) for row in version.rows("train")]
    rows = full_dataset.all_training_rows(version)
    assert [(row.photo_id, row.answer, row.weight) for row in rows][: len(stored)] == stored


def test_recipe_without_variants_gives_one_row_per_photograph(workspace: tuple[Path, LinkManifest]) -> None:
    version = built(workspace, variants=0)
    rows = full_dataset.all_training_rows(version)
    assert [row.photo_id for row in rows] == [row.photo_id for row in full_dataset.all_photograph_rows(version)]
    assert all(row.weight == 1 for row in rows)
    assert full_dataset.count_reviewed_drafts(version) == 0


def test_format_1_dataset_is_read_and_gets_variants_from_stored_pictures(workspace: tuple[Path, LinkManifest]) -> None:
    """A dataset of an earlier release: the answer twice, escaped; no held-out variants; a removed recipe key."""
    version = built(workspace)
    expected = by_photograph(full_dataset.all_training_rows(version))
    older = as_format_1(version)
    assert [row.answer for row in older.rows("train")] == [row.answer for row in version.rows("train")]
    assert [row.messages for row in older.rows("train")] == [row.messages for row in version.rows("train")]
    rows = by_photograph(full_dataset.all_training_rows(older))
    assert {photo_id: len(own) for photo_id, own in rows.items()} == {
        photo_id: len(own) for photo_id, own in expected.items()
    }
    differences = [
        np.abs(pixels(row) - pixels(reference)).mean()
        for photo_id, own in rows.items()
        for row, reference in zip(own, expected[photo_id], strict=True)
    ]
    assert 0.01 < max(differences) < 2  # the stored JPEG is not the original: the tolerance above can fail


def as_format_1(version: DatasetVersion) -> DatasetVersion:
    """Rewrite a version as an earlier release would have written it, in a separate folder."""
    import datasets

    path = version.path.with_name("older")
    for split, count in version.rows_per_split.items():
        if count:
            table = datasets.load_from_disk(str(version.path / split)).cast_column(
                "image", datasets.Image(decode=False)
            )
            rows = [
                {**row, "answer": json.dumps(json.loads(row["messages"][-1]["content"][0]["text"]))} for row in table
            ]
            features = datasets.Features({**table.features, "answer": datasets.Value("string")})
            datasets.Dataset.from_list(rows, features=features).save_to_disk(path / split)
    manifest = {key: value for key, value in version.manifest.items() if key != HELD_OUT_VARIANTS}
    manifest |= {"format": 1, "recipe": {**version.manifest["recipe"], "wording": "rules"}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return load_dataset_version(path)
