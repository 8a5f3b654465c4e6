"""Near-duplicate search: photographs that look alike, and critiques that say the same in other words.

Splits, dataset contamination, draft selection and the contamination check of an evaluation all use this search. Two
photographs are near-duplicates by pixels when their perceptual hashes differ by at most `NEAR_DUPLICATE_BITS` of 64
bits (also against the mirror image), and by critique when all whole scores are equal and every comment is a paraphrase
of the other's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from mondrian_core.images import NEAR_DUPLICATE_BITS
from mondrian_core.rubric import DIMENSIONS, round_score

MIN_SHARED_WORDS = 0.5
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class NearDuplicateKind(StrEnum):
    """Why two photographs are near-duplicates."""

    COPY = "copy"
    MIRRORED = "mirrored copy"
    PARAPHRASE = "paraphrased critique"


@dataclass(frozen=True)
class CritiqueFingerprint:
    """A critique for comparison: whole scores and comments, both in the order of `DIMENSIONS`."""

    scores: tuple[int, ...]
    comments: tuple[str, ...]


@dataclass(frozen=True)
class PhotographFingerprint:
    """A photograph for comparison.

    Attributes:
        photo_id: SHA-256 of the file's bytes.
        perceptual_hashes: 64-bit hashes of the picture and of its mirror image; None skips the comparison of pixels.
        critique: None skips the comparison of critiques.
    """

    photo_id: str
    perceptual_hashes: tuple[int, int] | None = None
    critique: CritiqueFingerprint | None = None


@dataclass(frozen=True)
class NearDuplicatePair:
    """Positions of two near-duplicates in the searched sequence, `first` < `second`, and why they belong together."""

    first: int
    second: int
    kind: NearDuplicateKind


def critique_fingerprint(scores: Mapping[str, float], comments: Mapping[str, str]) -> CritiqueFingerprint:
    """The fingerprint of a critique; scores (0-10) are rounded to whole numbers."""
    return CritiqueFingerprint(
        tuple(round_score(scores[name]) for name in DIMENSIONS), tuple(comments[name] for name in DIMENSIONS)
    )


def near_duplicate_pairs(
    photographs: Sequence[PhotographFingerprint], max_bits: int = NEAR_DUPLICATE_BITS
) -> Iterator[NearDuplicatePair]:
    """Every pair of near-duplicates; a pair that matches by pixels and by critique is yielded twice."""
    yield from _pairs_by_perceptual_hash(photographs, max_bits)
    yield from _pairs_by_critique(photographs)


def near_duplicates_of(
    references: Sequence[PhotographFingerprint], candidates: Sequence[PhotographFingerprint]
) -> frozenset[str]:
    """Photo ids of the candidates that are near-duplicates of a reference, by pixels or by critique."""
    boundary, together = len(references), [*references, *candidates]
    return frozenset(
        together[pair.second].photo_id
        for pair in near_duplicate_pairs(together)
        if pair.first < boundary <= pair.second
    )


def shared_word_fraction(original: str, paraphrase: str) -> float:
    """Share (0-1) of the words of `paraphrase` that also occur in `original`; repeated words count each time."""
    before, after = word_counts(original), word_counts(paraphrase)
    return (before & after).total() / max(1, after.total())


def word_counts(text: str) -> Counter[str]:
    """How often each word or number occurs, in lower case."""
    return Counter(word.lower() for word in _WORD.findall(text))


def _pairs_by_perceptual_hash(
    photographs: Sequence[PhotographFingerprint], max_bits: int
) -> Iterator[NearDuplicatePair]:
    hashed = [
        (position, photograph.perceptual_hashes)
        for position, photograph in enumerate(photographs)
        if photograph.perceptual_hashes is not None
    ]
    upright = np.array([hashes[0] for _, hashes in hashed], dtype=np.uint64)
    for index, (position, hashes) in enumerate(hashed):
        straight, mirrored = (np.bitwise_count(upright[index + 1 :] ^ np.uint64(value)) for value in hashes)
        for offset in np.flatnonzero(np.minimum(straight, mirrored) <= max_bits):
            kind = NearDuplicateKind.COPY if straight[offset] <= mirrored[offset] else NearDuplicateKind.MIRRORED
            yield NearDuplicatePair(position, hashed[index + 1 + int(offset)][0], kind)


def _pairs_by_critique(photographs: Sequence[PhotographFingerprint]) -> Iterator[NearDuplicatePair]:
    by_scores: dict[tuple[int, ...], list[int]] = {}
    for position, photograph in enumerate(photographs):
        if photograph.critique is not None:
            by_scores.setdefault(photograph.critique.scores, []).append(position)
    for positions in by_scores.values():
        for first, second in combinations(positions, 2):
            if _is_paraphrase(photographs[first].critique, photographs[second].critique):
                yield NearDuplicatePair(first, second, NearDuplicateKind.PARAPHRASE)


def _is_paraphrase(one: CritiqueFingerprint | None, other: CritiqueFingerprint | None) -> bool:
    """True when every pair of comments has the same numbers and shares at least `MIN_SHARED_WORDS`.

    "left" and "right" may be swapped, so the critique of a mirrored copy matches as well.
    """
    if one is None or other is None:
        return False
    return all(
        Counter(_NUMBER.findall(first)) == Counter(_NUMBER.findall(second))
        and max(shared_word_fraction(first, second), shared_word_fraction(second, first)) >= MIN_SHARED_WORDS
        for first, second in zip(one.comments, other.comments, strict=True)
    )
