"""An adapter is asked, read and shown in the form that it was taught."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mondrian_core.lora_files import ADAPTER_CONFIG_FILE, adapter_answer_form
from mondrian_core.models.lora.lora_layers import record_answer_form
from mondrian_core.prompts import ADVICE_INSTRUCTION, CRITIQUE_INSTRUCTION, AdvisorPrompt
from mondrian_core.rubric import (
    DIMENSIONS,
    AnswerForm,
    Assessment,
    Critique,
    canonical_answer,
    critique_json_schema,
)
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.critique.strategies import AnalysisContext, BaselineStrategy, LoraStrategy
from mondrian_core.serving.http.pages import improvements_of

ADVICE = Critique(
    {name: Assessment(number, "Level.", "Wait.") for number, name in enumerate(DIMENSIONS)},
    "3.5",
    strengths=("Calm.",),
    priority_improvements=("Step left.", "Wait."),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "v0003"
    path.mkdir()
    (path / ADAPTER_CONFIG_FILE).write_text("{}")
    return path


def context(folder: Path) -> AnalysisContext:
    return AnalysisContext(
        advisor_prompt=AdvisorPrompt("ansel", "Ansel Adams"),
        image=Image.new("RGB", (32, 32)),
        adapter=ServedAdapter("ansel", "v0003", folder),
    )


def test_the_manifest_says_the_form_before_the_configuration(folder: Path) -> None:
    assert adapter_answer_form(folder) == AnswerForm.COMMENTS
    record_answer_form(folder, AnswerForm.COMMENTS)
    assert (folder / ADAPTER_CONFIG_FILE).read_text() == "{}", "adapters of the first form keep their bytes"
    record_answer_form(folder, AnswerForm.ADVICE)
    assert adapter_answer_form(folder) == AnswerForm.ADVICE
    (folder / "manifest.json").write_text('{"answer_form": "comments"}')
    assert adapter_answer_form(folder) == AnswerForm.COMMENTS
    for damaged in ("[1]", "{", '{"answer_form": 3}', '{"answer_form": ["advice"]}'):
        (folder / "manifest.json").write_text(damaged)
        assert adapter_answer_form(folder) == AnswerForm.ADVICE


def test_an_adapter_is_asked_in_its_form_and_the_base_in_the_first(
    folder: Path, tmp_path: Path, fake_engine: Any, control: Callable[..., None]
) -> None:
    asked = tmp_path / "asked.json"
    record_answer_form(folder, AnswerForm.ADVICE)
    control(record_question=str(asked), texts=[canonical_answer(ADVICE, AnswerForm.ADVICE)])
    answer = LoraStrategy().analyze(context(folder), fake_engine)
    question = json.loads(asked.read_text())
    assert question["messages"][1]["content"][0]["text"] == ADVICE_INSTRUCTION
    assert question["schema"] == critique_json_schema(AnswerForm.ADVICE)
    assert answer.critique.strengths == ADVICE.strengths
    assert answer.critique.recommendations == ADVICE.recommendations
    BaselineStrategy().analyze(context(folder), fake_engine)
    question = json.loads(asked.read_text())
    assert question["messages"][1]["content"][0]["text"] == CRITIQUE_INSTRUCTION
    assert question["schema"] is None


def test_priorities_come_before_recommendations_and_those_before_comments() -> None:
    answer, scores = ADVICE.as_dict(), ADVICE.scores
    assert improvements_of(answer, scores).items == (("", "Step left."), ("", "Wait."))
    del answer["priority_improvements"]
    assert improvements_of(answer, scores).items == (("Composition", "Wait."), ("Lighting", "Wait."))
    del answer["dimensional_analysis"]["composition"]["recommendation"]
    assert [title for title, _ in improvements_of(answer, scores).items] == ["Lighting", "Focus & Sharpness"]
    plain = {"dimensional_analysis": {name: {"score": 5, "comment": "Level."} for name in DIMENSIONS}}
    assert improvements_of(plain, dict.fromkeys(DIMENSIONS, 5)).items[0] == ("Composition", "Level.")
