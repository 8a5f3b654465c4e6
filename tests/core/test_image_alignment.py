"""Crops, added borders and turned copies are near-duplicates for every check; different photographs are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bench.near_duplicates import false_pairs, near_duplicate_edits, reduced_and_recompressed
from mondrian_core.data.splits.contamination import (
    SplitContaminationKind,
    split_contamination,
    uncontaminated_index_ids,
)
from mondrian_core.data.splits.draft_selection import select_drafts
from mondrian_core.data.splits.split import assign_splits, near_duplicate_groups
from mondrian_core.image_alignment import THUMBNAIL_SIDE, aligned_pairs, comparison_thumbnail
from mondrian_core.mini import rendered_photographs
from mondrian_core.near_duplicates import PhotographFingerprint, near_duplicate_pairs, near_duplicates_of
from mondrian_core.near_duplicates import photograph_fingerprint as fingerprint_of
from mondrian_core.recipes import DataRecipe

EDITS = near_duplicate_edits()
PHOTOGRAPHS = 12


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    return rendered_photographs(PHOTOGRAPHS, seed=11)


@pytest.fixture(scope="module")
def fingerprints(photographs: list[Image.Image]) -> list[PhotographFingerprint]:
    return [fingerprint_of(str(number), image) for number, image in enumerate(photographs)]


@pytest.mark.parametrize("edit", EDITS)
def test_edited_and_recompressed_copies_are_found(
    photographs: list[Image.Image], fingerprints: list[PhotographFingerprint], edit: str
) -> None:
    variants = EDITS[edit]
    missed = [
        number
        for number, (image, known) in enumerate(zip(photographs, fingerprints, strict=True))
        if not near_duplicates_of(
            [known], [fingerprint_of("copy", reduced_and_recompressed(variants[number % len(variants)](image)))]
        )
    ]
    assert len(missed) <= 1, f"{edit}: photographs {missed} are not recognized"


def test_different_photographs_are_not_confused() -> None:
    result = false_pairs(rendered_photographs(60, seed=23))
    assert result.pairs == 60 * 59 // 2
    assert result.found == 0


def test_old_fingerprints_are_compared_by_hash_alone(photographs: list[Image.Image]) -> None:
    copy, crop = photographs[0].resize((200, 133)), EDITS["crop of 90 % in a corner"][0](photographs[0])
    old = replace(fingerprint_of("old", photographs[0]), thumbnail=None)
    assert near_duplicates_of([old], [fingerprint_of("copy", copy)]) == {"copy"}
    assert near_duplicates_of([old], [fingerprint_of("crop", crop)]) == frozenset()


def test_blank_pictures_are_compared_by_hash_alone() -> None:
    black, white = (fingerprint_of(name, Image.new("RGB", (300, 200), name)) for name in ("black", "white"))
    assert aligned_pairs([black.thumbnail or b"", white.thumbnail or b""]) == []
    other = replace(white, photo_id="other", perceptual_hashes=(2**64 - 1, 2**64 - 1))
    assert not list(near_duplicate_pairs([replace(black, perceptual_hashes=(0, 0)), other]))


def test_thumbnail_of_any_shape() -> None:
    for size in ((1, 1), (1, 400), (400, 2), (3000, 40)):
        assert len(comparison_thumbnail(Image.new("RGB", size, "gray"))) == THUMBNAIL_SIDE**2
    with pytest.raises(ValueError, match="not 3"):
        aligned_pairs([b"abc"])


def test_every_check_of_the_splits_knows_a_crop(
    photographs: list[Image.Image], fingerprints: list[PhotographFingerprint]
) -> None:
    crop = fingerprint_of("crop", EDITS["crop of 90 % in a corner"][3](photographs[3]))
    assert near_duplicate_groups([*fingerprints, crop])["crop"] == near_duplicate_groups([*fingerprints, crop])["3"]
    splits = assign_splits([*fingerprints, crop], DataRecipe())
    assert splits["crop"] == splits["3"]
    found = split_contamination({"train": fingerprints, "test": [crop]})
    assert [each.kind for each in found] == [SplitContaminationKind.ALIGNED]
    assert "crop" not in uncontaminated_index_ids([*fingerprints[4:], crop], [fingerprints[3]])
    held_out = dict.fromkeys("0123456789", "train") | {"10": "train", "11": "train", "3": "test"}
    assert "crop" in select_drafts([crop], fingerprints, held_out, DataRecipe()).left_out


def test_progress_counts_up_to_all_thumbnails() -> None:
    rng = np.random.default_rng(0)
    thumbnails = [rng.integers(0, 255, THUMBNAIL_SIDE**2, dtype=np.uint8).tobytes() for _ in range(70)]
    for others, total in ((None, 70), (thumbnails[:40], 110)):
        told: list[tuple[int, int]] = []
        aligned_pairs(thumbnails, others, lambda done, of, told=told: told.append((done, of)))  # type: ignore[misc]
        assert told == sorted(told) and told[0] == (0, total) and told[-1] == (total, total) and len(told) > 3
