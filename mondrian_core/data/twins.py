"""Which photographs belong together because they look alike or are critiqued in the same words.

A twin is found by looks (perceptual hashes at most `SIMILAR_BITS` apart, one of them mirrored if that is closer) or by
words: the same eight whole scores, and in every dimension a comment that is another wording of the other's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from mondrian_core.data.variations import LEAST_OWN, own_share
from mondrian_core.images import SIMILAR_BITS
from mondrian_core.rubric import DIMENSIONS, whole_score

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Likeness(StrEnum):
    """How two photographs are twins."""

    COPY = "copy"
    MIRRORED = "mirrored twin"
    PARAPHRASE = "paraphrase twin"


@dataclass(frozen=True)
class Says:
    """What was said of a photograph: eight whole scores and eight comments in the order of `DIMENSIONS`."""

    scores: tuple[int, ...]
    comments: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """A photograph: lineage (the SHA-256 of its bytes), perceptual hashes (upright, mirrored), what was said of it."""

    lineage: str
    looks: tuple[int, int] | None = None
    says: Says | None = None


@dataclass(frozen=True)
class Twins:
    """Two subjects (the positions they have in the sequence that was searched) and why they belong together."""

    first: int
    second: int
    likeness: Likeness


def said(scores: Mapping[str, float], comments: Mapping[str, str]) -> Says:
    """What a critique says, for comparison with another."""
    return Says(tuple(whole_score(scores[name]) for name in DIMENSIONS), tuple(comments[name] for name in DIMENSIONS))


def twins(subjects: Sequence[Subject], similar_bits: int = SIMILAR_BITS) -> Iterator[Twins]:
    """Every pair that looks alike or says the same; a pair that does both comes twice."""
    yield from _by_looks(subjects, similar_bits)
    yield from _by_words(subjects)


def _by_looks(subjects: Sequence[Subject], similar_bits: int) -> Iterator[Twins]:
    seen = [(place, each.looks) for place, each in enumerate(subjects) if each.looks is not None]
    upright = np.array([looks[0] for _, looks in seen], dtype=np.uint64)
    for index, (place, looks) in enumerate(seen):
        straight, mirrored = (np.bitwise_count(upright[index + 1 :] ^ np.uint64(look)) for look in looks)
        for offset in np.flatnonzero(np.minimum(straight, mirrored) <= similar_bits):
            likeness = Likeness.COPY if straight[offset] <= mirrored[offset] else Likeness.MIRRORED
            yield Twins(place, seen[index + 1 + int(offset)][0], likeness)


def _by_words(subjects: Sequence[Subject]) -> Iterator[Twins]:
    by_scores: dict[tuple[int, ...], list[int]] = {}
    for place, each in enumerate(subjects):
        if each.says is not None:
            by_scores.setdefault(each.says.scores, []).append(place)
    for places in by_scores.values():
        for first, second in combinations(places, 2):
            if _another_wording(subjects[first].says, subjects[second].says):
                yield Twins(first, second, Likeness.PARAPHRASE)


def _another_wording(one: Says | None, other: Says | None) -> bool:
    """True when each comment has the numbers of the other's and at least the share of words that a rewording keeps.

    Left and right may have changed places: the critique of a mirrored copy is a twin too.
    """
    if one is None or other is None:
        return False
    return all(
        Counter(_NUMBER.findall(first)) == Counter(_NUMBER.findall(second))
        and max(own_share(first, second), own_share(second, first)) >= LEAST_OWN
        for first, second in zip(one.comments, other.comments, strict=True)
    )
