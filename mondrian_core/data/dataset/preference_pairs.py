"""Two answers to one photograph, of which the first is preferred: what preference tuning learns from.

Two kinds. A person's correction of the model's own critique: that critique is rejected. The advisor's critique of a
photograph against the advisor's critique of another one: nothing but looking tells them apart.

They are computed from a dataset version, which keeps the corrected critiques in its manifest and under its digest: the
rest is a function of its rows and a seed. A pair never crosses a split, and the test has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mondrian_core.data.dataset.version import DatasetVersion
from mondrian_core.data.splits.split import TEST
from mondrian_core.dataset_types import CORRECTION, OTHER_PHOTOGRAPH, DatasetRow, PreferencePair

__all__ = ["preference_pairs_from_rows", "split_preference_pairs"]


def split_preference_pairs(version: DatasetVersion, split: str, others: int, seed: int = 0) -> list[PreferencePair]:
    """The pairs of one split of a dataset: "train", or the one that may choose among epochs.

    Raises:
        ValueError: for a split that gates are measured on.
    """
    if split == TEST or (split == version.evaluation_split):
        raise ValueError(f"the split '{split}' is held out; nothing is learned from it")
    return preference_pairs_from_rows(
        version.rows(split), version.near_duplicate_groups, version.corrections, others, seed
    )


def preference_pairs_from_rows(
    rows: Sequence[DatasetRow], groups: Mapping[str, str], corrections: Mapping[str, str], others: int, seed: int = 0
) -> list[PreferencePair]:
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
    first: dict[str, DatasetRow] = {}
    for row in rows:
        first.setdefault(row.photo_id, row)
    found = []
    for lineage, row in sorted(first.items()):
        rejected = corrections.get(lineage)
        if rejected is not None and rejected != row.answer:
            found.append(PreferencePair(row, rejected, CORRECTION))
        if lineage in groups:
            found += [
                PreferencePair(row, other.answer, OTHER_PHOTOGRAPH)
                for other in _other_photographs(row, first, groups, others, seed)
            ]
    return found


def _other_photographs(
    row: DatasetRow, rows: Mapping[str, DatasetRow], groups: Mapping[str, str], count: int, seed: int
) -> list[DatasetRow]:
    possible = [
        other
        for lineage, other in rows.items()
        if lineage in groups and groups[lineage] != groups[row.photo_id] and other.answer != row.answer
    ]
    return sorted(possible, key=lambda other: _draw_key(seed, row.photo_id, other.photo_id))[:count]


def _draw_key(seed: int, lineage: str, other: str) -> str:
    return hashlib.sha256(f"mondrian pair {seed} {lineage} {other}".encode()).hexdigest()
