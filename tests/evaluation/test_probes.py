"""Probes: sampling, constrained decoding, retrieval, edited copies; and score probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.evaluation import EvaluationReport, LabelledPhotograph
from mondrian_core.evaluation.measure.runner import answer_seed
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import PortfolioComparison, PortfolioNeighbour
from mondrian_core.recipes import Recipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS

Run = Callable[..., EvaluationReport]


def with_settings(**settings: Any) -> Recipe:
    plain = {"compliance_photographs": 30, "edited_photographs": 0, "constrained_photographs": 0}
    return recipe_from_values({"evaluate": plain | settings})


def sound(fake_model: Any, kind: str = "FakeModel") -> Any:
    return getattr(fake_model, kind)(
        critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}
    )


def plain(request_options: list[dict[str, object]]) -> list[dict[str, object]]:
    """The options of all requests but the timed ones, which are always greedy."""
    return [manner for manner in request_options if "seed" in manner]


def test_greedy_default_ignores_seed(run: Run, fake_model: Any, tmp_path: Path) -> None:
    model = sound(fake_model)
    run(model, recipe=with_settings(), cache=tmp_path / "cache", out="one")
    assert {manner["temperature"] for manner in plain(model.request_options)} == {0.0}
    again = sound(fake_model)
    run(again, recipe=with_settings(seed=5), cache=tmp_path / "cache", out="two")
    assert {manner["arm"] for manner in plain(again.request_options)} == {"candidate"}  # base: cached


def test_sampling_seed_depends_on_photograph_not_arm(run: Run, fake_model: Any) -> None:
    first, second, other = sound(fake_model), sound(fake_model), sound(fake_model)
    run(first, recipe=with_settings(temperature=0.7, seed=1), out="first")
    run(second, recipe=with_settings(temperature=0.7, seed=1), out="second")
    run(other, recipe=with_settings(temperature=0.7, seed=2), out="other")
    assert plain(first.request_options) == plain(second.request_options)
    seeds = [manner["seed"] for manner in plain(first.request_options) if manner["arm"] == "base"]
    assert len(set(seeds)) == len(seeds) == 30
    assert seeds == [manner["seed"] for manner in plain(first.request_options) if manner["arm"] == "candidate"]
    assert not set(seeds) & {manner["seed"] for manner in plain(other.request_options)}
    assert answer_seed(1, "a") != answer_seed(1, "b")


def test_other_seed_invalidates_sampled_answers(run: Run, fake_model: Any, tmp_path: Path) -> None:
    for seed, out in ((1, "one"), (2, "two")):
        model = sound(fake_model)
        run(model, recipe=with_settings(temperature=0.7, seed=seed), cache=tmp_path / "cache", out=out)
        assert {manner["arm"] for manner in plain(model.request_options)} == {"base", "candidate"}


def test_constrained_answers_are_counted_separately(run: Run, fake_model: Any) -> None:
    class Careless(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            return said if question.constrained or question.exact_tokens else replace(said, text="Well, 7.")

    model = Careless(critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)})
    report = run(model, recipe=with_settings(constrained_photographs=5, stop_early=False))
    assert report.metrics["constrained"]["candidate"]["rate"] == 1.0
    assert report.metrics["constrained"]["candidate"]["asked"] == 5
    assert report.metrics["constrained"]["candidate"]["bounds"][0] == pytest.approx(0.05 ** (1 / 5))
    assert report.metrics["arms"]["candidate"]["format"]["rate"] == 0.0
    assert report.gate("format_compliance").verdict == "FAIL"  # only unconstrained answers count


def consult(scores: Mapping[str, float], photo_id: str) -> PortfolioComparison:
    neighbour = PortfolioNeighbour("other", dict.fromkeys(DIMENSIONS, 7.0), {"lighting": "Dark."})
    return PortfolioComparison(dict(scores), (neighbour,), dict.fromkeys(DIMENSIONS, (7.0, 5.0, 9.0)), 3)


def test_base_with_retrieval_is_a_baseline_not_an_arm(run: Run, fake_model: Any) -> None:
    class Helped(fake_model.FakeModel):
        critics: dict[str, Any]

        def ask(self, question: Question, **options: Any) -> Any:
            if not fake_model.has_comparison(question):
                return super().ask(question, **options)
            self.critics = {**self.critics, "base": fake_model.noisy_critic(0.1)}
            try:
                return super().ask(question, **options)
            finally:
                self.critics = {**self.critics, "base": fake_model.noisy_critic(2.0)}

    model = Helped(critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)})
    report = run(model, recipe=with_settings(), retrieval_lookup=consult)
    rival = report.metrics["rivals"]["base_rag"]
    assert rival["n"] == 20
    assert rival["mse"] < 0.1
    assert "base_rag" not in report.metrics["arms"]
    assert any("retrieval" in step for step in report.next_steps)
    asked = [manner["arm"] for manner in model.request_options if manner["comparison"]]
    assert asked == ["base"] * 20  # labelled photographs only, and never the adapter
    off = sound(fake_model)
    assert (
        "base_rag"
        not in run(off, recipe=with_settings(rag=False), retrieval_lookup=consult, out="off").metrics["rivals"]
    )


def test_retrieval_probe_stops_after_unreadable_answers(run: Run, fake_model: Any) -> None:
    class Lost(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            return replace(said, text="Well ...", expected_scores={}) if fake_model.has_comparison(question) else said

    model = Lost(critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)})
    report = run(model, recipe=with_settings(), retrieval_lookup=consult)
    assert sum(manner["comparison"] for manner in model.request_options) == 3
    assert "base_rag" not in report.metrics["rivals"]


def test_interrupted_probing_resumes_at_next_question(run: Run, fake_model: Any, tmp_path: Path) -> None:
    chosen = with_settings(edited_photographs=3, constrained_photographs=4)

    class Impatient(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            if len(self.asked) == 60 + 7:  # in the middle of the edited copies
                raise KeyboardInterrupt
            return super().ask(question, **options)

    with pytest.raises(KeyboardInterrupt):
        run(Impatient(critics=sound(fake_model).critics), recipe=chosen)
    second = sound(fake_model)
    run(second, recipe=chosen)
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    assert len(second.asked) == 3 * 4 * 2 + 4 * 2 - 7
    assert len(samples.edited) == 24
    assert len(samples.constrained) == 8


def test_score_log_probabilities_give_model_certainty(
    run: Run, fake_model: Any, tmp_path: Path, labelled: list[LabelledPhotograph]
) -> None:
    class Sure(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            chances = {}
            for name, score in said.expected_scores.items():
                row = [0.0] * 11
                row[min(10, round(score))] = 0.9
                chances[name] = tuple(row)
            return replace(said, score_chances=chances)

    report = run(
        Sure(critics={"base": fake_model.noisy_critic(3.0), "candidate": fake_model.noisy_critic(0.1)}),
        recipe=with_settings(),
    )
    outcome = load_evaluation_samples(tmp_path / "run" / "samples.jsonl").outcomes[0]
    logs = outcome.score_log_probabilities["composition"]
    assert len(logs) == 11 and max(logs) == pytest.approx(math.log(0.9), abs=1e-4)
    health = {arm: found["health"] for arm, found in report.metrics["arms"].items()}
    assert health["candidate"]["legal_mass"] == pytest.approx(0.9, abs=1e-3)
    assert health["candidate"]["coverage_80"] > 0.95
    assert health["base"]["coverage_80"] < 0.5  # overconfident


def test_report_has_written_and_expected_scores(run: Run, fake_model: Any) -> None:
    found = run(sound(fake_model), recipe=with_settings()).metrics["arms"]["candidate"]
    assert found["written_scores"]["n"] == found["scores"]["n"] == 20
    assert found["written_scores"]["mse"] != found["scores"]["mse"]  # the fake model writes rounded ones
    assert 0 < found["scores"]["rank_correlation"] <= 1


def test_minimum_detectable_effect_is_always_reported(run: Run, fake_model: Any) -> None:
    report = run(sound(fake_model), recipe=with_settings())
    assert report.gate("score_error").verdict == "PASS"
    wanted = f"usually show a reduction of {report.metrics['against_base']['detectable']:.0%} or more"
    assert wanted in report.gate("score_error").sentence
