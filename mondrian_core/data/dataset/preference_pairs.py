"""Preference pairs for preference tuning: two answers to one photograph, of which the first is preferred.

A person corrected the model's own critique: the model's critique is rejected. A person judged a recommendation or a
crop: the answers differ in this advice alone (`advice_preferences`). Or the advisor's critique of this photograph is
preferred to the advisor's critique of another one, which only the image can tell apart.

Pairs are computed from a dataset version: corrected critiques are in its manifest, pairs of judged advice in a folder,
both covered by its digest; the rest is a function of its rows and a seed. A pair never crosses a split, and the test
has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mondrian_core.data.dataset.version import DatasetVersion
from mondrian_core.data.splits.split import TEST, TRAIN
from mondrian_core.dataset_types import CORRECTION, OTHER_PHOTOGRAPH, DatasetRow, PreferencePair

__all__ = ["preference_pairs_from_rows", "split_preference_pairs"]


def split_preference_pairs(version: DatasetVersion, split: str, others: int, seed: int = 0) -> list[PreferencePair]:
    """The pairs of one split of a dataset: "train", or the split that may choose the epoch.

    Args:
        version: the dataset.
        split: name.
        others: see `preference_pairs_from_rows`.
        seed: see `preference_pairs_from_rows`.

    Raises:
        ValueError: for the test, and for the split that gates are measured on.
    """
    if split == TEST or (split == version.evaluation_split):
        raise ValueError(f"the split '{split}' is held out; nothing is learned from it")
    photographs = [member["lineage"] for member in version.manifest["members"] if member["split"] == split]
    return [
        *preference_pairs_from_rows(
            version.rows(split), version.near_duplicate_groups, version.corrections, others, seed
        ),
        *version.advice_pairs(photographs, others=split == TRAIN),
    ]


def preference_pairs_from_rows(
    rows: Sequence[DatasetRow], groups: Mapping[str, str], corrections: Mapping[str, str], others: int, seed: int = 0
) -> list[PreferencePair]:
    """Pairs among these photographs, ordered by photo id, corrections first; deterministic.

    Args:
        rows: of one split; of each photograph only the first row is used, the photograph itself.
        groups: photo id -> group of near-duplicates, for every photograph that the advisor critiqued. The critique of a
            near-duplicate would fit as well, so it is never the rejected one; a photograph without a group (a reviewed
            draft) has correction pairs only.
        corrections: photo id -> the model's critique that a person corrected.
        others: how many critiques of other photographs to pair each photograph with. The choice depends on seed and
            photographs only, so a photograph that arrives later changes few pairs.
        seed: of that choice.
    """
    first: dict[str, DatasetRow] = {}
    for row in rows:
        first.setdefault(row.photo_id, row)
    pairs = []
    for photo_id, row in sorted(first.items()):
        rejected = corrections.get(photo_id)
        if rejected is not None and rejected != row.answer:
            pairs.append(PreferencePair(row, rejected, CORRECTION))
        if photo_id in groups:
            pairs += [
                PreferencePair(row, other.answer, OTHER_PHOTOGRAPH)
                for other in _other_photographs(row, first, groups, others, seed)
            ]
    return pairs


def _other_photographs(
    row: DatasetRow, rows: Mapping[str, DatasetRow], groups: Mapping[str, str], count: int, seed: int
) -> list[DatasetRow]:
    possible = [
        other
        for photo_id, other in rows.items()
        if photo_id in groups and groups[photo_id] != groups[row.photo_id] and other.answer != row.answer
    ]
    return sorted(possible, key=lambda other: _draw_key(seed, row.photo_id, other.photo_id))[:count]


def _draw_key(seed: int, photo_id: str, other: str) -> str:
    return hashlib.sha256(f"mondrian pair {seed} {photo_id} {other}".encode()).hexdigest()
