"""What stored critiques hold besides scores and comments, from each of their spellings: rows, answers, analyses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.answer_entries import dimension_from_label, entries_of_answer
from mondrian_core.critique_regions import regions_from_value
from mondrian_core.data.linking.link_manifest import AdvicePart
from mondrian_core.rubric import Critique
from mondrian_core.store import DimensionalProfile
from mondrian_core.store.records import DETAIL_COLUMNS, LIST_DETAILS, texts_from_value

Advice = dict[str, Any]  # fields of `LinkedRecord`, those of `AdvicePart`


def advice_of_answer(answer: Mapping[str, Any]) -> Advice:
    """What an answer object says, with `dimensional_analysis` or in the older form with a list `dimensions`."""
    entries = _entries_by_dimension(answer)
    recommendations = {name: _text(entry.get("recommendation")) for name, entry in entries.items()}
    regions = {name: regions_from_value(entry.get("regions")) for name, entry in entries.items()}
    found: Advice = {
        "recommendations": {name: text for name, text in recommendations.items() if text},
        "regions": {name: boxes for name, boxes in regions.items() if boxes and recommendations[name]},
    }
    for part, names in DETAIL_COLUMNS.items():
        given = next((answer[name] for name in names if answer.get(name)), None)
        found[part] = texts_from_value(given) if part in LIST_DETAILS else _text(given) or None
    return found


def advice_of_profile(profile: DimensionalProfile) -> Advice:
    """What a row says, in its columns and in its details."""
    recommendations = {name: text.strip() for name, text in profile.recommendations.items() if text.strip()}
    return {
        "recommendations": recommendations,
        "regions": {name: boxes for name, boxes in profile.regions.items() if name in recommendations},
        "strengths": profile.strengths,
        "priority_improvements": profile.priority_improvements,
        "advisor_notes": _text(profile.details.get("advisor_notes")) or None,
        "image_description": _text(profile.details.get("image_description")) or None,
    }


def advice_of_critique(critique: Critique) -> Advice:
    """What a critique says; it has no description of the photograph."""
    return {
        "recommendations": critique.recommendations,
        "regions": critique.regions,
        "strengths": critique.strengths,
        "priority_improvements": critique.priority_improvements,
        "advisor_notes": critique.advisor_notes,
    }


def advice_counts(advice: Advice) -> dict[str, int]:
    """Items of each `AdvicePart`, without those that there are none of."""
    counts = {
        AdvicePart.RECOMMENDATIONS.value: len(advice["recommendations"]),
        AdvicePart.REGIONS.value: sum(map(len, advice["regions"].values())),
        AdvicePart.STRENGTHS.value: len(advice["strengths"]),
        AdvicePart.PRIORITY_IMPROVEMENTS.value: len(advice["priority_improvements"]),
        AdvicePart.ADVISOR_NOTES.value: int(bool(advice.get("advisor_notes"))),
        AdvicePart.IMAGE_DESCRIPTION.value: int(bool(advice.get("image_description"))),
    }
    return {part: count for part, count in counts.items() if count}


def _entries_by_dimension(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for label, entry in (entries_of_answer(answer) or {}).items():
        if name := dimension_from_label(label):
            found.setdefault(name, entry)
    return found


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
