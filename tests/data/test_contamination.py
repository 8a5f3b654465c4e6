"""The contamination check finds every planted kind; grouping keeps honest data from failing it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.data.augmentation.critique_variants import mirrored_text
from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_comments
from mondrian_core.data.dataset import builder as module
from mondrian_core.data.dataset.builder import BuildLimits, build_dataset
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.splits import split
from mondrian_core.data.splits.contamination import (
    SplitContaminationError,
    SplitContaminationKind,
    check_split_contamination,
    split_contamination,
    uncontaminated_index_ids,
)
from mondrian_core.data.splits.split import TEST, TRAIN, VALIDATION, near_duplicate_groups
from mondrian_core.near_duplicates import CritiqueFingerprint, PhotographFingerprint
from mondrian_core.perceptual_hash import perceptual_hash
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS
from tests.data.stand_in import VOICE, jpeg, picture, profile, workspace_of

COMMENTS = {
    "composition": "The tree stands on the left third; the placement of the stones leads the viewer in.",
    "lighting": "Soft afternoon light, the tones run from 3 to 8.",
    "focus_sharpness": "Sharp from front to back; every texture shows.",
    "color_harmony": "The greys hold together; nothing shouts.",
    "subject_isolation": "The subject stands alone, no other shape competes.",
    "depth_perspective": "Three planes lead to the ridge.",
    "visual_balance": "The dark mass on the left is answered by the sky.",
    "emotional_impact": "A calm feeling throughout the whole photograph.",
}
SCORES = (8, 7, 9, 6, 7, 8, 5, 7)


def photo_id_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def subject(
    number: int, comments: dict[str, str] | None = None, scores: tuple[int, ...] = SCORES
) -> PhotographFingerprint:
    says = CritiqueFingerprint(scores, tuple((comments or dict.fromkeys(DIMENSIONS, f"Number {number}.")).values()))
    return PhotographFingerprint(photo_id_of(number), perceptual_hash(picture(number, (320, 240))), says)


def kinds(*arguments: object) -> list[SplitContaminationKind]:
    return [leak.kind for leak in split_contamination(*arguments)]


def test_distinct_photographs_have_no_leakage() -> None:
    rows = {TRAIN: [subject(1), subject(1), subject(2)], VALIDATION: [subject(3)], TEST: [subject(4)]}
    assert split_contamination(rows) == ()
    check_split_contamination(rows)


def test_same_photograph_in_two_splits_is_leakage() -> None:
    rows = {TRAIN: [subject(1), subject(2)], VALIDATION: [subject(3)], TEST: [subject(2)]}
    assert SplitContaminationKind.SAME_PHOTOGRAPH in kinds(rows)
    with pytest.raises(SplitContaminationError, match=f"{photo_id_of(2)[:12]} is in train and test"):
        check_split_contamination(rows)


@pytest.mark.parametrize(
    ("mirrored", "kind"), [(True, SplitContaminationKind.MIRRORED), (False, SplitContaminationKind.COPY)]
)
def test_near_duplicate_of_held_out_photograph_is_leakage(mirrored: bool, kind: SplitContaminationKind) -> None:
    image = picture(1, (320, 240))
    other = image.transpose(0) if mirrored else image.resize((200, 150))
    twin = PhotographFingerprint(photo_id_of(50), perceptual_hash(other))
    assert kinds({TRAIN: [subject(1)], VALIDATION: [twin]}) == [kind]
    assert kinds({TRAIN: [subject(1), twin], VALIDATION: [subject(2)]}) == []


@pytest.mark.parametrize("seed", range(5))
def test_paraphrase_of_held_out_critique_is_leakage(seed: int) -> None:
    words = paraphrase_comments(COMMENTS, seed)
    assert words is not None and words != COMMENTS
    assert kinds({TRAIN: [subject(1, words)], VALIDATION: [subject(2, COMMENTS)]}) == [
        SplitContaminationKind.PARAPHRASE
    ]


def test_mirrored_critique_counts_as_paraphrase() -> None:
    flipped = {name: mirrored_text(comment) for name, comment in COMMENTS.items()}
    assert flipped != COMMENTS
    assert kinds({TRAIN: [subject(1, flipped)], TEST: [subject(2, COMMENTS)]}) == [SplitContaminationKind.PARAPHRASE]


def test_different_scores_numbers_or_words_are_not_a_paraphrase() -> None:
    other_number = {**COMMENTS, "lighting": COMMENTS["lighting"].replace("3", "4")}
    other_words = {**COMMENTS, "emotional_impact": "Grim, cold, and over before it has begun."}
    held_out = [subject(2, COMMENTS)]
    for one in (subject(1, other_number), subject(1, other_words), subject(1, COMMENTS, (0, *SCORES[1:]))):
        assert split_contamination({TRAIN: [one], TEST: held_out}) == ()


def test_held_out_photograph_in_retrieval_index_is_leakage() -> None:
    twin = PhotographFingerprint(photo_id_of(60), perceptual_hash(picture(3, (320, 240)).transpose(0)))
    rows = {TRAIN: [subject(1)], VALIDATION: [subject(2)], TEST: [subject(3)]}
    index = [subject(1), subject(2), twin, subject(9)]
    assert kinds(rows, index) == [SplitContaminationKind.IN_RETRIEVAL_INDEX] * 2
    allowed = uncontaminated_index_ids(index, [subject(2), subject(3)])
    assert allowed == tuple(sorted([photo_id_of(1), photo_id_of(9)]))
    check_split_contamination(rows, [each for each in index if each.photo_id in allowed])


def test_many_findings_are_counted_and_the_first_named() -> None:
    members = [subject(number) for number in range(12)]
    with pytest.raises(SplitContaminationError, match="and 7 more") as caught:
        check_split_contamination({TRAIN: members, TEST: members})
    assert len(caught.value.findings) == 12
    assert caught.value.exit_status == 3


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_contamination_is_exactly_the_shared_photographs(one: list[int], other: list[int]) -> None:
    def bare(number: int) -> PhotographFingerprint:
        return PhotographFingerprint(photo_id_of(number))

    found = split_contamination({TRAIN: map(bare, one), TEST: map(bare, other)})
    assert {leak.first for leak in found} == {photo_id_of(number) for number in {*one} & {*other}}


# --- in the build -----------------------------------------------------------------------------------------------------


def pasted(folder: Path) -> None:
    """Twelve photographs; the critique of the first is pasted, in other words, to five more."""
    with workspace_of(folder, 12) as store:
        for number in range(20, 26):
            (folder / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
            words = COMMENTS if number == 20 else paraphrase_comments(COMMENTS, number) or {}
            scores = dict(zip(DIMENSIONS, map(float, SCORES), strict=True))
            store.add_profiles([profile(number, comments=words, scores=scores)])


def test_identical_critiques_stay_in_one_split(tmp_path: Path) -> None:
    pasted(tmp_path)
    from mondrian_core.store import Store

    with Store(tmp_path / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    for seed in range(4):
        version = build_dataset(manifest, VOICE, DataRecipe(seed=seed, variations=2), tmp_path)
        homes = {each["split"] for each in version.manifest["members"] if int(each["record"][9:]) >= 20}
        assert len(homes) == 1


def test_build_without_grouping_fails_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check finds what grouping prevents: with grouping disabled, the build must fail."""
    pasted(tmp_path)
    from mondrian_core.store import Store

    with Store(tmp_path / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    monkeypatch.setattr(split, "near_duplicate_pairs", lambda photographs, max_bits: ())
    with pytest.raises(SplitContaminationError, match="paraphrased critique"):
        build_dataset(manifest, VOICE, DataRecipe(), tmp_path)
    assert not (tmp_path / "datasets").exists()


def test_manifest_lists_photographs_that_an_evaluation_may_look_up(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 12) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    index = [PhotographFingerprint(each.sha256) for each in manifest.used] + [subject(77)]
    version = build_dataset(manifest, VOICE, DataRecipe(), tmp_path, limits=BuildLimits(index=index))
    trained = {each["lineage"] for each in version.manifest["members"] if each["split"] == TRAIN}
    assert version.retrieval_photo_ids == trained | {photo_id_of(77)}
    assert version.retrieval_photo_ids < {each.photo_id for each in index}


def test_groups_join_near_duplicates_by_image_and_text() -> None:
    twin = PhotographFingerprint(
        photo_id_of(30), perceptual_hash(picture(1, (320, 240)).transpose(0)), subject(2, COMMENTS).critique
    )
    groups = near_duplicate_groups([subject(1), twin, subject(2, paraphrase_comments(COMMENTS, 1)), subject(3)])
    assert len({groups[photo_id_of(number)] for number in (1, 30, 2)}) == 1
    assert groups[photo_id_of(3)] == photo_id_of(3)
    assert module.near_duplicate_groups is near_duplicate_groups  # type: ignore[attr-defined]
