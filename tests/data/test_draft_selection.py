"""Drafts in a dataset: reviewed, marked, in training only, not similar to held-out photographs, at most half."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.dataset.version import DatasetVersion, load_stored_columns
from mondrian_core.data.linking.link import ExclusionReason, LinkManifest, link_critiques
from mondrian_core.data.splits.draft_selection import SHARE_EXCEEDED_REASON, SIMILAR_TO_HELD_OUT_REASON, select_drafts
from mondrian_core.data.splits.split import TRAIN, assign_splits
from mondrian_core.errors import NothingToDo
from mondrian_core.near_duplicates import PhotographFingerprint
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.store import Store
from mondrian_core.store.drafts import Draft, DraftStore
from tests.data.stand_in import VOICE, jpeg, picture, profile, workspace_of

RECIPE = DataRecipe()


def draft_of(folder: Path, number: int, image: bytes | None = None) -> Draft:
    """A waiting draft, with its photograph written to source/."""
    data = image or jpeg(number)
    path = f"source/new_{number}.jpg"
    (folder / path).write_bytes(data)
    scores = {name: float((3 * number + place) % 11) for place, name in enumerate(DIMENSIONS)}
    critique = make_critique(scores, dict.fromkeys(DIMENSIONS, f"Draft {number}: a river in the middle."))
    return Draft(
        id=f"d{number}",
        advisor="ansel",
        sha256=hashlib.sha256(data).hexdigest(),
        image_path=path,
        base="base",
        prompt_digest="prompt",
        raw=scores,
        proposal=critique,
    )


def linked_with(folder: Path, photographs: int, drafts: int) -> LinkManifest:
    """A workspace whose drafts are all accepted."""
    with workspace_of(folder, photographs) as store:
        held = DraftStore(store)
        held.add(draft_of(folder, 500 + number) for number in range(drafts))
        for draft in held.waiting():
            held.accept(draft.id, "person:test")
        return link_critiques(store, folder, "ansel")


def version_of(folder: Path, photographs: int, drafts: int, recipe: DataRecipe = RECIPE) -> DatasetVersion:
    return build_dataset(linked_with(folder, photographs, drafts), VOICE, recipe, folder)


def test_only_reviewed_drafts_are_linked(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 3) as store:
        drafts = DraftStore(store)
        drafts.add(draft_of(tmp_path, 500 + number) for number in range(4))
        drafts.accept("d500", "person:a")
        drafts.correct("d501", make_critique(dict.fromkeys(DIMENSIONS, 2.0), dict.fromkeys(DIMENSIONS, "No.")), "b")
        drafts.discard("d502", "person:a")
        manifest = link_critiques(store, tmp_path, "ansel")
    used = {each.record: each for each in manifest.used}
    assert {record for record in used if record.startswith("draft:")} == {"draft:d500"}
    assert used["draft:d500"].origin == "synthetic"
    left = {each.record: each.reason for each in manifest.left_out}
    assert left["draft:d502"] is ExclusionReason.DRAFT_DISCARDED
    assert left["draft:d503"] is ExclusionReason.DRAFT_WAITING
    assert left["draft:d501"] is ExclusionReason.PLACEHOLDER_COMMENTS  # a correction is held to the same rules
    assert "1 drafted and accepted" in manifest.table()


def test_human_critique_precedes_accepted_draft(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 2) as store:
        drafts = DraftStore(store)
        drafts.add([draft_of(tmp_path, 500)])
        drafts.accept("d500", "person:a")
        store.add_profiles([profile(9, "source/new_500.jpg", created_at="2001-01-01T00:00:00")])
        manifest = link_critiques(store, tmp_path, "ansel")
    assert {each.record for each in manifest.used} == {"profile:p0", "profile:p1", "profile:p9"}
    assert [each.reason for each in manifest.left_out if each.record == "draft:d500"] == [ExclusionReason.SUPERSEDED]


def test_drafts_are_marked_and_in_training_only_and_do_not_change_the_split(tmp_path: Path) -> None:
    without = version_of(tmp_path / "without", 12, 0)
    version = version_of(tmp_path / "with", 12, 4)
    sides = {each["lineage"]: each["split"] for each in version.manifest["members"]}
    assert {each["lineage"]: each["split"] for each in without.manifest["members"]}.items() <= sides.items()
    rows = {split: load_stored_columns(version.path / split) for split in (TRAIN, "validation")}
    assert sorted({row["record"] for row in rows[TRAIN] if row["origin"] == "synthetic"}) == [
        "draft:d500",
        "draft:d501",
        "draft:d502",
        "draft:d503",
    ]
    assert {row["origin"] for row in rows["validation"]} == {"human"}
    assert all(row["variant"] == "original" and row["weight"] == 1 for row in rows[TRAIN] if "draft" in row["record"])
    assert version.digest != without.digest
    assert version.manifest["histograms"] == without.manifest["histograms"]
    assert "4 were drafted by a model and accepted or corrected by a person" in (version.path / "README.md").read_text()
    assert version.photograph_hashes == set(sides)
    assert set(version.near_duplicate_groups) == set(without.near_duplicate_groups)


@pytest.mark.parametrize("share", [0.5, 0.2, 0.0])
def test_drafts_are_limited_in_rows_and_in_weight(tmp_path: Path, share: float) -> None:
    version = version_of(tmp_path, 8, 30, DataRecipe(synthetic_share=share, variants=0))
    rows = load_stored_columns(version.path / TRAIN)
    drafted = [row for row in rows if row["origin"] == "synthetic"]
    assert len(drafted) <= share * len(rows)
    assert sum(row["weight"] for row in drafted) <= share * sum(row["weight"] for row in rows) + 1e-9
    assert len(drafted) + 1 > share * (len(rows) + 1)  # one more would be too many
    left_out = version.manifest["drafts"]["left_out"]
    assert len(left_out) == 30 - len(drafted) and set(left_out.values()) == {SHARE_EXCEEDED_REASON}


def test_draft_similar_to_held_out_photograph_is_left_out(tmp_path: Path) -> None:
    import io

    with workspace_of(tmp_path, 12) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
        first = build_dataset(manifest, VOICE, RECIPE, tmp_path)
        held_out = next(each for each in first.manifest["members"] if each["split"] == "validation")
        number = int(held_out["record"][9:])
        mirrored = io.BytesIO()
        picture(number).transpose(0).save(mirrored, "JPEG", quality=92)
        drafts = DraftStore(store)
        drafts.add([draft_of(tmp_path, 500, mirrored.getvalue()), draft_of(tmp_path, 501)])
        for draft in drafts.waiting():
            drafts.accept(draft.id, "person:test")
        version = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, RECIPE, tmp_path)
    assert version.manifest["drafts"]["used"] == 1
    assert list(version.manifest["drafts"]["left_out"].values()) == [SIMILAR_TO_HELD_OUT_REASON]


def test_dataset_of_only_drafts_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="drafts alone"):
        version_of(tmp_path, 0, 3)


@given(st.integers(2, 30), st.integers(0, 40), st.sampled_from([0.0, 0.1, 0.3, 0.5]))
def test_drafts_are_limited_to_synthetic_share(real: int, drafts: int, share: float) -> None:
    def subject(number: int) -> PhotographFingerprint:
        return PhotographFingerprint(hashlib.sha256(str(number).encode()).hexdigest())

    photographs = [subject(number) for number in range(real)]
    offered = [subject(1000 + number) for number in range(drafts)]
    sides = assign_splits(photographs, RECIPE)
    joined = select_drafts(offered, photographs, sides, DataRecipe(synthetic_share=share))
    trained = sum(side == TRAIN for side in sides.values())
    assert len(joined.used) <= share * (len(joined.used) + trained) + 1e-9
    assert set(joined.used) | set(joined.left_out) == {each.photo_id for each in offered}
    fewer = select_drafts(offered[:-1], photographs, sides, DataRecipe(synthetic_share=share))
    assert len(set(fewer.used) - set(joined.used)) <= 1


def test_index_profile_is_never_trained_on(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 0) as store:
        (tmp_path / "source" / "photo_1.jpg").write_bytes(jpeg(1))
        store.add_profiles([profile(1, origin="index")])
        manifest = link_critiques(store, tmp_path, "ansel")
    assert manifest.used == ()
    assert manifest.counts == {"used": 0, "index_made": 1}


def test_database_without_drafts_table_is_linked(legacy_workspace_copy: Path) -> None:
    with Store(legacy_workspace_copy / "mondrian.db", read_only=True) as store:
        assert not store.has_table("drafts")
        assert len(link_critiques(store, legacy_workspace_copy, "ansel").used) == 10
