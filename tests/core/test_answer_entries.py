"""The dimensions of an answer object are the same for every reader, in both spellings of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mondrian_core.answer_entries import dimension_from_label, entries_of_answer
from mondrian_core.critique_files.json_forms import values_from_object
from mondrian_core.critique_parsing import parse_critique_lenient
from mondrian_core.data.linking.advice_reading import advice_of_answer
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS


def entry(name: str) -> dict[str, Any]:
    return {"score": 7, "comment": f"On {name}.", "recommendation": f"Try {name}."}


OLDER = {
    "dimensions": [
        *({"name": title, **entry(name)} for name, title in DIMENSION_TITLES.items()),
        {"name": "Lighting", "score": 1, "comment": "Again.", "recommendation": "Again."},
        {"name": "Mood", "score": 1, "comment": "Solemn."},
        "no entry",
    ],
    "overall_score": 7,
}
NESTED = {"dimensional_analysis": {name: entry(name) for name in DIMENSIONS}, "overall_grade": "7.0"}


@pytest.mark.parametrize("answer", [OLDER, NESTED], ids=["older", "nested"])
def test_every_reader_finds_the_same_dimensions(answer: dict[str, Any]) -> None:
    assert entries_of_answer(answer) == {name: entry(name) for name in DIMENSIONS}
    advice = {name: f"Try {name}." for name in DIMENSIONS}
    critique = parse_critique_lenient(json.dumps(answer)).critique
    assert critique.recommendations == advice and set(critique.scores.values()) == {7.0}
    assert advice_of_answer(answer)["recommendations"] == advice
    values = values_from_object(answer)
    assert {name: values[f"{name}_recommendation"] for name in DIMENSIONS} == advice


@pytest.mark.parametrize("answer", [{}, {"dimensions": {}}, {"dimensional_analysis": [1]}, {"dimensions": "lighting"}])
def test_an_object_without_dimensions_has_no_entries(answer: dict[str, Any]) -> None:
    assert entries_of_answer(answer) is None


def test_labels_are_read_however_people_write_them() -> None:
    assert dimension_from_label("Focus & Sharpness") == "focus_sharpness"
    assert dimension_from_label("Mood") is None
