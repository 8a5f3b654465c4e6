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

from mondrian_core.data.augmentation.paraphrase_rules import MIN_SHARED_WORDS, shared_word_fraction
from mondrian_core.images import NEAR_DUPLICATE_BITS
from mondrian_core.rubric import DIMENSIONS, round_score

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class NearDuplicateKind(StrEnum):
    """How two photographs are twins."""

    COPY = "copy"
    MIRRORED = "mirrored twin"
    PARAPHRASE = "paraphrase twin"


@dataclass(frozen=True)
class CritiqueFingerprint:
    """What was said of a photograph: eight whole scores and eight comments in the order of `DIMENSIONS`."""

    scores: tuple[int, ...]
    comments: tuple[str, ...]


@dataclass(frozen=True)
class PhotographFingerprint:
    """A photograph: lineage (the SHA-256 of its bytes), perceptual hashes (upright, mirrored), what was said of it."""

    photo_id: str
    perceptual_hashes: tuple[int, int] | None = None
    critique: CritiqueFingerprint | None = None


@dataclass(frozen=True)
class NearDuplicatePair:
    """Two subjects (the positions they have in the sequence that was searched) and why they belong together."""

    first: int
    second: int
    kind: NearDuplicateKind


def critique_fingerprint(scores: Mapping[str, float], comments: Mapping[str, str]) -> CritiqueFingerprint:
    """What a critique says, for comparison with another."""
    return CritiqueFingerprint(
        tuple(round_score(scores[name]) for name in DIMENSIONS), tuple(comments[name] for name in DIMENSIONS)
    )


def near_duplicate_pairs(
    subjects: Sequence[PhotographFingerprint], similar_bits: int = NEAR_DUPLICATE_BITS
) -> Iterator[NearDuplicatePair]:
    """Every pair that looks alike or says the same; a pair that does both comes twice."""
    yield from _pairs_by_perceptual_hash(subjects, similar_bits)
    yield from _pairs_by_critique(subjects)


def _pairs_by_perceptual_hash(
    subjects: Sequence[PhotographFingerprint], similar_bits: int
) -> Iterator[NearDuplicatePair]:
    seen = [
        (place, each.perceptual_hashes) for place, each in enumerate(subjects) if each.perceptual_hashes is not None
    ]
    upright = np.array([looks[0] for _, looks in seen], dtype=np.uint64)
    for index, (place, looks) in enumerate(seen):
        straight, mirrored = (np.bitwise_count(upright[index + 1 :] ^ np.uint64(look)) for look in looks)
        for offset in np.flatnonzero(np.minimum(straight, mirrored) <= similar_bits):
            likeness = NearDuplicateKind.COPY if straight[offset] <= mirrored[offset] else NearDuplicateKind.MIRRORED
            yield NearDuplicatePair(place, seen[index + 1 + int(offset)][0], likeness)


def _pairs_by_critique(subjects: Sequence[PhotographFingerprint]) -> Iterator[NearDuplicatePair]:
    by_scores: dict[tuple[int, ...], list[int]] = {}
    for place, each in enumerate(subjects):
        if each.critique is not None:
            by_scores.setdefault(each.critique.scores, []).append(place)
    for places in by_scores.values():
        for first, second in combinations(places, 2):
            if _is_paraphrase(subjects[first].critique, subjects[second].critique):
                yield NearDuplicatePair(first, second, NearDuplicateKind.PARAPHRASE)


def _is_paraphrase(one: CritiqueFingerprint | None, other: CritiqueFingerprint | None) -> bool:
    """True when each comment has the numbers of the other's and at least the share of words that a rewording keeps.

    Left and right may have changed places: the critique of a mirrored copy is a twin too.
    """
    if one is None or other is None:
        return False
    return all(
        Counter(_NUMBER.findall(first)) == Counter(_NUMBER.findall(second))
        and max(shared_word_fraction(first, second), shared_word_fraction(second, first)) >= MIN_SHARED_WORDS
        for first, second in zip(one.comments, other.comments, strict=True)
    )
