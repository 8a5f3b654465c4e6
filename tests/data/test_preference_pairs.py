"""Preference pairs: which answer is preferred, none held out, deterministic."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.dataset.preference_pairs import preference_pairs_from_rows, split_preference_pairs
from mondrian_core.data.dataset.version import DatasetVersion
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.images import jpeg_bytes
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.store import Job, Store
from mondrian_core.store.corrections import corrected_job_id, correction_id
from mondrian_core.store.drafts import Draft, DraftStore
from mondrian_core.training_target import training_target
from tests.data.stand_in import VOICE, jpeg, picture, profile, workspace_of

SAID = make_critique(dict.fromkeys(DIMENSIONS, 3.5), dict.fromkeys(DIMENSIONS, "The model: a river in the middle."))


def answered(store: Store, job_id: str, photograph: str) -> None:
    """A finished job, as the service stores it."""
    store.import_jobs(
        [
            Job(
                id=job_id,
                filename=photograph,
                advisor="ansel",
                status="completed",
                answer=SAID.as_dict(),
                mode="baseline",
            )
        ]
    )


def version_of(folder: Path, store: Store) -> DatasetVersion:
    return build_dataset(link_critiques(store, folder, "ansel"), VOICE, DataRecipe(), folder)


def corrected(folder: Path, photographs: int = 12) -> DatasetVersion:
    """A workspace in which a person corrected the model's critique of every photograph."""
    with workspace_of(folder, photographs) as store:
        for number in range(photographs):
            answered(store, f"j{number}", f"photo_{number}.jpg")
        store.add_profiles(
            profile(number, id=correction_id(f"j{number}"), created_at="2026-02-02T10:00:00")
            for number in range(photographs)
        )
        return version_of(folder, store)


def test_corrected_critique_is_rejected_in_its_trained_form(tmp_path: Path) -> None:
    version = corrected(tmp_path)
    train = {row.photo_id: row for row in reversed(version.rows("train"))}
    pairs = split_preference_pairs(version, "train", others=0)
    assert [pair.row.photo_id for pair in pairs] == sorted(train)
    for pair in pairs:
        assert pair.kind == "correction" and pair.rejected == training_target(SAID)
        assert set(parse_critique_strict(pair.rejected).scores.values()) == {4}
        assert pair.row.answer == train[pair.row.photo_id].answer != pair.rejected
        assert pair.row.loss_dimensions == DIMENSIONS, "the photograph itself, not a variant"


def test_unchanged_correction_and_missing_job_make_no_pair(tmp_path: Path) -> None:
    same = {name: assessment.comment for name, assessment in SAID.assessments.items()}
    with workspace_of(tmp_path, 6) as store:
        for number in range(5):
            answered(store, f"j{number}", f"photo_{number}.jpg")
        store.add_profiles(
            [
                profile(
                    n,
                    id=correction_id(f"j{n}"),
                    scores=dict.fromkeys(DIMENSIONS, 4.0),
                    comments=same,
                    created_at="2026-02-02T10:00:00",
                )
                for n in range(5)
            ]
        )
        store.add_profiles([profile(5, id=correction_id("gone"), created_at="2026-02-02T10:00:00")])
        linked = {each.record: each for each in link_critiques(store, tmp_path, "ansel").used}
        version = version_of(tmp_path, store)
    assert linked["profile:correction-gone"].corrects is None
    assert linked["profile:correction-j0"].corrects == training_target(SAID)
    assert version.corrections and split_preference_pairs(version, "train", others=0) == []


def test_corrected_draft_is_a_pair_and_never_rejected_for_another(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 8) as store:
        held = DraftStore(store)
        for number in (500, 501):
            data, path = jpeg(number), f"source/new_{number}.jpg"
            (tmp_path / path).write_bytes(data)
            held.add(
                [
                    Draft(
                        id=f"d{number}",
                        advisor="ansel",
                        sha256=hashlib.sha256(data).hexdigest(),
                        image_path=path,
                        base="b",
                        prompt_digest="p",
                        raw=SAID.scores,
                        proposal=SAID,
                    )
                ]
            )
        better = make_critique(dict.fromkeys(DIMENSIONS, 9), dict.fromkeys(DIMENSIONS, "A person: light on the water."))
        held.correct("d500", better, "person:a")
        held.accept("d501", "person:a")
        version = version_of(tmp_path, store)
    pairs = split_preference_pairs(version, "train", others=3)
    (correction,) = [pair for pair in pairs if pair.kind == "correction"]
    assert (correction.row.answer, correction.rejected) == (training_target(better), training_target(SAID))
    written = {row.answer for row in version.rows("train") if row.photo_id in version.near_duplicate_groups}
    others = [pair for pair in pairs if pair.kind != "correction"]
    assert others and all({pair.row.answer, pair.rejected} <= written for pair in others)


def test_digest_changes_exactly_when_pairs_change(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 8) as store:
        answered(store, "j3", "photo_3.jpg")
        answered(store, "j4", "photo_4.jpg")
        before = version_of(tmp_path, store)
        sides = {Path(each["photograph"]).name: each["split"] for each in before.manifest["members"]}
        number = next(n for n in (3, 4) if sides[f"photo_{n}.jpg"] == "train")
        words = profile(number, created_at="2026-02-02T10:00:00")
        # what a person says to the photograph stays the same: what changes is that it corrects something
        store.add_profiles([replace(words, id=correction_id(f"j{number}"))])
        after = version_of(tmp_path, store)
    assert before.digest != after.digest
    assert not before.corrections and set(after.corrections.values()) == {training_target(SAID)}
    assert [row.answer for row in before.rows("train")] == [row.answer for row in after.rows("train")]


def test_preference_pairs_exclude_held_out_photographs(tmp_path: Path) -> None:
    """Neither side of a pair is held out; a mirrored copy of a held-out photograph is held out with it."""
    with workspace_of(tmp_path, 70) as store:
        plain = version_of(tmp_path, store)
        tested = next(each for each in plain.manifest["members"] if each["split"] == "test")
        number = int(Path(tested["photograph"]).stem.rpartition("_")[2])
        mirrored = picture(number).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        (tmp_path / "source" / "twin.jpg").write_bytes(jpeg_bytes(mirrored))
        store.add_profiles([profile(200, "source/twin.jpg")])
        version = version_of(tmp_path, store)
    twin = hashlib.sha256((tmp_path / "source" / "twin.jpg").read_bytes()).hexdigest()
    for split in ("train", "validation"):
        pairs = split_preference_pairs(version, split, others=3)
        rows = version.rows(split)
        assert len(pairs) == 3 * version.photographs[split] > 0
        assert {pair.row.photo_id for pair in pairs} == {row.photo_id for row in rows}
        assert {pair.rejected for pair in pairs} <= {row.answer for row in rows}
        assert twin not in {pair.row.photo_id for pair in pairs}
    with pytest.raises(ValueError, match="held out"):
        split_preference_pairs(version, "test", others=1)


def test_evaluation_split_gives_no_preference_pairs(tmp_path: Path) -> None:
    version = corrected(tmp_path)
    assert version.selection_split is None
    with pytest.raises(ValueError, match="held out"):
        split_preference_pairs(version, "validation", others=1)


def row(photo_id: str, answer: str) -> DatasetRow:
    return DatasetRow(
        photo_id=photo_id,
        image=Image.new("RGB", (4, 4)),
        messages=[],
        answer=answer,
        scores={},
        loss_dimensions=DIMENSIONS,
        weight=1.0,
    )


@given(st.integers(2, 12), st.integers(0, 4), st.integers(0, 5), st.integers(1, 4))
def test_preference_pairs_are_independent_of_row_order(count: int, others: int, seed: int, group_size: int) -> None:
    rows = [row(f"p{number}", f"answer {number}") for number in range(count)]
    groups = {each.photo_id: f"g{number // group_size}" for number, each in enumerate(rows)}
    pairs = preference_pairs_from_rows(rows, groups, {}, others, seed)
    assert pairs == preference_pairs_from_rows(rows[::-1], groups, {}, others, seed)
    photo_id_of_answer = {each.answer: each.photo_id for each in rows}
    for pair in pairs:
        assert groups[pair.row.photo_id] != groups[photo_id_of_answer[pair.rejected]]
    for each in rows:
        mine = [pair.rejected for pair in pairs if pair.row is each]
        possible = sum(groups[other.photo_id] != groups[each.photo_id] for other in rows)
        assert len(mine) == len(set(mine)) == min(others, possible)


def test_pair_choice_depends_on_seed_and_is_stable_when_photographs_arrive(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"answer {number}") for number in range(41)]
    groups = {each.photo_id: each.photo_id for each in rows}

    def drawn(rows: list[DatasetRow], seed: int) -> dict[str, str]:
        return {pair.row.photo_id: pair.rejected for pair in preference_pairs_from_rows(rows, groups, {}, 1, seed)}

    assert drawn(rows, 0) != drawn(rows, 1)
    before, after = drawn(rows[:40], 0), drawn(rows, 0)
    assert sum(after[name] != said for name, said in before.items()) < 8


def test_correction_id_round_trip() -> None:
    assert corrected_job_id(correction_id("j1")) == "j1" and corrected_job_id("p1") is None
