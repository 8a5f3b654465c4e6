"""Splits and folds: stable, by photograph and group, without contamination."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondrian_core.data.splits.contamination import check_split_contamination
from mondrian_core.data.splits.split import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    assign_splits,
    folds_from_photographs,
    near_duplicate_groups,
    split_point,
)
from mondrian_core.errors import BadInput
from mondrian_core.near_duplicates import PhotographFingerprint
from mondrian_core.perceptual_hash import perceptual_hash
from mondrian_core.recipes import DataRecipe
from tests.data.stand_in import picture

RECIPE = DataRecipe()


def photo_id_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def hashes_of(number: int) -> tuple[int, int]:
    """Two 64-bit hashes that are far from those of other numbers."""
    digest = hashlib.sha256(f"looks {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")


def subjects_of(numbers: list[int]) -> list[PhotographFingerprint]:
    return [PhotographFingerprint(photo_id_of(number), hashes_of(number)) for number in numbers]


def held_out(side: str) -> bool:
    return side != TRAIN


def by_points(numbers: list[int]) -> int:
    """How many are held out by their split points alone."""
    limit = RECIPE.test_fraction + RECIPE.validation_fraction
    return sum(split_point(photo_id_of(number)) < limit for number in numbers)


many = st.lists(st.integers(0, 100_000), unique=True, min_size=1, max_size=120)


@settings(deadline=None)
@given(many, st.randoms(use_true_random=False))
def test_split_is_independent_of_record_order(numbers: list[int], rng: random.Random) -> None:
    shuffled = list(numbers)
    rng.shuffle(shuffled)
    assert assign_splits(subjects_of(numbers), RECIPE) == assign_splits(subjects_of(shuffled), RECIPE)


@settings(deadline=None)
@given(many, many)
def test_no_photograph_changes_split_when_others_arrive(first: list[int], later: list[int]) -> None:
    everything = list(dict.fromkeys(first + later))
    before, after = assign_splits(subjects_of(first), RECIPE), assign_splits(subjects_of(everything), RECIPE)
    if by_points(first) < 2 or by_points(first) == len(first):
        return  # too few for the fixed points alone; tested below
    assert all(held_out(before[name]) == held_out(after[name]) for name in before)


@settings(deadline=None)
@given(many)
def test_test_photograph_was_always_held_out(numbers: list[int]) -> None:
    small, large = numbers[: len(numbers) // 2], numbers
    if not small or by_points(small) < 2 or by_points(small) == len(small):
        return
    before, after = assign_splits(subjects_of(small), RECIPE), assign_splits(subjects_of(large), RECIPE)
    assert all(held_out(before[name]) for name in before if after[name] == TEST)


@settings(deadline=None)
@given(many)
def test_training_and_held_out_splits_are_never_empty(numbers: list[int]) -> None:
    sides = list(assign_splits(subjects_of(numbers), RECIPE).values())
    assert TRAIN in sides
    assert sum(map(held_out, sides)) >= min(2, len(numbers) - 1)
    assert (TEST in sides) <= (len(numbers) >= RECIPE.test_from)


def test_split_fractions_match_recipe() -> None:
    sides = list(assign_splits(subjects_of(list(range(4000))), RECIPE).values())
    assert abs(sides.count(TEST) / 4000 - 0.25) < 0.02
    assert abs(sides.count(VALIDATION) / 4000 - 0.15) < 0.02


def test_test_split_exists_from_configured_size() -> None:
    few = assign_splits(subjects_of(list(range(RECIPE.test_from - 1))), RECIPE)
    enough = assign_splits(subjects_of(list(range(RECIPE.test_from))), RECIPE)
    assert TEST not in few.values()
    assert TEST in enough.values()
    assert {name for name in few if held_out(few[name])} <= {name for name in enough if held_out(enough[name])}


def test_different_seed_gives_different_split() -> None:
    subjects = subjects_of(list(range(100)))
    assert assign_splits(subjects, RECIPE) != assign_splits(subjects, RECIPE.model_copy(update={"seed": 1}))


def test_copies_and_mirrors_share_a_split() -> None:
    upright = picture(7, (320, 240))
    mirrored = upright.transpose(0)
    half = upright.resize((160, 120))
    subjects = [
        PhotographFingerprint(photo_id_of(number), perceptual_hash(image))
        for number, image in enumerate([upright, mirrored, half, *(picture(100 + n, (320, 240)) for n in range(60))])
    ]
    groups = near_duplicate_groups(subjects)
    assert groups[photo_id_of(0)] == groups[photo_id_of(1)] == groups[photo_id_of(2)]
    assert len(set(groups.values())) == 61
    for seed in range(20):
        sides = assign_splits(subjects, RECIPE.model_copy(update={"seed": seed}))
        assert sides[photo_id_of(0)] == sides[photo_id_of(1)] == sides[photo_id_of(2)]
        check_split_contamination(
            {side: [each for each in subjects if sides[each.photo_id] == side] for side in SPLITS}
        )


def test_near_duplicate_groups_are_transitive() -> None:
    """A is similar to B and B to C: all three form one group although A and C differ more."""
    chain = [
        PhotographFingerprint(photo_id_of(0), (0, ~0 & 2**64 - 1)),
        PhotographFingerprint(photo_id_of(1), (0xFF, ~0xFF & 2**64 - 1)),
        PhotographFingerprint(photo_id_of(2), (0xFFFF, ~0xFFFF & 2**64 - 1)),
    ]
    assert len(set(near_duplicate_groups(chain).values())) == 1
    assert len(set(near_duplicate_groups([chain[0], chain[2]]).values())) == 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 5000), unique=True, min_size=12, max_size=60), st.integers(0, 5000))
def test_near_duplicate_never_moves_photograph_into_training(numbers: list[int], twin: int) -> None:
    if by_points(numbers) < 2 or by_points(numbers) == len(numbers):
        return
    before = assign_splits(subjects_of(numbers), RECIPE)
    copy = PhotographFingerprint(photo_id_of(90_000 + twin), hashes_of(numbers[0]))
    after = assign_splits([*subjects_of(numbers), copy], RECIPE)
    assert all(held_out(after[name]) for name in before if held_out(before[name]))


@settings(deadline=None)
@given(st.integers(6, 60), st.integers(2, 5))
def test_folds_are_balanced_and_keep_groups_together(count: int, number: int) -> None:
    subjects = subjects_of(list(range(count)))
    twin = PhotographFingerprint(photo_id_of(70_000), hashes_of(0))
    result = folds_from_photographs([*subjects, twin], number)
    sizes = [list(result.values()).count(fold) for fold in range(number)]
    assert max(sizes) - min(sizes) <= 2
    assert result[twin.photo_id] == result[photo_id_of(0)]
    assert result == folds_from_photographs([twin, *reversed(subjects)], number)


@given(many, st.integers(2, 6), st.integers(0, 50))
def test_folds_hold_out_every_photograph_once_and_no_fold_is_empty(numbers: list[int], count: int, seed: int) -> None:
    subjects = subjects_of(numbers)
    if len(numbers) < count:
        with pytest.raises(BadInput, match="folds"):
            folds_from_photographs(subjects, count, seed)
        return
    result = folds_from_photographs(subjects, count, seed)
    assert set(result) == {each.photo_id for each in subjects}
    assert set(result.values()) == set(range(count))


def test_large_group_fills_a_fold_and_other_folds_balance() -> None:
    copies_of_one = hashes_of(0)
    chain = [PhotographFingerprint(photo_id_of(number), copies_of_one) for number in range(10)]
    others = subjects_of(list(range(100, 120)))
    result = folds_from_photographs([*chain, *others], 3)
    assert len({result[each.photo_id] for each in chain}) == 1
    assert sorted(list(result.values()).count(fold) for fold in range(3)) == [10, 10, 10]


@pytest.mark.parametrize("count", [-1, 0, 1, 3])
def test_more_folds_than_groups_are_refused(count: int) -> None:
    twin = PhotographFingerprint(photo_id_of(70_000), hashes_of(0))
    with pytest.raises(BadInput, match="2 groups"):
        folds_from_photographs([*subjects_of([0, 1]), twin], count)


def test_split_of_no_photographs_is_empty() -> None:
    assert assign_splits([], RECIPE) == {}
    assert assign_splits(subjects_of([1]), RECIPE) == {photo_id_of(1): TRAIN}
