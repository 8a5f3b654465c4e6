"""Which drafted critiques may join a dataset: in training only, not similar to held-out photographs, at most half.

Drafts take no part in the split: neither their number nor their pixels move a photograph that a person critiqued.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mondrian_core.data.splits.split import TRAIN, split_point
from mondrian_core.near_duplicates import PhotographFingerprint, near_duplicates_of
from mondrian_core.recipes import DataRecipe

SIMILAR_TO_HELD_OUT_REASON = "the photograph or its critique is a near-duplicate of one that is held out"
SHARE_EXCEEDED_REASON = "drafts may be at most synthetic_share of what is trained on"


@dataclass(frozen=True)
class DraftSelection:
    """Photo ids of the drafts to train on, and of those left out with the reason."""

    used: tuple[str, ...]
    left_out: dict[str, str]


def select_drafts(
    drafts: Sequence[PhotographFingerprint],
    real: Sequence[PhotographFingerprint],
    splits: Mapping[str, str],
    recipe: DataRecipe,
) -> DraftSelection:
    """Choose among the drafts.

    A draft makes one row and weighs as much as a photograph, so the share is kept by counting photographs: with
    `synthetic_share` s there are at most s / (1 - s) drafts for each real photograph in training. Drafts are taken in
    the order of their split points, so the choice is stable when others arrive.

    Args:
        drafts: photographs with a reviewed draft.
        real: photographs with a critique by a person.
        splits: photo id -> split, for `real`.
        recipe: gives `synthetic_share`.
    """
    held_out = [photograph for photograph in real if splits[photograph.photo_id] != TRAIN]
    similar = near_duplicates_of(held_out, drafts)
    left_out = dict.fromkeys(similar, SIMILAR_TO_HELD_OUT_REASON)
    trained = sum(split == TRAIN for split in splits.values())
    limit = int(trained * recipe.synthetic_share / (1 - recipe.synthetic_share) + 1e-9)
    ordered = sorted((draft.photo_id for draft in drafts if draft.photo_id not in similar), key=split_point)
    left_out |= dict.fromkeys(ordered[limit:], SHARE_EXCEEDED_REASON)
    return DraftSelection(tuple(sorted(ordered[:limit])), dict(sorted(left_out.items())))
