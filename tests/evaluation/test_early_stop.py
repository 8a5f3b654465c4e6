"""An evaluation ends as soon as the format gate fails whatever the answers to come are, and says what it knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.evaluation import EvaluationReport, rescore_evaluation
from mondrian_core.evaluation.gates.format_gate import FORMAT_COMPLIANCE, format_is_lost
from mondrian_core.evaluation.gates.invalid_answers import invalid_answers_cause
from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS, Cause, GateMeasurements
from mondrian_core.evaluation.measure.metrics import FormatStatistics
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples, load_evaluation_samples
from mondrian_core.photograph_model import Question
from mondrian_core.recipes import GateRecipe, Recipe, recipe_from_values

Run = Callable[..., EvaluationReport]


def counts(valid: int, ran: int, asked: int | None = None) -> FormatStatistics:
    """Format statistics with this many valid answers of this many."""
    return FormatStatistics(
        asked=ran if asked is None else asked,
        ran=ran,
        valid=valid,
        mended=0,
        cut=0,
        reasons={"not_json": ran - valid} if ran > valid else {},
        tokens=None,
        seconds=None,
    )


def verdict(own: FormatStatistics, others: FormatStatistics) -> str:
    """What the gate says about these answers when they are all there are."""
    formats = {"candidate": own} if own.asked else {}
    rest = {"candidate": others} if others.asked else {}
    measured = GateMeasurements(formats_of_own=formats, formats_of_others=rest)
    return FORMAT_COMPLIANCE.evaluate(measured, GateRecipe()).verdict


@given(st.data())
def test_a_lost_format_fails_whatever_comes(data: st.DataObject) -> None:
    """Against the gate itself: every completion of a lost evaluation that runs fails, and none passes."""
    planned = (data.draw(st.integers(0, 130)), data.draw(st.integers(0, 130)))
    own, others = (
        counts(data.draw(st.integers(0, ran)), ran) for ran in (data.draw(st.integers(0, count)) for count in planned)
    )
    best = [counts(each.valid + n - each.ran, n) for each, n in zip((own, others), planned, strict=True)]
    lost = format_is_lost(own, others, planned, GateRecipe())
    assert lost == (verdict(*best) == FAIL)
    if lost:
        more = [data.draw(st.integers(0, n - each.ran)) for each, n in zip((own, others), planned, strict=True)]
        final = [counts(each.valid + n, each.ran + n) for each, n in zip((own, others), more, strict=True)]
        assert verdict(*final) != PASS
        worse = [counts(each.valid + n, all_) for each, n, all_ in zip((own, others), more, planned, strict=True)]
        assert verdict(*worse) == FAIL


def garbage(fake_model: Any, text: str, reason: str = "stop", arm: str = "candidate") -> Any:
    """A model whose candidate always gives this answer."""

    class Garbage(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            if self.arm != arm or question.exact_tokens:
                return said
            return replace(said, text=text, finish_reason=reason, expected_scores={})

    critics = {"base": fake_model.noisy_critic(2.5, 1.0), "candidate": fake_model.noisy_critic(0.7)}
    return Garbage(critics=critics)


def test_garbage_stops_the_evaluation(run: Run, fake_model: Any, tmp_path: Path) -> None:
    model = garbage(fake_model, "I would I would I would", "loop")
    report = run(model)
    asked = [arm for arm, _ in model.asked]
    assert asked.count("candidate") == asked.count("base") == 4, "57 of 60 may still pass, 56 can't"
    assert model.timed == 0 and model.arm == "base"
    verdicts = {gate.name: (gate.verdict, gate.cause) for gate in report.gates}
    assert verdicts.pop("integrity") == (PASS, None)
    assert verdicts.pop("format_compliance") == (FAIL, Cause.LOOPS)
    assert set(verdicts.values()) == {(INCONCLUSIVE, Cause.STOPPED)} and len(verdicts) > 4
    sentence = report.gate("format_compliance").sentence
    assert "0 of 4 answers" in sentence and "56 of 60 (93.3%) would be fewer than 95%" in sentence
    assert report.verdict == FAIL
    (step,) = report.next_steps
    assert "repeat the same words" in step and "learning rate" in step
    assert any("stopped after 8 answers about 60 photographs" in caveat for caveat in report.caveats)
    assert "stopped after 8 answers" in (tmp_path / "run" / "report.html").read_text()
    stored = EvaluationReport.from_dict(json.loads((tmp_path / "run" / "comparison_report.json").read_text()))
    assert stored.gates == report.gates


def test_a_stopped_evaluation_stays_stopped_until_its_recipe_goes_on(
    run: Run, fake_model: Any, tmp_path: Path, recipe: Recipe, complete_recipe: Recipe
) -> None:
    model = garbage(fake_model, "Well.")
    first = run(model)
    asked = len(model.asked)
    assert run(model).gates == first.gates and len(model.asked) == asked
    assert rescore_evaluation(tmp_path / "run", recipe).gates == first.gates
    looser = recipe_from_values({"gates": {"compliance_observed": 0.1, "compliance_bound": 0.05}})
    gate = rescore_evaluation(tmp_path / "run", looser, tmp_path).gate("format_compliance")
    assert (gate.verdict, gate.cause) == (INCONCLUSIVE, Cause.NOT_MEASURED)
    whole = run(model, recipe=complete_recipe)
    assert load_evaluation_samples(tmp_path / "run" / "samples.jsonl").stopped is None
    assert whole.gate("format_compliance").verdict == FAIL and whole.gate("format_compliance").n == 60
    assert whole.gate("latency_overhead").verdict == PASS


def test_a_few_invalid_answers_stop_nothing(run: Run, fake_model: Any) -> None:
    class Careless(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            careless = self.arm == "candidate" and not question.exact_tokens and self.asked[-1][1] < 3
            return replace(said, text="Well.") if careless else said

    report = run(Careless(critics=garbage(fake_model, "").critics))
    assert report.gate("format_compliance").n == 60 and report.gate("format_compliance").verdict != FAIL
    assert report.gate("latency_overhead").verdict == PASS


def test_garbage_of_the_base_stops_nothing(run: Run, fake_model: Any) -> None:
    report = run(garbage(fake_model, "Well.", arm="base"))
    assert report.gate("format_compliance").verdict == PASS


LATIN = '{"dimensional_analysis": {"composition": {"score": 7, "comment": "Calm light on the ridge."}}}'


@pytest.mark.parametrize(
    ("reasons", "text", "cause"),
    [
        ({"loop": 5, "not_json": 1}, "a", Cause.LOOPS),
        ({"cut": 5}, "a", Cause.CUT),
        ({"not_json": 3, "empty": 2}, "A fine photograph.", Cause.PROSE),
        ({"missing_dimensions": 3, "wrong_keys": 2}, '{"composición": {"nota": 7}}', Cause.WRONG_KEYS),
        ({"not_json": 5}, "这张照片的光线很好。", Cause.OTHER_SCRIPT),
        ({"wrong_keys": 5}, '{"composition": "光线柔和而有层次。"}', Cause.OTHER_SCRIPT),
        ({"grade_inconsistent": 3, "score_out_of_range": 1}, LATIN, Cause.WRONG_VALUES),
        ({"cut": 2, "not_json": 2}, "a", None),
        ({"RuntimeError: out of memory": 3}, "", None),
    ],
)
def test_advice_fits_what_is_wrong(reasons: dict[str, int], text: str, cause: Cause | None) -> None:
    outcome = EvaluationOutcome(photograph="p", arm="candidate", status="unparsable", text=text)
    samples = EvaluationSamples(outcomes=(outcome,), training=(LATIN,))
    assert invalid_answers_cause(reasons, samples) == cause
    steps = FORMAT_COMPLIANCE.advice(FAIL, GateMeasurements(), GateRecipe(), cause)
    assert steps == [FORMAT_COMPLIANCE.steps_by_cause[cause] if cause else FORMAT_COMPLIANCE.next_steps[FAIL]]
