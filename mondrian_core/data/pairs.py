"""Two answers to one photograph, of which the first is preferred: what preference tuning learns from.

Two kinds. A person's correction of the model's own critique: that critique is rejected. The advisor's critique of a
photograph against the advisor's critique of another one: nothing but looking tells them apart.

They are computed from a dataset version, which keeps the corrected critiques in its manifest and under its digest: the
rest is a function of its rows and a seed. A pair never crosses a split, and the test has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mondrian_core.data.dataset import DatasetVersion
from mondrian_core.data.split import TEST
from mondrian_core.rows import CORRECTION, OTHER, Pair, Row

__all__ = ["pairs_in", "pairs_of"]


def pairs_in(version: DatasetVersion, split: str, others: int, seed: int = 0) -> list[Pair]:
    """The pairs of one split of a dataset: "train", or the one that may choose among epochs.

    Raises:
        ValueError: for a split that gates are measured on.
    """
    if split == TEST or (split == version.evaluation_split):
        raise ValueError(f"the split '{split}' is held out; nothing is learned from it")
    return pairs_of(version.rows(split), version.groups, version.corrections, others, seed)


def pairs_of(
    rows: Sequence[Row], groups: Mapping[str, str], corrections: Mapping[str, str], others: int, seed: int = 0
) -> list[Pair]:
    """Pairs among these photographs, ordered by lineage, corrections first; the same for the same arguments.

    Args:
        rows: of one split; of each lineage the first one counts, the photograph itself.
        groups: lineage -> group of twins, of every photograph that the advisor critiqued. A twin's critique would fit
            as well, so it is never the other one; a photograph without a group (a reviewed draft) is in corrections
            alone.
        corrections: lineage -> the model's critique that a person corrected.
        others: how many critiques of other photographs each one is held against. Which ones depends on seed and
            photographs only, so that a photograph that arrives later changes few pairs.
    """
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.lineage, row)
    found = []
    for lineage, row in sorted(first.items()):
        rejected = corrections.get(lineage)
        if rejected is not None and rejected != row.answer:
            found.append(Pair(row, rejected, CORRECTION))
        if lineage in groups:
            found += [Pair(row, other.answer, OTHER) for other in _others(row, first, groups, others, seed)]
    return found


def _others(row: Row, rows: Mapping[str, Row], groups: Mapping[str, str], count: int, seed: int) -> list[Row]:
    possible = [
        other
        for lineage, other in rows.items()
        if lineage in groups and groups[lineage] != groups[row.lineage] and other.answer != row.answer
    ]
    return sorted(possible, key=lambda other: _draw(seed, row.lineage, other.lineage))[:count]


def _draw(seed: int, lineage: str, other: str) -> str:
    return hashlib.sha256(f"mondrian pair {seed} {lineage} {other}".encode()).hexdigest()
