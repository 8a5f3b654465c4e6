"""The check that fails a build: nothing held out may be known from training or from what an evaluation looks up.

Groups keep twins on one side to begin with (`split`); this holds the finished rows to it, whoever made them. Four
ways are looked for: the same photograph in two splits, a copy or mirrored twin of it, its critique in other words,
and a held-out photograph (or its twin) in the retrieval index that an evaluation uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mondrian_core.data.twins import Likeness, Subject, twins
from mondrian_core.errors import Broken

NAMED = 5
TRAINED_ON = "train"


class Kind(StrEnum):
    """What leaked; the list is closed."""

    SAME_PHOTOGRAPH = "same photograph"
    COPY = "copy"
    MIRRORED_TWIN = "mirrored twin"
    PARAPHRASE_TWIN = "paraphrase twin"
    IN_RETRIEVAL_INDEX = "in the retrieval index"


_KINDS = {
    Likeness.COPY: Kind.COPY,
    Likeness.MIRRORED: Kind.MIRRORED_TWIN,
    Likeness.PARAPHRASE: Kind.PARAPHRASE_TWIN,
}


@dataclass(frozen=True, order=True, kw_only=True)
class Leak:
    """Two photographs (lineages) that should know nothing of one another, and where each of them is."""

    kind: Kind
    first: str
    first_place: str
    second: str
    second_place: str

    def __str__(self) -> str:
        if self.first == self.second:
            return f"{self.first[:12]} is in {self.first_place} and {self.second_place} ({self.kind})"
        return f"{self.first[:12]} in {self.first_place} and {self.second[:12]} in {self.second_place} ({self.kind})"


class Leakage(Broken):
    """Something held out is known; `leaks` says what."""

    def __init__(self, leaks: Sequence[Leak]) -> None:
        self.leaks = tuple(leaks)
        more = f"; and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
        super().__init__(
            f"The splits leak: {'; '.join(str(leak) for leak in leaks[:NAMED])}{more}.",
            "No gate could be believed. If the dataset was edited, build it again; else report it with the manifest.",
        )


def leaks(rows: Mapping[str, Iterable[Subject]], index: Sequence[Subject] = ()) -> tuple[Leak, ...]:
    """Everything that leaks, in a fixed order.

    Args:
        rows: split -> a subject per finished row; `says` is what that row teaches, so other wordings are compared too.
        index: photographs in the retrieval index that an evaluation uses.
    """
    placed = [(split, subject) for split, members in rows.items() for subject in dict.fromkeys(members)]
    found = {*_same(placed), *_twins(placed), *_in_index(placed, index)}
    return tuple(sorted(found))


def check(rows: Mapping[str, Iterable[Subject]], index: Sequence[Subject] = ()) -> None:
    """Make sure that nothing leaks.

    Raises:
        Leakage: naming the photographs and how they are related.
    """
    if found := leaks(rows, index):
        raise Leakage(found)


def fit_for_evaluation(index: Sequence[Subject], held_out: Sequence[Subject]) -> tuple[str, ...]:
    """Lineages of the index that an evaluation may look up: neither held out nor a twin of something held out."""
    known = {subject.lineage for subject in held_out}
    together = [*held_out, *index]
    for pair in twins(together):
        if pair.first < len(held_out) <= pair.second:
            known.add(together[pair.second].lineage)
    return tuple(sorted({subject.lineage for subject in index} - known))


def _same(placed: Sequence[tuple[str, Subject]]) -> Iterable[Leak]:
    places: dict[str, list[str]] = {}
    for split, subject in placed:
        if split not in places.setdefault(subject.lineage, []):
            places[subject.lineage].append(split)
    for lineage, splits in places.items():
        for other in splits[1:]:
            yield Leak(
                kind=Kind.SAME_PHOTOGRAPH, first=lineage, first_place=splits[0], second=lineage, second_place=other
            )


def _twins(placed: Sequence[tuple[str, Subject]]) -> Iterable[Leak]:
    subjects = [subject for _, subject in placed]
    for pair in twins(subjects):
        (here, one), (there, other) = placed[pair.first], placed[pair.second]
        if here != there and one.lineage != other.lineage:
            yield Leak(
                kind=_KINDS[pair.likeness],
                first=one.lineage,
                first_place=here,
                second=other.lineage,
                second_place=there,
            )


def _in_index(placed: Sequence[tuple[str, Subject]], index: Sequence[Subject]) -> Iterable[Leak]:
    held_out = {subject.lineage: split for split, subject in placed if split != TRAINED_ON}
    subjects = [subject for split, subject in placed if split != TRAINED_ON]
    allowed = set(fit_for_evaluation(index, subjects))
    for entry in index:
        if entry.lineage not in allowed:
            split = held_out.get(entry.lineage, "a held-out split")
            yield Leak(
                kind=Kind.IN_RETRIEVAL_INDEX,
                first=entry.lineage,
                first_place=split,
                second=entry.lineage,
                second_place="the index",
            )
