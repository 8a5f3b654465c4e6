"""Contamination check of a dataset build: nothing held out may be known from training or from retrieval.

Near-duplicates are kept in one split to begin with (`split`); this check examines the finished rows, however they were
made. It looks for the same photograph in two splits, a near-duplicate across splits (by pixels or by critique), and a
held-out photograph, or a near-duplicate of one, in the part of the retrieval index that an evaluation uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mondrian_core.data.splits.split import TRAIN
from mondrian_core.errors import Broken
from mondrian_core.near_duplicates import (
    NearDuplicateKind,
    PhotographFingerprint,
    near_duplicate_pairs,
    near_duplicates_of,
)

MAX_FINDINGS_NAMED = 5


class SplitContaminationKind(StrEnum):
    """How something held out is known; the list is closed."""

    SAME_PHOTOGRAPH = "same photograph"
    COPY = NearDuplicateKind.COPY.value
    MIRRORED = NearDuplicateKind.MIRRORED.value
    ALIGNED = NearDuplicateKind.ALIGNED.value
    PARAPHRASE = NearDuplicateKind.PARAPHRASE.value
    IN_RETRIEVAL_INDEX = "in the retrieval index"


@dataclass(frozen=True, order=True, kw_only=True)
class SplitContamination:
    """Two photographs (photo ids) that must not be related, and the split or index that each of them is in."""

    kind: SplitContaminationKind
    first: str
    first_place: str
    second: str
    second_place: str

    def __str__(self) -> str:
        if self.first == self.second:
            return f"{self.first[:12]} is in {self.first_place} and {self.second_place} ({self.kind})"
        return f"{self.first[:12]} in {self.first_place} and {self.second[:12]} in {self.second_place} ({self.kind})"


class SplitContaminationError(Broken):
    """Something held out is known; `findings` lists what."""

    def __init__(self, findings: Sequence[SplitContamination]) -> None:
        self.findings = tuple(findings)
        more = f"; and {len(findings) - MAX_FINDINGS_NAMED} more" if len(findings) > MAX_FINDINGS_NAMED else ""
        super().__init__(
            f"The splits leak: {'; '.join(str(finding) for finding in findings[:MAX_FINDINGS_NAMED])}{more}.",
            "No gate could be trusted. If the dataset was edited, build it again; otherwise report this error with the "
            "link manifest.",
        )


def split_contamination(
    rows: Mapping[str, Iterable[PhotographFingerprint]], index: Sequence[PhotographFingerprint] = ()
) -> tuple[SplitContamination, ...]:
    """All contamination, in a fixed order.

    Args:
        rows: split -> one fingerprint per finished row, with the critique that the row teaches (so that paraphrases
            are compared as well).
        index: photographs in the retrieval index that an evaluation uses.
    """
    placed = [(split, photograph) for split, members in rows.items() for photograph in dict.fromkeys(members)]
    return tuple(
        sorted(
            {*_same_photographs(placed), *_near_duplicates_across_splits(placed), *_held_out_in_index(placed, index)}
        )
    )


def check_split_contamination(
    rows: Mapping[str, Iterable[PhotographFingerprint]], index: Sequence[PhotographFingerprint] = ()
) -> None:
    """Make sure that there is no contamination; arguments as for `split_contamination`.

    Raises:
        SplitContaminationError: naming the photographs and how they are related.
    """
    if findings := split_contamination(rows, index):
        raise SplitContaminationError(findings)


def uncontaminated_index_ids(
    index: Sequence[PhotographFingerprint], held_out: Sequence[PhotographFingerprint]
) -> tuple[str, ...]:
    """Photo ids of the index that an evaluation may look up: neither held out nor near-duplicates of held-out ones."""
    known = {photograph.photo_id for photograph in held_out} | near_duplicates_of(held_out, index)
    return tuple(sorted({photograph.photo_id for photograph in index} - known))


def _same_photographs(placed: Sequence[tuple[str, PhotographFingerprint]]) -> Iterable[SplitContamination]:
    places: dict[str, list[str]] = {}
    for split, photograph in placed:
        if split not in places.setdefault(photograph.photo_id, []):
            places[photograph.photo_id].append(split)
    for photo_id, splits in places.items():
        for other in splits[1:]:
            yield SplitContamination(
                kind=SplitContaminationKind.SAME_PHOTOGRAPH,
                first=photo_id,
                first_place=splits[0],
                second=photo_id,
                second_place=other,
            )


def _near_duplicates_across_splits(placed: Sequence[tuple[str, PhotographFingerprint]]) -> Iterable[SplitContamination]:
    photographs = [photograph for _, photograph in placed]
    for pair in near_duplicate_pairs(photographs):
        (first_split, first), (second_split, second) = placed[pair.first], placed[pair.second]
        if first_split != second_split and first.photo_id != second.photo_id:
            yield SplitContamination(
                kind=SplitContaminationKind(pair.kind.value),
                first=first.photo_id,
                first_place=first_split,
                second=second.photo_id,
                second_place=second_split,
            )


def _held_out_in_index(
    placed: Sequence[tuple[str, PhotographFingerprint]], index: Sequence[PhotographFingerprint]
) -> Iterable[SplitContamination]:
    split_of = {photograph.photo_id: split for split, photograph in placed if split != TRAIN}
    allowed = set(uncontaminated_index_ids(index, [photograph for split, photograph in placed if split != TRAIN]))
    for entry in index:
        if entry.photo_id not in allowed:
            yield SplitContamination(
                kind=SplitContaminationKind.IN_RETRIEVAL_INDEX,
                first=entry.photo_id,
                first_place=split_of.get(entry.photo_id, "a held-out split"),
                second=entry.photo_id,
                second_place="the index",
            )
