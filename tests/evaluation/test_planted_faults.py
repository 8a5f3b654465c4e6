"""Every fault is caught by the gate that is meant for it, and a sound adapter passes them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from mondrian_core.errors import BadAdapter
from mondrian_core.evaluation import EvaluationReport, LabelledPhotograph, TrainingProvenance

Run = Callable[..., EvaluationReport]


def sound(stand_in: ModuleType, **changes: object) -> object:
    """A base that is off by two points and an adapter that is off by one."""
    critics = {"base": stand_in.noisy(2.0), "candidate": stand_in.noisy(1.0), "live": stand_in.noisy(1.0)}
    return replace(stand_in.StandIn(critics=critics), **changes)


def verdicts(report: EvaluationReport) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in report.gates}


def test_sound_adapter_passes_every_gate(run: Run, stand_in: ModuleType) -> None:
    report = run(sound(stand_in))
    assert verdicts(report) == dict.fromkeys(
        ("integrity", "effect", "format_compliance", "latency_overhead", "score_error", "champion", "health"), "PASS"
    )
    assert report.verdict == "PASS"


def test_base_against_itself_never_passes(run: Run, stand_in: ModuleType) -> None:
    same = stand_in.noisy(2.0)

    def critic(truth: object, rng: object) -> object:
        return same(truth, stand_in.np.random.default_rng(int(truth.sum() * 20)))

    report = run(replace(sound(stand_in), critics={"base": critic, "candidate": critic}, nats=0.0))
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
def test_planted_fault_fails_its_gate(run: Run, stand_in: ModuleType, changes: dict[str, object], gate: str) -> None:
    report = run(sound(stand_in, **changes))
    assert (verdicts(report)[gate], report.verdict) == ("FAIL", "FAIL")


def test_always_eight_is_a_collapse_even_where_it_beats_the_base(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    model.critics |= {"base": stand_in.always(0.5), "candidate": stand_in.always(8)}
    report = run(model)
    parts = {part.name: part.verdict for part in report.gate("health").parts}
    assert report.gate("score_error").verdict == "PASS"  # this gate alone would let it through
    assert parts["mode_collapse"] == parts["photograph_dependence"] == "FAIL"
    assert report.verdict == "FAIL"


def test_image_blind_adapter_fails(run: Run, stand_in: ModuleType) -> None:
    """Trained without photographs: plausible, varied scores around the advisor's mean, whatever is in the picture."""
    model = sound(stand_in)
    model.critics |= {"base": stand_in.noisy(6.0), "candidate": lambda truth, rng: 5 + rng.normal(0, 1.2, 8)}
    report = run(model)
    dependence = next(part for part in report.gate("health").parts if part.name == "photograph_dependence")
    assert report.gate("score_error").verdict == "PASS"
    assert dependence.verdict != "PASS"
    assert report.verdict != "PASS"


def looking(share: float, stand_in: ModuleType) -> object:
    """A critic that goes by the photograph to this share and by the advisor's mean for the rest."""
    return lambda truth, rng: share * truth + (1 - share) * 5 + rng.normal(0, 0.8, 8)


def dependence_of(report: EvaluationReport) -> object:
    return next(part for part in report.gate("health").parts if part.name == "photograph_dependence")


def test_partial_loss_of_image_dependence_fails(run: Run, stand_in: ModuleType) -> None:
    """Seen on mini: trained with every critique beside another photograph, it went on looking half as much."""
    model = sound(stand_in)
    model.critics |= {"base": stand_in.noisy(1.0), "candidate": looking(0.35, stand_in)}
    found = dependence_of(run(model))
    assert found.verdict == "FAIL"
    assert found.observed <= 0.05  # exchanging photographs alone would have passed it
    assert "less on the photograph than the base" in found.sentence


def test_calibration_is_not_loss_of_image_dependence(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    model.critics |= {"base": stand_in.noisy(2.0), "candidate": looking(0.8, stand_in)}
    assert dependence_of(run(model)).verdict == "PASS"


def test_image_blind_base_sets_no_dependence_requirement(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    model.critics |= {"base": stand_in.always(5), "candidate": stand_in.noisy(1.5)}
    assert dependence_of(run(model)).verdict == "PASS"


def test_other_advisors_style_fails_score_gate(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    model.critics["candidate"] = lambda truth, rng: 10 - truth
    assert verdicts(run(model))["score_error"] == "FAIL"


def test_photograph_in_train_and_test_fails_health_gate(run: Run, stand_in: ModuleType) -> None:
    report = run(sound(stand_in), trained=TrainingProvenance(photo_ids=frozenset({"photo-03", "other"})))
    assert verdicts(report)["health"] == "FAIL"
    assert "photo-03" in report.gate("health").sentence


def test_unknown_training_set_is_not_taken_for_clean(run: Run, stand_in: ModuleType) -> None:
    assert verdicts(run(sound(stand_in), trained=None))["health"] == "INCONCLUSIVE"


def test_damaged_files_stop_before_anything_is_asked(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    report = run(model, problems=("2 LoRA keys match nothing in the base",))
    assert (report.gate("integrity").verdict, report.verdict) == ("FAIL", "FAIL")
    assert {arm for arm, _ in model.asked} == {"base"}
    assert "2 LoRA keys" in report.gate("integrity").sentence


def test_adapter_that_the_model_refuses_is_an_integrity_failure(run: Run, stand_in: ModuleType) -> None:
    class Refusing(stand_in.StandIn):
        def use(self, adapter: object) -> None:
            if adapter is not None:
                raise BadAdapter("Values that are not finite.", "")

    report = run(Refusing(critics={"base": stand_in.noisy(2.0)}))
    assert (report.gate("integrity").verdict, report.gate("integrity").sentence) == (
        "FAIL",
        "Values that are not finite.",
    )


def test_candidate_worse_than_champion_fails(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    model.critics |= {"live": stand_in.noisy(0.3)}
    report = run(model, champion="live")
    assert verdicts(report)["champion"] == "FAIL"
    assert verdicts(report)["score_error"] == "PASS"


def test_one_dimension_ruined_fails_against_the_champion(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)

    def ruined(truth: object, rng: object) -> object:
        scores = stand_in.noisy(0.8)(truth, rng)
        scores[2] = 10 - truth[2] + 2
        return scores

    model.critics |= {"candidate": ruined}
    gate = run(model, champion="live").gate("champion")
    assert gate.verdict == "FAIL"
    assert next(part for part in gate.parts if part.name == "focus_sharpness").verdict == "FAIL"


def test_candidate_better_than_champion_passes(run: Run, stand_in: ModuleType) -> None:
    model = sound(stand_in)
    model.critics |= {"live": stand_in.noisy(1.8)}
    assert verdicts(run(model, champion="live"))["champion"] == "PASS"


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_too_few_photographs_never_pass(
    run: Run, stand_in: ModuleType, labelled: list[LabelledPhotograph], count: int
) -> None:
    model = sound(stand_in)
    model.critics["candidate"] = stand_in.noisy(0.01)
    report = run(model, labelled[:count], trained=TrainingProvenance())
    assert report.gate("score_error").verdict == "INCONCLUSIVE"
    assert report.verdict == "INCONCLUSIVE"


def test_skipping_hard_photographs_does_not_help(run: Run, stand_in: ModuleType) -> None:
    """Unreadable answers of the candidate get the worst legal error, and those of the base don't count for it."""
    model = sound(stand_in)

    class Silent(stand_in.StandIn):
        def answer(self, image: object, **options: object) -> object:
            said = super().answer(image, **options)
            silent = self.arm == "candidate" and self.asked[-1][1] % 3 == 0 and not options.get("exact_tokens")
            return replace(said, text="I would rather not.", expected_scores={}) if silent else said

    honest = run(model).metrics["against_base"]
    silent = run(Silent(critics=model.critics), out="silent").metrics["against_base"]
    assert (silent["n"], silent["penalised"]) == (20, 7)
    assert silent["error_ours"] > honest["error_ours"] + 10


def test_repetitive_text_fails_despite_correct_scores(run: Run, stand_in: ModuleType) -> None:
    """Seen on a real adapter: half the error of the base, and "I would would would" in 57 of 60 critiques."""

    class Stuttering(stand_in.StandIn):
        def answer(self, image: object, **options: object) -> object:
            said = super().answer(image, **options)
            return replace(said, text=said.text.replace("Stern light", "I would would would"))

    report = run(Stuttering(critics=sound(stand_in).critics))
    assert report.gate("score_error").verdict == "PASS"
    assert (report.gate("health").verdict, report.verdict) == ("FAIL", "FAIL")
    assert "three times in a row" in report.gate("health").sentence
