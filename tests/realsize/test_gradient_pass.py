"""The gradient's forward pass in every family: segments, the last layer at the answer alone, logits in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mondrian_core.training  # noqa: F401  (before mlx)  # isort: skip
import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mondrian_core.models import gradient_pass
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.forward_pass import DecoderInputs, hidden_states, lm_head_logits
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import gradient_step
from mondrian_core.training.gradient_step import GradientStep, cross_entropy

TOKENS, ANSWER, IMAGE = 18, 6, 8
PIECE = 4  # tokens whose logits are there at the same time: the answer needs two pieces

pytestmark = pytest.mark.mini


@pytest.mark.parametrize(
    ("shape", "dora"),
    [
        ({"family": "qwen3_vl", "bits": 4}, False),
        ({"family": "qwen3_vl", "bits": 16}, True),
        ({"family": "qwen2_vl", "bits": 16}, False),
        ({"family": "qwen2_5_vl", "bits": 4, "tied": False}, False),
    ],
)
def test_loss_and_gradient_are_those_of_the_plain_formula(
    skeleton: Callable[..., Path], shape: dict[str, Any], dora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against every logit of the unchanged layers: the loss to 1e-5, the gradient to 1 % of its length (16 bit)."""
    base = load_base(str(skeleton(**shape)))
    lora_layers.attach_lora(base, TrainRecipe(rank=4, alpha=8.0, dora=dora), seed=0)
    base.model.train()
    trainable, batch = base.model.trainable_parameters(), _batch(base)
    monkeypatch.setattr(gradient_pass, "SEGMENTS_FROM_WIDTH", 0)
    monkeypatch.setattr(gradient_step, "_LOGITS_AT_ONCE", 0)
    monkeypatch.setattr(gradient_step, "_SMALLEST_PIECE", PIECE)
    loss, gradient = GradientStep(base, compiled=False, threads=1).loss_and_grad(trainable, [batch])

    def plain(parameters: Any) -> mx.array:
        base.model.update(parameters)
        inputs = DecoderInputs(batch["embeddings"], batch["positions"], batch["image_index"], batch["deepstack"])
        states = hidden_states(base, inputs)[0, batch["places"]]
        return mx.sum(cross_entropy(lm_head_logits(base, states), batch["targets"]) * batch["weights"])

    expected, slopes = mx.value_and_grad(plain)(trainable)
    found, wanted = dict(tree_flatten(gradient)), dict(tree_flatten(slopes))
    assert float(np.array(loss)) == pytest.approx(float(np.array(expected)), rel=1e-5)
    assert found.keys() == wanted.keys()
    for name, slope in wanted.items():
        difference = float(np.linalg.norm(np.array(found[name] - slope)))
        assert difference <= 0.01 * float(np.linalg.norm(np.array(slope))) + 1e-9, name


def _batch(base: BaseVLM) -> dict[str, Any]:
    """One row of noise, with image tokens and DeepStack in the families that have it."""
    draw, width = np.random.default_rng(2), base.hidden_size
    kind = base.language_model.model.norm.weight.dtype
    layers = 3 if base.family.name == "Qwen3-VL" else 0
    return {
        "embeddings": mx.array(draw.normal(size=(1, TOKENS, width))).astype(kind),
        "positions": mx.broadcast_to(mx.arange(TOKENS, dtype=mx.int32), (3, 1, TOKENS)),
        "image_index": mx.arange(3, 3 + IMAGE, dtype=mx.int32),
        "deepstack": [mx.array(draw.normal(size=(IMAGE, width))).astype(kind) for _ in range(layers)],
        "places": mx.arange(TOKENS - ANSWER - 1, TOKENS - 1, dtype=mx.int32),
        "targets": mx.array(draw.integers(0, base.language_model.args.vocab_size, ANSWER).astype(np.int32)),
        "weights": mx.array((draw.random(ANSWER) / ANSWER).astype(np.float32)),
    }
