"""A gate is one value: a new one is judged, reported, documented, advised on and decided on without other changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pydantic import Field

from mondrian_core.evaluation import EvaluationReport, GateMeasurements
from mondrian_core.evaluation.gates.comments_gate import COMMENT_CHECKS
from mondrian_core.evaluation.gates.definitions import GATES
from mondrian_core.evaluation.gates.gate import NEVER, Gate, Judgement, Requirement
from mondrian_core.evaluation.gates.health_checks import HEALTH_CHECKS
from mondrian_core.evaluation.gates.reference_page import gate_reference_page
from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS
from mondrian_core.evaluation.measure.samples import EvaluationSamples, load_evaluation_samples
from mondrian_core.evaluation.report.builder import build_evaluation_report
from mondrian_core.evaluation.report.html_page import report_html
from mondrian_core.recipes import EvaluateRecipe, GateRecipe, Recipe
from mondrian_core.registry import ChampionReference
from mondrian_core.stages.promotion_decision import Keep, Promote, Reject, decide_promotion

Run = Callable[..., EvaluationReport]


class BrevityRecipe(GateRecipe):
    """The recipe field of the new gate."""

    longest_answer: int = Field(default=200, ge=1, description="median number of tokens of an answer")


def judge_brevity(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """Takes a measurement that no other gate uses from the samples."""
    assert isinstance(recipe, BrevityRecipe)
    outcomes = measured.samples.outcomes if measured.samples else ()
    tokens = [len(outcome.tokens) for outcome in outcomes if outcome.arm == "candidate" and outcome.ran]
    if not tokens:
        return Judgement(verdict=INCONCLUSIVE, sentence="No answer has a length.")
    verdict = PASS if median(tokens) <= recipe.longest_answer else FAIL
    return Judgement(
        verdict=verdict, sentence=f"A median of {median(tokens):g} tokens.", observed=median(tokens), n=len(tokens)
    )


BREVITY = Gate(
    name="brevity",
    rule="median length of an answer <= {gates.longest_answer} tokens",
    fails_when="longer than {gates.longest_answer} tokens",
    inconclusive_when="no answer among {evaluate.compliance_photographs} photographs",
    recipe_fields=("longest_answer",),
    judge=judge_brevity,
    next_steps={FAIL: "Train on shorter critiques.", INCONCLUSIVE: "Evaluate on more photographs."},
)
WITH_BREVITY = (*GATES, BREVITY)


@pytest.fixture
def samples(run: Run, fake_model: Any, tmp_path: Path) -> EvaluationSamples:
    """Samples of a sound adapter; every answer has 40 tokens."""
    run(
        fake_model.FakeModel(
            critics={"base": fake_model.noisy_critic(2.5, 1.0), "candidate": fake_model.noisy_critic(0.7)}
        )
    )
    return load_evaluation_samples(tmp_path / "run" / "samples.jsonl")


def report_with(samples: EvaluationSamples, recipe: Recipe, longest: int) -> EvaluationReport:
    gates = BrevityRecipe(longest_answer=longest)
    return build_evaluation_report(samples, recipe.model_copy(update={"gates": gates}), WITH_BREVITY)


def test_new_gate_is_judged_reported_and_advised_on(samples: EvaluationSamples, recipe: Recipe) -> None:
    report = report_with(samples, recipe, 39)
    assert (report.verdict, report.gate("brevity").verdict) == ("FAIL", "FAIL")
    assert build_evaluation_report(samples, recipe).verdict == "PASS", "it passes without the new gate"
    stored = report.as_dict()["gates"][-1]
    assert (stored["name"], stored["observed"], stored["threshold"], stored["n"]) == ("brevity", 40, 39, 60)
    assert stored["rule"] == "median length of an answer <= 39 tokens"
    assert "| brevity | FAIL | 40 | 39 | 60 |" in report.markdown()
    page = report_html(report, samples)
    assert "<td>brevity<td>" in page and "A median of 40 tokens." in page and "&lt;= 39 tokens" in page
    assert "Train on shorter critiques." in report.next_steps and "<li>Train on shorter critiques." in page


def test_new_gate_is_documented() -> None:
    page = gate_reference_page(BrevityRecipe(longest_answer=77), gates=WITH_BREVITY)
    row = next(line for line in page.splitlines() if line.startswith("| brevity |"))
    assert "<= 77 tokens" in row and "longer than 77 tokens" in row and "among 120 photographs" in row
    assert "`longest_answer`" in row and "| always |" in row
    assert "| brevity | Train on shorter critiques. | Evaluate on more photographs. |" in page


def test_new_gate_decides_promotion(samples: EvaluationSamples, recipe: Recipe) -> None:
    champion = ChampionReference()

    def decision(report: EvaluationReport) -> Any:
        values = {**report.as_dict(), "compared_with": champion.as_dict()}
        return decide_promotion(values, champion, gates=WITH_BREVITY)

    assert isinstance(decision(report_with(samples, recipe, 40)), Promote)
    assert isinstance(rejected := decision(report_with(samples, recipe, 39)), Reject) and "brevity" in rejected.sentence
    kept = decision(build_evaluation_report(samples, recipe))
    assert isinstance(kept, Keep) and "not measured: brevity" in kept.sentence


def test_only_a_gate_that_is_required_by_recipe_can_be_reported() -> None:
    with pytest.raises(ValueError, match="required by recipe"):
        replace(BREVITY, decides=lambda recipe: False)
    with pytest.raises(ValueError, match="required by recipe"):
        replace(BREVITY, required=Requirement.BY_RECIPE)


def test_every_gate_and_check_has_all_texts() -> None:
    gates, evaluate = GateRecipe(), EvaluateRecipe()
    for check in (*GATES, *HEALTH_CHECKS, *COMMENT_CHECKS):
        texts = (check.rule_text(gates), *check.condition_texts(gates, evaluate))
        assert all(texts) and not any("{" in text for text in texts), check.name
        assert check.judge.__doc__, check.name
    for gate in GATES:
        possible = {FAIL: gate.fails_when, INCONCLUSIVE: gate.inconclusive_when}
        assert set(gate.next_steps) == {verdict for verdict, when in possible.items() if when != NEVER}
    everything = (*GATES, *HEALTH_CHECKS, *COMMENT_CHECKS)
    assert len({check.name for check in everything}) == len(everything)


def test_every_threshold_of_the_recipe_belongs_to_a_gate() -> None:
    used = {field for check in (*GATES, *HEALTH_CHECKS, *COMMENT_CHECKS) for field in check.recipe_fields}
    assert used == set(GateRecipe.model_fields)
    assert all(field.description for field in GateRecipe.model_fields.values())


def test_gate_without_advice_cannot_be_defined() -> None:
    with pytest.raises(ValueError, match="brevity has no next step after INCONCLUSIVE"):
        Gate(
            name="brevity",
            rule="short",
            fails_when="long",
            inconclusive_when="unknown",
            recipe_fields=(),
            judge=judge_brevity,
            next_steps={FAIL: "Train on shorter critiques."},
        )


def test_required_gates_are_unchanged() -> None:
    required = {gate.name for gate in GATES if gate.required is Requirement.ALWAYS}
    scores = {"score_error", "tail"}
    assert required == {"integrity", "effect", "format_compliance", "latency_overhead", "health", "comments"} | scores
    assert [gate.name for gate in GATES if gate.required is Requirement.WITH_CHAMPION] == ["champion"]
