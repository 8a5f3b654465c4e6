"""Which photograph is trained on and which is held out. Pure: names and hashes in, a decision out.

Each photograph has a fixed point in 0..1, computed from its bytes. Points below `test_fraction` are the test's, the
next `validation_fraction` the validation's, the rest is trained on. So a photograph stays on its side whatever else
arrives. Photographs that look alike (copies, mirrors, other exposures) or are critiqued in the same words form a group,
and the group takes the smallest point in it: a twin that arrives later can only move a group from training to held out,
never back.

Below `test_from` photographs there is no test; its part counts as validation until there are enough.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from mondrian_core.data.splits.near_duplicates import PhotographFingerprint, near_duplicate_pairs
from mondrian_core.errors import BadInput
from mondrian_core.images import NEAR_DUPLICATE_BITS
from mondrian_core.recipes import DataRecipe

__all__ = [
    "SPLITS",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "PhotographFingerprint",
    "assign_folds",
    "assign_splits",
    "folds_from_photographs",
    "near_duplicate_groups",
    "split_point",
]

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
MIN_HELD_OUT_GROUPS = 2


def near_duplicate_groups(
    subjects: Sequence[PhotographFingerprint], similar_bits: int = NEAR_DUPLICATE_BITS
) -> dict[str, str]:
    """Lineage -> name of its group: twins (`twins.twins`) are together, directly or over others.

    A group is named after its smallest lineage, so the order of `subjects` doesn't matter.
    """
    parent = {subject.photo_id: subject.photo_id for subject in subjects}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in near_duplicate_pairs(subjects, similar_bits):
        one, other = sorted((root(subjects[pair.first].photo_id), root(subjects[pair.second].photo_id)))
        parent[other] = one
    return {name: root(name) for name in parent}


def split_point(lineage: str, seed: int = 0) -> float:
    """A photograph's fixed point in 0..1."""
    digest = hashlib.sha256(f"mondrian split {seed} {lineage}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(subjects: Sequence[PhotographFingerprint], recipe: DataRecipe) -> dict[str, str]:
    """Lineage -> "train", "validation" or "test".

    With one group everything is trained on. With more, at least two groups (or one of two) are held out, and at least
    one is trained on; where the fixed points alone don't give that, the groups next to the boundary are moved.
    """
    groups = near_duplicate_groups(subjects)
    points: dict[str, float] = {}
    for lineage, group in groups.items():
        points[group] = min(points.get(group, 1.0), split_point(lineage, recipe.seed))
    has_test = len(groups) >= recipe.test_from and recipe.test_fraction > 0
    sides = {group: _split_for_point(point, recipe, has_test) for group, point in points.items()}
    ordered = sorted(points, key=lambda group: (points[group], group))
    least = min(MIN_HELD_OUT_GROUPS, len(ordered) - 1)
    for group in ordered[:least]:
        if sides[group] == TRAIN:
            sides[group] = VALIDATION
    if ordered and all(side != TRAIN for side in sides.values()):
        sides[ordered[-1]] = TRAIN
    return {lineage: sides[group] for lineage, group in sorted(groups.items())}


def _split_for_point(point: float, recipe: DataRecipe, has_test: bool) -> str:
    if point < recipe.test_fraction:
        return TEST if has_test else VALIDATION
    return VALIDATION if point < recipe.test_fraction + recipe.validation_fraction else TRAIN


def folds_from_photographs(subjects: Sequence[PhotographFingerprint], count: int, seed: int = 0) -> dict[str, int]:
    """Lineage -> fold 0..count-1 for cross-validation: groups stay together and the folds are about equally large.

    The largest groups are dealt first, each to the fold that has the fewest photographs; so with groups of one, the
    sizes differ by one at most. The order of `subjects` doesn't matter.

    Raises:
        BadInput: with fewer than two folds, or fewer groups than folds (a fold would be empty).
    """
    return assign_folds(near_duplicate_groups(subjects), count, seed)


def assign_folds(groups: Mapping[str, str], count: int, seed: int = 0) -> dict[str, int]:
    """As `folds`, from groups that are known already (lineage -> group)."""
    sizes = Counter(groups.values())
    if not 2 <= count <= len(sizes):
        raise BadInput(
            f"{len(groups)} photographs in {len(sizes)} groups of twins can't be cut into {count} folds.",
            "Use 2 folds or more, and no more than there are photographs that differ.",
        )
    filled = [0] * count
    fold_of = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], split_point(name, seed))):
        fold = min(range(count), key=lambda index: (filled[index], index))
        fold_of[group] = fold
        filled[fold] += sizes[group]
    return {lineage: fold_of[group] for lineage, group in sorted(groups.items())}
