"""How many critiques an advisor has: the one count of pages and commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, has_visible_character
from mondrian_core.store.photographs import path_below_source
from mondrian_core.store.records import DimensionalProfile


def is_complete_critique(profile: DimensionalProfile) -> bool:
    """True for a critique by a person with a score and a comment in every dimension."""
    return profile.origin == "human" and all(
        _is_score(profile.scores.get(name)) and has_visible_character(profile.comments.get(name) or "")
        for name in DIMENSIONS
    )


def count_critiqued_photographs(profiles: Iterable[DimensionalProfile]) -> int:
    """Photographs with a complete critique; several critiques of one photograph count once."""
    return len({path_below_source(each.image_path) for each in profiles if is_complete_critique(each)})


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and MIN_SCORE <= value <= MAX_SCORE
