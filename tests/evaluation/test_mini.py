"""The fake model's protocol with the real implementation: mini, a real adapter, real clocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mondrian_core.evaluation import (
    CandidateInfo,
    EvaluationInputs,
    EvaluationReport,
    LabelledPhotograph,
    TrainingProvenance,
    evaluate_adapter,
)
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.recipes import TrainRecipe, recipe_from_values
from mondrian_core.rubric import canonical_answer

pytestmark = [pytest.mark.mini, pytest.mark.soak, pytest.mark.timeout(600)]
RECIPE = recipe_from_values(
    {
        "evaluate": {
            "compliance_photographs": 3,
            "latency_pairs": 3,
            "latency_tokens": 16,
            "effect_photographs": 1,
            "max_tokens": 400,
            "edited_photographs": 1,
            "constrained_photographs": 1,
        }
    }
)


def test_evaluation_with_mini_model(tmp_path: Path) -> None:
    """An untrained adapter (B is zero) must be refused; with B set it is asked, timed and evaluated."""
    import mlx.core as mx

    from mondrian_core.mini import scene_critic
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.lora import lora_layers

    base = load_base("mini")
    lora_layers.attach_lora(base, TrainRecipe(), 0)
    fresh = lora_layers.attached_parameters(base)
    moved = {name: mx.random.normal(value.shape) * 0.02 if "lora_b" in name else value for name, value in fresh.items()}
    lora_layers.save_attached_adapter(base, tmp_path / "zero", fresh)
    lora_layers.save_attached_adapter(base, tmp_path / "moved", moved)
    lora_layers.detach_lora(base)
    rng = np.random.default_rng(0)
    labelled = []
    for number in range(2):
        scene = sample_scene(rng)
        critique = scene_critic.write_scene_critique(scene, scene_critic.ANSEL, rng)
        labelled.append(
            LabelledPhotograph(
                photograph=f"scene-{number}",
                image=render_scene(scene),
                scores=critique.scores,
                critique=canonical_answer(critique),
            )
        )
    more = [render_scene(sample_scene(rng)) for _ in range(2)]

    def judged(name: str) -> EvaluationReport:
        return evaluate_adapter(
            base,
            EvaluationInputs(
                adapter=tmp_path / name,
                labelled=labelled,
                unlabelled=more,
                prompt=AdvisorPrompt("ansel", "Ansel Adams"),
                recipe=RECIPE,
                out=tmp_path / "run",
                info=CandidateInfo(trained=TrainingProvenance(), cache=tmp_path / "cache"),
            ),
        )

    zero = judged("zero")
    assert (zero.gate("integrity").verdict, zero.verdict) == ("FAIL", "FAIL")
    report = judged("moved")
    assert report.gate("integrity").verdict == "PASS"
    effect = report.gate("effect").observed
    assert effect is not None and effect > 0
    assert report.gate("latency_overhead").n in (3, 6, 12)
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    base_outcomes = [outcome for outcome in samples.outcomes if outcome.arm == "base"]
    assert all(outcome.kept for outcome in base_outcomes)  # generated once, in the first evaluation
    assert {outcome.arm for outcome in samples.outcomes} == {"base", "candidate"}
    assert all(set(outcome.expected_scores) == set(outcome.scores) for outcome in samples.outcomes if outcome.readable)
    read = {(each.photograph, each.arm): each.nats for each in samples.comment_likelihoods}
    assert set(read) == {(f"scene-{number}", arm) for number in range(2) for arm in ("base", "candidate")}
    assert all(nats[name] < other for (name, _), nats in read.items() for key, other in nats.items() if key != name)
    assert report.verdict != "PASS"
