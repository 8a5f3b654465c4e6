"""Which photograph is trained on and which is held out. Pure: names and hashes in, a decision out.

Each photograph has a fixed point in 0..1, computed from its bytes. Points below `test_fraction` are the test's, the
next `validation_fraction` the validation's, the rest is trained on. So a photograph stays on its side whatever else
arrives. Photographs that look alike (copies, mirrors, other exposures) form a group, and the group takes the smallest
point in it: a twin that arrives later can only move a group from training to held out, never back.

Below `test_from` photographs there is no test; its part counts as validation until there are enough.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mondrian_core.errors import Broken
from mondrian_core.images import SIMILAR_BITS
from mondrian_core.recipes import DataRecipe

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
LEAST_HELD_OUT = 2


@dataclass(frozen=True)
class Subject:
    """A photograph to be assigned: lineage (the SHA-256 of its bytes) and perceptual hashes (upright, mirrored)."""

    lineage: str
    looks: tuple[int, int] | None = None


class Leakage(Broken):
    """A photograph, or one that looks like it, is on both sides."""


def grouped(subjects: Sequence[Subject], similar_bits: int = SIMILAR_BITS) -> dict[str, str]:
    """Lineage -> name of its group: photographs at most `similar_bits` apart, directly or over others, are together.

    A group is named after its smallest lineage, so the order of `subjects` doesn't matter.
    """
    parent = {subject.lineage: subject.lineage for subject in subjects}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for first, second in _similar_pairs(subjects, similar_bits):
        one, other = sorted((root(first), root(second)))
        parent[other] = one
    return {name: root(name) for name in parent}


def _similar_pairs(subjects: Sequence[Subject], similar_bits: int) -> Iterator[tuple[str, str]]:
    """Names of photographs at most `similar_bits` apart, one of them mirrored if that is closer."""
    seen = [(subject.lineage, subject.looks) for subject in subjects if subject.looks is not None]
    upright = np.array([looks[0] for _, looks in seen], dtype=np.uint64)
    for index, (name, looks) in enumerate(seen):
        others = upright[index + 1 :]
        apart = np.minimum(*(np.bitwise_count(others ^ np.uint64(look)) for look in looks))
        for offset in np.flatnonzero(apart <= similar_bits):
            yield name, seen[index + 1 + int(offset)][0]


def point_of(lineage: str, seed: int = 0) -> float:
    """A photograph's fixed point in 0..1."""
    digest = hashlib.sha256(f"mondrian split {seed} {lineage}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(subjects: Sequence[Subject], recipe: DataRecipe) -> dict[str, str]:
    """Lineage -> "train", "validation" or "test".

    With one group everything is trained on. With more, at least two groups (or one of two) are held out, and at least
    one is trained on; where the fixed points alone don't give that, the groups next to the boundary are moved.
    """
    groups = grouped(subjects)
    points: dict[str, float] = {}
    for lineage, group in groups.items():
        points[group] = min(points.get(group, 1.0), point_of(lineage, recipe.seed))
    has_test = len(groups) >= recipe.test_from and recipe.test_fraction > 0
    sides = {group: _side(point, recipe, has_test) for group, point in points.items()}
    ordered = sorted(points, key=lambda group: (points[group], group))
    least = min(LEAST_HELD_OUT, len(ordered) - 1)
    for group in ordered[:least]:
        if sides[group] == TRAIN:
            sides[group] = VALIDATION
    if ordered and all(side != TRAIN for side in sides.values()):
        sides[ordered[-1]] = TRAIN
    return {lineage: sides[group] for lineage, group in sorted(groups.items())}


def _side(point: float, recipe: DataRecipe, has_test: bool) -> str:
    if point < recipe.test_fraction:
        return TEST if has_test else VALIDATION
    return VALIDATION if point < recipe.test_fraction + recipe.validation_fraction else TRAIN


def folds(subjects: Sequence[Subject], count: int, seed: int = 0) -> dict[str, int]:
    """Lineage -> fold 0..count-1 for cross-validation: groups stay together and the folds are about equally large."""
    groups = grouped(subjects)
    sizes = Counter(groups.values())
    filled = [0] * count
    fold_of = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], point_of(name, seed))):
        fold = min(range(count), key=lambda index: (filled[index], index))
        fold_of[group] = fold
        filled[fold] += sizes[group]
    return {lineage: fold_of[group] for lineage, group in sorted(groups.items())}


def check_leakage(sides: Mapping[str, str], subjects: Sequence[Subject],
                  similar_bits: int = SIMILAR_BITS) -> None:  # fmt: skip
    """Make sure that nothing trained on is held out as well, nor looks like something that is.

    Raises:
        Leakage: naming the photographs.
    """
    for first, second in _similar_pairs(subjects, similar_bits):
        if sides[first] != sides[second]:
            raise Leakage(
                f"The photographs {first[:12]} ({sides[first]}) and {second[:12]} ({sides[second]}) look alike but are "
                "in different splits.",
                "This is a fault of the program; please report it with the link manifest.",
            )


def check_rows(lineages: Mapping[str, Sequence[str]]) -> None:
    """The same check on finished rows: split -> lineages of its rows.

    Raises:
        Leakage: naming the photograph.
    """
    home: dict[str, str] = {}
    for split, members in lineages.items():
        for lineage in members:
            if home.setdefault(lineage, split) != split:
                raise Leakage(
                    f"The photograph {lineage[:12]} is in the splits {home[lineage]} and {split}.",
                    "This is a fault of the program; please report it with the dataset's manifest.",
                )
