"""Which drafted critiques may join a dataset: trained on only, away from all that is held out, at most half.

Drafts never take part in the split: neither their number nor their looks move a photograph that a person critiqued.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mondrian_core.data.splits.near_duplicates import PhotographFingerprint, near_duplicate_pairs
from mondrian_core.data.splits.split import TRAIN, split_point
from mondrian_core.recipes import DataRecipe

LIKE_HELD_OUT = "it looks like, or says the same as, a photograph that is held out"
SHARE_EXCEEDED_REASON = "drafts may be at most synthetic_share of what is trained on"


@dataclass(frozen=True)
class DraftSelection:
    """Lineages of the drafts that are trained on, and those left out with the reason."""

    used: tuple[str, ...]
    left_out: dict[str, str]


def select_drafts(
    drafts: Sequence[PhotographFingerprint],
    real: Sequence[PhotographFingerprint],
    sides: Mapping[str, str],
    recipe: DataRecipe,
) -> DraftSelection:
    """Choose among the drafts.

    A draft makes one row and weighs as much as a photograph, so their share is kept by counting photographs: with
    `synthetic_share` s there are at most s / (1 - s) drafts for each real photograph in training. Which ones stays the
    same when others arrive, as long as there is room: the order is that of their fixed points.
    """
    held_out = [subject for subject in real if sides[subject.photo_id] != TRAIN]
    together = [*held_out, *drafts]
    close = {
        together[pair.second].photo_id
        for pair in near_duplicate_pairs(together)
        if pair.first < len(held_out) <= pair.second
    }
    left_out = {subject.photo_id: LIKE_HELD_OUT for subject in drafts if subject.photo_id in close}
    trained = sum(side == TRAIN for side in sides.values())
    room = int(trained * recipe.synthetic_share / (1 - recipe.synthetic_share) + 1e-9)
    ordered = sorted((each.photo_id for each in drafts if each.photo_id not in close), key=split_point)
    left_out |= dict.fromkeys(ordered[room:], SHARE_EXCEEDED_REASON)
    return DraftSelection(tuple(sorted(ordered[:room])), dict(sorted(left_out.items())))
