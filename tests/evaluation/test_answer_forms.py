"""Candidate and champion are each asked in their own form, and the base in the candidate's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.evaluation.report.evaluation_report import EvaluationReport
from mondrian_core.evaluation.report.html_page import report_html
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import AdvisorPrompt, asked_answer_form
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import AnswerForm, form_of_schema
from mondrian_core.samples_file import SAMPLES_NAME


def test_every_arm_is_asked_in_its_form(
    run: Callable[..., EvaluationReport], fake_model: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    asked: set[tuple[str, AnswerForm, bool, AnswerForm | None]] = set()

    class Recorded(fake_model.FakeModel):  # type: ignore[name-defined]
        def ask(self, question: Question, on_token: Any = None) -> Any:
            arm = question.adapter.name if question.adapter else "base"
            form = asked_answer_form(question.messages)
            asked.add((arm, form, question.constrained, form_of_schema(question.schema)))
            return super().ask(question, on_token)

    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "manifest.json").write_text('{"answer_form": "advice"}')
    critic = fake_model.noisy_critic(0.5)
    model = Recorded(critics={"base": fake_model.noisy_critic(2.0), "candidate": critic, "v0001": critic})
    voice = replace(AdvisorPrompt("ansel", "Ansel Adams"), form=AnswerForm.ADVICE)
    probed = recipe.evaluate.model_copy(update={"constrained_photographs": 2})
    report = run(model, champion="v0001", voice=voice, recipe=recipe.model_copy(update={"evaluate": probed}))
    assert {arm: form for arm, form, *_ in asked} == {
        "base": AnswerForm.ADVICE,
        "candidate": AnswerForm.ADVICE,
        "v0001": AnswerForm.COMMENTS,
    }
    assert report.about["answer_form"] == "advice"
    page = report_html(report, load_evaluation_samples(tmp_path / "run" / SAMPLES_NAME))
    assert "Evaluation of an adapter for ansel, asked for scores, comments and advice<" in page
    assert {(form, schema) for _, form, constrained, schema in asked if constrained} == {
        (AnswerForm.ADVICE, AnswerForm.ADVICE)
    }
