"""The entries of an answer object by dimension, as answers hold them today and as those of earlier programs do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mondrian_core.rubric import DIMENSIONS

# Keys of an answer besides its dimensions, and what the older form, with a list `dimensions`, calls them.
OLDER_KEYS: Mapping[str, str] = {
    "strengths": "key_strengths",
    "priority_improvements": "priority_improvements",
    "overall_grade": "overall_score",
    "advisor_notes": "technical_notes",
}


def dimension_from_label(label: str) -> str | None:
    """ "Focus & Sharpness" -> focus_sharpness; None when the label names no dimension."""
    words = [word for word in re.split(r"[^a-z]+", label.lower().replace("colour", "color")) if word and word != "and"]
    name = "_".join(words)
    return name if name in DIMENSIONS else None


def entries_of_answer(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]] | None:
    """The entries of an answer object by label, their values unchecked; None when it has no dimensions.

    Below `dimensional_analysis` the labels are as they are written. In the older form, a list `dimensions`, they are
    the rubric's names; of several entries for one dimension the first counts, and entries for none are left out.
    """
    nested, listed = answer.get("dimensional_analysis"), answer.get("dimensions")
    if isinstance(nested, Mapping):
        return {label: entry for label, entry in nested.items() if isinstance(entry, Mapping)}
    if not isinstance(listed, list):
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for entry in listed:
        name = dimension_from_label(str(entry.get("name", ""))) if isinstance(entry, Mapping) else None
        if name:
            found.setdefault(name, {key: value for key, value in entry.items() if key != "name"})
    return found
