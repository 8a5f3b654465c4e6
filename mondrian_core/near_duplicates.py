"""Near-duplicate search: photographs that look alike, and critiques that say the same in other words.

Splits, dataset contamination, draft selection and the contamination check of an evaluation all use this search. Two
photographs are near-duplicates by pixels when their perceptual hashes differ by at most `NEAR_DUPLICATE_BITS` of 64
bits (also against the mirror image) or when their thumbnails match once aligned, which finds crops, added borders and
turned copies (decision 0110). By critique they are near-duplicates when all whole scores are equal and every comment is
a paraphrase of the other's.

`photograph_fingerprint` takes everything that is compared from a picture. Fingerprints from an older release have no
thumbnail; they are compared by their hashes alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations, product

import numpy as np
from PIL import Image

from mondrian_core.perceptual_hash import NEAR_DUPLICATE_BITS, perceptual_hash, perceptual_hash_distance
from mondrian_core.rubric import DIMENSIONS, round_score

OnProgress = Callable[[int, int], None]  # receives what is done, and of how much
MIN_SHARED_WORDS = 0.5
CERTAIN_BITS = 4  # hashes this near need no confirmation by the thumbnails
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class NearDuplicateKind(StrEnum):
    """Why two photographs are near-duplicates."""

    COPY = "copy"
    MIRRORED = "mirrored copy"
    ALIGNED = "crop, frame or turn of the same picture"
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
        thumbnail: of `image_alignment.comparison_thumbnail`; None leaves crops, borders and turns unrecognized.
    """

    photo_id: str
    perceptual_hashes: tuple[int, int] | None = None
    critique: CritiqueFingerprint | None = None
    thumbnail: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NearDuplicatePair:
    """Positions of two near-duplicates in the searched sequence, `first` < `second`, and why they belong together."""

    first: int
    second: int
    kind: NearDuplicateKind


def photograph_fingerprint(
    photo_id: str, image: Image.Image, critique: CritiqueFingerprint | None = None
) -> PhotographFingerprint:
    """The fingerprint of an opened photograph, with everything that is compared."""
    from mondrian_core.image_alignment import comparison_thumbnail

    return PhotographFingerprint(photo_id, perceptual_hash(image), critique, comparison_thumbnail(image))


def critique_fingerprint(scores: Mapping[str, float], comments: Mapping[str, str]) -> CritiqueFingerprint:
    """The fingerprint of a critique; scores (0-10) are rounded to whole numbers."""
    return CritiqueFingerprint(
        tuple(round_score(scores[name]) for name in DIMENSIONS), tuple(comments[name] for name in DIMENSIONS)
    )


def near_duplicate_pairs(
    photographs: Sequence[PhotographFingerprint],
    max_bits: int = NEAR_DUPLICATE_BITS,
    on_progress: OnProgress = lambda done, total: None,
) -> Iterator[NearDuplicatePair]:
    """Every pair of near-duplicates, at most once by pixels and once by critique.

    `on_progress` receives how many photographs of how many were compared with all others.
    """
    yield from _pairs_by_pixels(photographs, max_bits, on_progress=on_progress)
    yield from _pairs_by_critique(photographs)


def near_duplicates_of(
    references: Sequence[PhotographFingerprint], candidates: Sequence[PhotographFingerprint]
) -> frozenset[str]:
    """Photo ids of the candidates that are near-duplicates of a reference, by pixels or by critique."""
    boundary, together = len(references), [*references, *candidates]
    pairs = [*_pairs_by_pixels(together, NEAR_DUPLICATE_BITS, boundary), *_pairs_by_critique(together)]
    return frozenset(together[pair.second].photo_id for pair in pairs if pair.first < boundary <= pair.second)


def shared_word_fraction(original: str, paraphrase: str) -> float:
    """Share (0-1) of the words of `paraphrase` that also occur in `original`; repeated words count each time."""
    before, after = word_counts(original), word_counts(paraphrase)
    return (before & after).total() / max(1, after.total())


def word_counts(text: str) -> Counter[str]:
    """How often each word or number occurs, in lower case."""
    return Counter(word.lower() for word in _WORD.findall(text))


def _pairs_by_pixels(
    photographs: Sequence[PhotographFingerprint],
    max_bits: int,
    boundary: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Iterator[NearDuplicatePair]:
    """Pairs by hash and by alignment; with `boundary` only pairs of a position before it and one from it on.

    Where both have a thumbnail with something on it, hashes that are only roughly equal need the thumbnails to agree:
    dark and empty landscapes have similar hashes by chance.
    """
    from mondrian_core.image_alignment import has_structure

    aligned = _resembling(photographs, boundary, on_progress)
    for pair in _pairs_by_perceptual_hash(photographs, max_bits):
        key = pair.first, pair.second
        if boundary is not None and not pair.first < boundary <= pair.second:
            continue
        first, second = photographs[pair.first], photographs[pair.second]
        thumbnails = [each.thumbnail for each in (first, second) if each.thumbnail is not None]
        comparable = len(thumbnails) == 2 and all(has_structure(each) for each in thumbnails)
        if key in aligned or not comparable or _hash_distance(first, second) <= CERTAIN_BITS:
            aligned.pop(key, None)
            yield pair
    for (first_position, second_position), same in aligned.items():
        if same:
            yield NearDuplicatePair(first_position, second_position, NearDuplicateKind.ALIGNED)


def _resembling(
    photographs: Sequence[PhotographFingerprint], boundary: int | None, on_progress: OnProgress
) -> dict[tuple[int, int], bool]:
    """Positions of pairs whose thumbnails resemble each other once aligned -> whether they show the same picture.

    Each thumbnail is compared once, however many rows of a dataset it has.
    """
    from mondrian_core.image_alignment import aligned_pairs, has_structure

    positions: dict[bytes, list[int]] = {}
    for position, photograph in enumerate(photographs):
        if photograph.thumbnail is not None:
            positions.setdefault(photograph.thumbnail, []).append(position)
    thumbnails = list(positions)
    if boundary is None:
        found = [
            (thumbnails[each.first], thumbnails[each.second], each.is_same_picture)
            for each in aligned_pairs(thumbnails, on_progress=on_progress)
        ]
    else:
        before = [each for each in thumbnails if positions[each][0] < boundary]
        after = [each for each in thumbnails if positions[each][-1] >= boundary]
        pairs = aligned_pairs(before, after, on_progress)
        found = [(before[each.first], after[each.second], each.is_same_picture) for each in pairs]
    found += [(each, each, True) for each, shown in positions.items() if len(shown) > 1 and has_structure(each)]
    return {
        (min(one, other), max(one, other)): same
        for first, second, same in found
        for one, other in product(positions[first], positions[second])
        if one != other
    }


def _hash_distance(first: PhotographFingerprint, second: PhotographFingerprint) -> int:
    """Bits (0-64) between two photographs with hashes."""
    if first.perceptual_hashes is None or second.perceptual_hashes is None:
        return 64
    return perceptual_hash_distance(first.perceptual_hashes, second.perceptual_hashes)


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
