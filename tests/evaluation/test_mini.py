"""The stand-in's protocol against the real thing: mini, a real adapter, real clocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mondrian_core.evaluation import Known, Labelled, Report, Trained, evaluate
from mondrian_core.evaluation.samples import read_samples
from mondrian_core.prompts import Voice
from mondrian_core.recipes import TrainRecipe, recipe_of

pytestmark = [pytest.mark.mini, pytest.mark.soak, pytest.mark.timeout(600)]
RECIPE = recipe_of(
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


def test_real_model_behind_the_protocol(tmp_path: Path) -> None:
    """An adapter as it is before training (B is zero) must be refused; with B set it is asked, timed and judged."""
    import mlx.core as mx

    from mondrian_core.mini import critic, render
    from mondrian_core.models import adapters
    from mondrian_core.models.base import load_base

    base = load_base("mini")
    adapters.attach(base, TrainRecipe(), 0)
    fresh = adapters.parameters(base)
    moved = {name: mx.random.normal(value.shape) * 0.02 if "lora_b" in name else value for name, value in fresh.items()}
    adapters.save(base, tmp_path / "zero", fresh)
    adapters.save(base, tmp_path / "moved", moved)
    adapters.detach(base)
    rng = np.random.default_rng(0)
    labelled = []
    for number in range(2):
        scene = render.sample_scene(rng)
        scores = critic.write_critique(scene, critic.ANSEL, rng).scores
        labelled.append(Labelled(photograph=f"scene-{number}", image=render.render(scene), scores=scores))
    more = [render.render(render.sample_scene(rng)) for _ in range(2)]

    def judged(name: str) -> Report:
        return evaluate(
            base,
            tmp_path / name,
            labelled,
            more,
            Voice("ansel", "Ansel Adams"),
            RECIPE,
            tmp_path / "run",
            Known(trained=Trained(), cache=tmp_path / "cache"),
        )

    zero = judged("zero")
    assert (zero.gate("integrity").verdict, zero.verdict) == ("FAIL", "FAIL")
    report = judged("moved")
    assert report.gate("integrity").verdict == "PASS"
    assert report.gate("effect").observed > 0
    assert report.gate("latency_overhead").n in (3, 6, 12)
    samples = read_samples(tmp_path / "run" / "samples.jsonl")
    base_outcomes = [outcome for outcome in samples.outcomes if outcome.arm == "base"]
    assert all(outcome.kept for outcome in base_outcomes)  # asked for once, in the first evaluation
    assert {outcome.arm for outcome in samples.outcomes} == {"base", "candidate"}
    assert all(set(outcome.expected_scores) == set(outcome.scores) for outcome in samples.outcomes if outcome.readable)
    assert report.verdict != "PASS"
