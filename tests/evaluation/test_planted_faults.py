"""Each planted fault fails the gate that is responsible for it, and a sound adapter passes all gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mondrian_core.errors import BadAdapter
from mondrian_core.evaluation import EvaluationReport, LabelledPhotograph, TrainingProvenance
from mondrian_core.evaluation.gates.definitions import GATES
from mondrian_core.evaluation.gates.gate import Requirement
from mondrian_core.photograph_model import Question
from mondrian_core.recipes import Recipe

Run = Callable[..., EvaluationReport]


def sound(fake_model: Any, **changes: Any) -> Any:
    """A base with errors of two points and an adapter with errors of one point."""
    critics = {
        "base": fake_model.noisy_critic(2.0),
        "candidate": fake_model.noisy_critic(1.0),
        "live": fake_model.noisy_critic(1.0),
    }
    return replace(fake_model.FakeModel(critics=critics), **changes)


def verdicts(report: EvaluationReport) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in report.gates}


def test_sound_adapter_passes_every_gate(run: Run, fake_model: Any) -> None:
    report = run(sound(fake_model))
    required = {gate.name for gate in GATES if gate.required is not Requirement.IF_MEASURED}
    assert verdicts(report) == dict.fromkeys(required, "PASS")
    assert report.verdict == "PASS"


def test_base_against_itself_never_passes(run: Run, fake_model: Any) -> None:
    same = fake_model.noisy_critic(2.0)

    def critic(truth: Any, rng: Any) -> Any:
        return same(truth, fake_model.np.random.default_rng(int(truth.sum() * 20)))

    report = run(replace(sound(fake_model), critics={"base": critic, "candidate": critic}, nats=0.0))
    assert report.verdict == "FAIL"
    assert verdicts(report)["score_error"] == verdicts(report)["effect"] == "FAIL"
    assert report.gate("score_error").observed == 0


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"nats": 0.0}, "effect"),
        ({"nats": float("nan")}, "effect"),
        ({"cut": frozenset({"candidate"})}, "format_compliance"),
        ({"cut": frozenset({"candidate"})}, "health"),
        ({"slow": {"candidate": 1.3}}, "latency_overhead"),
    ],
)
def test_planted_fault_fails_its_gate(
    run: Run, fake_model: Any, complete_recipe: Recipe, changes: dict[str, object], gate: str
) -> None:
    report = run(sound(fake_model, **changes), recipe=complete_recipe)
    assert (verdicts(report)[gate], report.verdict) == ("FAIL", "FAIL")


def test_constant_score_is_a_collapse_even_if_it_beats_the_base(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics |= {"base": fake_model.constant_critic(0.5), "candidate": fake_model.constant_critic(8)}
    report = run(model)
    parts = {part.name: part.verdict for part in report.gate("health").parts}
    assert report.gate("score_error").verdict == "PASS"  # this gate alone would pass it
    assert parts["mode_collapse"] == parts["photograph_dependence"] == "FAIL"
    assert report.verdict == "FAIL"


def test_image_blind_adapter_fails(run: Run, fake_model: Any) -> None:
    """Trained without photographs: plausible, varied scores around the advisor's mean, independent of the image."""
    model = sound(fake_model)
    model.critics |= {
        "base": fake_model.noisy_critic(6.0),
        "candidate": lambda truth, rng: 5 + rng.normal(0, 1.2, len(truth)),
    }
    report = run(model)
    dependence = next(part for part in report.gate("health").parts if part.name == "photograph_dependence")
    assert report.gate("score_error").verdict == "PASS"
    assert dependence.verdict != "PASS"
    assert report.verdict != "PASS"


def image_dependent(share: float) -> Any:
    """A critic whose scores depend on the photograph to this share (0-1), and on the advisor's mean for the rest."""
    return lambda truth, rng: share * truth + (1 - share) * 5 + rng.normal(0, 0.8, len(truth))


def dependence_of(report: EvaluationReport) -> Any:
    return next(part for part in report.gate("health").parts if part.name == "photograph_dependence")


def test_partial_loss_of_image_dependence_fails(run: Run, fake_model: Any) -> None:
    """Observed with mini: trained with critiques of other photographs, it kept half of its image dependence."""
    model = sound(fake_model)
    model.critics |= {"base": fake_model.noisy_critic(1.0), "candidate": image_dependent(0.35)}
    found = dependence_of(run(model))
    assert found.verdict == "FAIL"
    assert found.observed <= 0.05  # the permutation test alone would have passed it
    assert "less on the photograph than the base" in found.sentence


def test_calibration_is_not_loss_of_image_dependence(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics |= {"base": fake_model.noisy_critic(2.0), "candidate": image_dependent(0.8)}
    assert dependence_of(run(model)).verdict == "PASS"


def test_image_blind_base_sets_no_dependence_requirement(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics |= {"base": fake_model.constant_critic(5), "candidate": fake_model.noisy_critic(1.5)}
    assert dependence_of(run(model)).verdict == "PASS"


def test_other_advisors_style_fails_score_gate(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics["candidate"] = lambda truth, rng: 10 - truth
    assert verdicts(run(model))["score_error"] == "FAIL"


def test_photograph_in_train_and_test_fails_health_gate(run: Run, fake_model: Any) -> None:
    report = run(sound(fake_model), trained=TrainingProvenance(photo_ids=frozenset({"photo-03", "other"})))
    assert verdicts(report)["health"] == "FAIL"
    assert "photo-03" in report.gate("health").sentence


def test_unknown_training_set_is_inconclusive(run: Run, fake_model: Any) -> None:
    assert verdicts(run(sound(fake_model), trained=None))["health"] == "INCONCLUSIVE"


def test_damaged_adapter_is_not_asked(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    report = run(model, problems=("2 LoRA keys match nothing in the base",))
    assert (report.gate("integrity").verdict, report.verdict) == ("FAIL", "FAIL")
    assert {arm for arm, _ in model.asked} == {"base"}
    assert "2 LoRA keys" in report.gate("integrity").sentence


def test_adapter_refused_by_model_fails_integrity(run: Run, fake_model: Any) -> None:
    class Refusing(fake_model.FakeModel):
        def use(self, adapter: Any) -> None:
            if adapter is not None:
                raise BadAdapter("Values that are not finite.", "")

    report = run(Refusing(critics={"base": fake_model.noisy_critic(2.0)}))
    assert (report.gate("integrity").verdict, report.gate("integrity").sentence) == (
        "FAIL",
        "Values that are not finite.",
    )


def test_candidate_worse_than_champion_fails(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics |= {"live": fake_model.noisy_critic(0.3)}
    report = run(model, champion="live")
    assert verdicts(report)["champion"] == "FAIL"
    assert verdicts(report)["score_error"] == "PASS"


def test_one_ruined_dimension_fails_the_champion_gate(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)

    def ruined(truth: Any, rng: Any) -> Any:
        scores = fake_model.noisy_critic(0.8)(truth, rng)
        scores[2] = 10 - truth[2] + 2
        return scores

    model.critics |= {"candidate": ruined}
    gate = run(model, champion="live").gate("champion")
    assert gate.verdict == "FAIL"
    assert next(part for part in gate.parts if part.name == "focus_sharpness").verdict == "FAIL"


def test_candidate_better_than_champion_passes(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics |= {"live": fake_model.noisy_critic(1.8)}
    assert verdicts(run(model, champion="live"))["champion"] == "PASS"


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_too_few_photographs_never_pass(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], count: int
) -> None:
    model = sound(fake_model)
    model.critics["candidate"] = fake_model.noisy_critic(0.01)
    report = run(model, labelled[:count], trained=TrainingProvenance())
    assert report.gate("score_error").verdict == "INCONCLUSIVE"
    assert report.verdict == "INCONCLUSIVE"


def test_skipping_hard_photographs_does_not_help(run: Run, fake_model: Any, complete_recipe: Recipe) -> None:
    """Unreadable answers of the candidate get the largest legal error; those of the base don't help it."""
    model = sound(fake_model)

    class Silent(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            answer = super().ask(question, **options)
            silent = self.arm == "candidate" and self.asked[-1][1] % 3 == 0 and not question.exact_tokens
            return replace(answer, text="I would rather not.", expected_scores={}) if silent else answer

    honest = run(model).metrics["against_base"]
    silent = run(Silent(critics=model.critics), out="silent", recipe=complete_recipe).metrics["against_base"]
    assert (silent["n"], silent["penalised"]) == (20, 7)
    assert silent["error_ours"] > honest["error_ours"] + 10


def test_repetitive_text_fails_despite_correct_scores(run: Run, fake_model: Any) -> None:
    """Observed with a real adapter: half the error of the base, and "I would would would" in 57 of 60 critiques."""

    class Repetitive(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            answer = super().ask(question, **options)
            return replace(answer, text=answer.text.replace("Stern light", "I would would would"))

    report = run(Repetitive(critics=sound(fake_model).critics))
    assert report.gate("score_error").verdict == "PASS"
    assert (report.gate("health").verdict, report.verdict) == ("FAIL", "FAIL")
    assert "three times in a row" in report.gate("health").sentence
