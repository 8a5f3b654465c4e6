"""The check that fails a build: nothing held out may be known from training or from what an evaluation looks up.

Groups keep twins on one side to begin with (`split`); this holds the finished rows to it, whoever made them. Four
ways are looked for: the same photograph in two splits, a copy or mirrored twin of it, its critique in other words,
and a held-out photograph (or its twin) in the retrieval index that an evaluation uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mondrian_core.data.splits.near_duplicates import NearDuplicateKind, PhotographFingerprint, near_duplicate_pairs
from mondrian_core.errors import Broken

MAX_FINDINGS_NAMED = 5
TRAINED_ON = "train"


class SplitContaminationKind(StrEnum):
    """What leaked; the list is closed."""

    SAME_PHOTOGRAPH = "same photograph"
    COPY = "copy"
    MIRRORED_TWIN = "mirrored twin"
    PARAPHRASE_TWIN = "paraphrase twin"
    IN_RETRIEVAL_INDEX = "in the retrieval index"


_KINDS = {
    NearDuplicateKind.COPY: SplitContaminationKind.COPY,
    NearDuplicateKind.MIRRORED: SplitContaminationKind.MIRRORED_TWIN,
    NearDuplicateKind.PARAPHRASE: SplitContaminationKind.PARAPHRASE_TWIN,
}


@dataclass(frozen=True, order=True, kw_only=True)
class SplitContamination:
    """Two photographs (lineages) that should know nothing of one another, and where each of them is."""

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
    """Something held out is known; `leaks` says what."""

    def __init__(self, leaks: Sequence[SplitContamination]) -> None:
        self.findings = tuple(leaks)
        more = f"; and {len(leaks) - MAX_FINDINGS_NAMED} more" if len(leaks) > MAX_FINDINGS_NAMED else ""
        super().__init__(
            f"The splits leak: {'; '.join(str(leak) for leak in leaks[:MAX_FINDINGS_NAMED])}{more}.",
            "No gate could be believed. If the dataset was edited, build it again; else report it with the manifest.",
        )


def split_contamination(
    rows: Mapping[str, Iterable[PhotographFingerprint]], index: Sequence[PhotographFingerprint] = ()
) -> tuple[SplitContamination, ...]:
    """Everything that leaks, in a fixed order.

    Args:
        rows: split -> a subject per finished row; `says` is what that row teaches, so other wordings are compared too.
        index: photographs in the retrieval index that an evaluation uses.
    """
    placed = [(split, subject) for split, members in rows.items() for subject in dict.fromkeys(members)]
    found = {*_same_photographs(placed), *_near_duplicates_across_splits(placed), *_held_out_in_index(placed, index)}
    return tuple(sorted(found))


def check_split_contamination(
    rows: Mapping[str, Iterable[PhotographFingerprint]], index: Sequence[PhotographFingerprint] = ()
) -> None:
    """Make sure that nothing leaks.

    Raises:
        Leakage: naming the photographs and how they are related.
    """
    if found := split_contamination(rows, index):
        raise SplitContaminationError(found)


def uncontaminated_index_ids(
    index: Sequence[PhotographFingerprint], held_out: Sequence[PhotographFingerprint]
) -> tuple[str, ...]:
    """Lineages of the index that an evaluation may look up: neither held out nor a twin of something held out."""
    known = {subject.photo_id for subject in held_out}
    together = [*held_out, *index]
    for pair in near_duplicate_pairs(together):
        if pair.first < len(held_out) <= pair.second:
            known.add(together[pair.second].photo_id)
    return tuple(sorted({subject.photo_id for subject in index} - known))


def _same_photographs(placed: Sequence[tuple[str, PhotographFingerprint]]) -> Iterable[SplitContamination]:
    places: dict[str, list[str]] = {}
    for split, subject in placed:
        if split not in places.setdefault(subject.photo_id, []):
            places[subject.photo_id].append(split)
    for lineage, splits in places.items():
        for other in splits[1:]:
            yield SplitContamination(
                kind=SplitContaminationKind.SAME_PHOTOGRAPH,
                first=lineage,
                first_place=splits[0],
                second=lineage,
                second_place=other,
            )


def _near_duplicates_across_splits(placed: Sequence[tuple[str, PhotographFingerprint]]) -> Iterable[SplitContamination]:
    subjects = [subject for _, subject in placed]
    for pair in near_duplicate_pairs(subjects):
        (here, one), (there, other) = placed[pair.first], placed[pair.second]
        if here != there and one.photo_id != other.photo_id:
            yield SplitContamination(
                kind=_KINDS[pair.kind],
                first=one.photo_id,
                first_place=here,
                second=other.photo_id,
                second_place=there,
            )


def _held_out_in_index(
    placed: Sequence[tuple[str, PhotographFingerprint]], index: Sequence[PhotographFingerprint]
) -> Iterable[SplitContamination]:
    held_out = {subject.photo_id: split for split, subject in placed if split != TRAINED_ON}
    subjects = [subject for split, subject in placed if split != TRAINED_ON]
    allowed = set(uncontaminated_index_ids(index, subjects))
    for entry in index:
        if entry.photo_id not in allowed:
            split = held_out.get(entry.photo_id, "a held-out split")
            yield SplitContamination(
                kind=SplitContaminationKind.IN_RETRIEVAL_INDEX,
                first=entry.photo_id,
                first_place=split,
                second=entry.photo_id,
                second_place="the index",
            )
