"""Train, validation and test splits, and cross-validation folds: deterministic, stable when photographs are added.

Each photograph has a fixed split point in 0..1, computed from its bytes. Points below `test_fraction` go to the test,
the next `validation_fraction` to the validation, the rest to training. So a photograph stays in its split whatever else
arrives. Near-duplicates form a group, and a group takes the smallest point in it: a near-duplicate that arrives later
can only move a group from training to held out, never back.

Below `test_from` photographs there is no test; its part counts as validation until there are enough. Pure functions:
photo ids and fingerprints in, splits out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from mondrian_core.errors import BadInput
from mondrian_core.near_duplicates import PhotographFingerprint, near_duplicate_pairs
from mondrian_core.perceptual_hash import NEAR_DUPLICATE_BITS
from mondrian_core.recipes import DataRecipe

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
MIN_HELD_OUT_GROUPS = 2


def near_duplicate_groups(
    photographs: Sequence[PhotographFingerprint], max_bits: int = NEAR_DUPLICATE_BITS
) -> dict[str, str]:
    """Photo id -> name of its group: near-duplicates are together, directly or through others.

    A group is named after its smallest photo id, so the order of `photographs` doesn't matter.
    """
    parent = {photograph.photo_id: photograph.photo_id for photograph in photographs}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in near_duplicate_pairs(photographs, max_bits):
        one, other = sorted((root(photographs[pair.first].photo_id), root(photographs[pair.second].photo_id)))
        parent[other] = one
    return {name: root(name) for name in parent}


def split_point(photo_id: str, seed: int = 0) -> float:
    """A photograph's fixed point in 0..1."""
    digest = hashlib.sha256(f"mondrian split {seed} {photo_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(photographs: Sequence[PhotographFingerprint], recipe: DataRecipe) -> dict[str, str]:
    """Photo id -> "train", "validation" or "test".

    A single group goes to training. With more groups, at least two (or one of two) are held out, and at least one is in
    training; where the split points alone don't give that, the groups next to the boundary are moved.
    """
    groups = near_duplicate_groups(photographs)
    points: dict[str, float] = {}
    for photo_id, group in groups.items():
        points[group] = min(points.get(group, 1.0), split_point(photo_id, recipe.seed))
    has_test = len(groups) >= recipe.test_from and recipe.test_fraction > 0
    splits = {group: _split_for_point(point, recipe, has_test) for group, point in points.items()}
    ordered = sorted(points, key=lambda group: (points[group], group))
    least = min(MIN_HELD_OUT_GROUPS, len(ordered) - 1)
    for group in ordered[:least]:
        if splits[group] == TRAIN:
            splits[group] = VALIDATION
    if ordered and all(split != TRAIN for split in splits.values()):
        splits[ordered[-1]] = TRAIN
    return {photo_id: splits[group] for photo_id, group in sorted(groups.items())}


def _split_for_point(point: float, recipe: DataRecipe, has_test: bool) -> str:
    if point < recipe.test_fraction:
        return TEST if has_test else VALIDATION
    return VALIDATION if point < recipe.test_fraction + recipe.validation_fraction else TRAIN


def folds_from_photographs(photographs: Sequence[PhotographFingerprint], count: int, seed: int = 0) -> dict[str, int]:
    """Photo id -> fold 0..count-1 for cross-validation; near-duplicates share a fold, folds are about equally large.

    The largest groups are assigned first, each to the fold with the fewest photographs. So with groups of one, the
    sizes differ by at most one. The order of `photographs` doesn't matter.

    Raises:
        BadInput: with fewer than two folds, or fewer groups than folds (a fold would be empty).
    """
    return assign_folds(near_duplicate_groups(photographs), count, seed)


def assign_folds(groups: Mapping[str, str], count: int, seed: int = 0) -> dict[str, int]:
    """As `folds_from_photographs`, from groups that are known already (photo id -> group).

    Raises:
        BadInput: with fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(groups.values())
    if not 2 <= count <= len(sizes):
        raise BadInput(
            f"Cannot make {count} folds from {len(groups)} photographs in {len(sizes)} groups of near-duplicates.",
            "Use at least 2 folds, and at most as many as there are groups.",
        )
    filled = [0] * count
    fold_of = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], split_point(name, seed))):
        fold = min(range(count), key=lambda index: (filled[index], index))
        fold_of[group] = fold
        filled[fold] += sizes[group]
    return {photo_id: fold_of[group] for photo_id, group in sorted(groups.items())}
