"""What is predicted from sizes alone is what a step takes, for every family, width, precision and kind of adapter.

The bases have random weights and no tokenizer: memory depends on shapes only.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.gradient_pass import SEGMENTS_FROM_WIDTH
from mondrian_core.models.inference.decoding import make_decoder
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.model_memory import (
    ModelSize,
    ServingLoad,
    configured_model_size,
    loaded_model_size,
    predict_serving_memory,
)
from mondrian_core.models.prompt_encoding import EncodedPrompt
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.memory import TrainingLoad, predict_training_memory
from mondrian_core.training.optimizer import apply_optimizer_step, make_optimizer
from tests.skeleton_bases import SkeletonShape, skeleton_configuration

pytestmark = pytest.mark.mini
TOKENS, ANSWER = 256, 32
WIDE = {"hidden_size": 1024, "intermediate_size": 2048}  # its layers are computed in segments


def configuration(family: str, *, bits: int = 16, vocabulary: int = 512, **text: Any) -> dict[str, Any]:
    """config.json of a small base with some of the published one's numbers replaced."""
    found = skeleton_configuration(SkeletonShape(family=family, size="tiny", layers=text.pop("layers", 2)))
    values = {"hidden_size": 256, "intermediate_size": 512, "vocab_size": vocabulary, **text}
    found.get("text_config", found).update(values)
    found["vision_config"] |= {"depth": 1, "out_hidden_size": values["hidden_size"]}
    if family == "qwen2_vl":
        found["vision_config"]["hidden_size"] = values["hidden_size"]
    if family == "qwen3_vl":
        found["vision_config"]["deepstack_visual_indexes"] = [0]
    if bits < 16:
        found["quantization"] = {"group_size": 64, "bits": bits}
    return found


def random_base(configured: dict[str, Any], folder: Path, item_bytes: int) -> BaseVLM:
    """A base with random weights in 2 or 4 bytes; the language model is packed if its configuration says so."""
    from mlx_vlm.utils import get_model_and_args, update_module_configs

    (folder / "config.json").write_text(json.dumps(configured))
    values = json.loads((folder / "config.json").read_text())
    library, _ = get_model_and_args(values)
    values.setdefault("text_config", {})
    model = library.Model(
        update_module_configs(library.ModelConfig.from_dict(values), library, values, ["text", "vision"])
    )
    kind = mx.bfloat16 if item_bytes == 2 else mx.float32
    model.set_dtype(kind)
    if "quantization" in configured:
        nn.quantize(model.language_model, **configured["quantization"])
    model.freeze()
    model.eval()
    mx.eval(model.parameters())
    return BaseVLM(name="random", path=folder, fingerprint="", model=model, processor=None, tokenizer=None)


@contextmanager
def peak_of(measured: list[int]) -> Iterator[None]:
    """Append MLX's peak memory inside the block, beyond what was held before."""
    gc.collect()
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    yield
    measured.append(int(mx.get_peak_memory()) - held)


def batch_of(size: ModelSize, tokens: int, answer: int) -> dict[str, Any]:
    kind = mx.bfloat16 if size.item_bytes == 2 else mx.float32
    return {
        "embeddings": mx.random.normal((1, tokens, size.width)).astype(kind),
        "positions": mx.broadcast_to(mx.arange(tokens, dtype=mx.int32), (3, 1, tokens)),
        "image_index": mx.zeros((0,), dtype=mx.int32),
        "deepstack": [],
        "places": mx.arange(tokens - answer, tokens, dtype=mx.int32),
        "targets": mx.zeros((answer,), dtype=mx.int32),
        "weights": mx.full((answer,), 1.0 / answer),
    }


def step_peak(base: BaseVLM, size: ModelSize, recipe: TrainRecipe, **how: Any) -> int:
    """Bytes that a whole optimizer step takes beyond the base, measured."""
    tokens, answer, rows = how.get("tokens", TOKENS), how.get("answer", ANSWER), how.get("rows", 1)
    measured: list[int] = []
    with peak_of(measured):
        lora_layers.attach_lora(base, recipe, 0)
        base.model.train()
        step = GradientStep(base, compiled=False, threads=rows, checkpointing=how.get("checkpointing", False))
        trainable = base.model.trainable_parameters()
        optimizer = make_optimizer(recipe, trainable)
        mx.eval(optimizer.state)
        batches = [batch_of(size, tokens, answer) for _ in range(recipe.accumulation)]
        _, gradient = step.loss_and_grad(trainable, batches)
        updated = apply_optimizer_step(optimizer, trainable, gradient, 1e-4, 1.0)
        mx.eval(updated)
    step.close()
    lora_layers.detach_lora(base)
    return measured[0]


def predicted(size: ModelSize, recipe: TrainRecipe, **how: Any) -> int:
    load = TrainingLoad(tokens=how.get("tokens", TOKENS), answer_tokens=how.get("answer", ANSWER), image_tokens=0)
    memory = predict_training_memory(
        size, recipe, load, checkpointing=how.get("checkpointing", False), rows_at_once=how.get("rows", 1)
    )
    return memory.adapter + memory.step


# wide enough for segments that the backward pass computes again
WIDE = {"hidden_size": SEGMENTS_FROM_WIDTH, "intermediate_size": 2048, "num_attention_heads": 8}
CASES: list[tuple[str, dict[str, Any], int, dict[str, Any], dict[str, Any]]] = [
    ("qwen3_vl", {}, 4, {}, {}),
    ("qwen3_vl", {"bits": 4}, 4, {}, {}),
    ("qwen3_vl", {}, 2, {}, {}),
    ("qwen3_vl", {"bits": 4}, 2, {}, {}),
    ("qwen2_vl", {}, 4, {}, {}),
    ("qwen2_5_vl", {"bits": 4}, 4, {}, {}),
    ("qwen3_vl", {"intermediate_size": 1536}, 4, {}, {}),
    ("qwen3_vl", {"hidden_size": 512}, 4, {}, {}),
    ("qwen3_vl", {"num_attention_heads": 8}, 4, {}, {}),
    ("qwen3_vl", {}, 4, {}, {"tokens": 512}),
    ("qwen3_vl", {}, 4, {"rank": 64}, {}),
    ("qwen3_vl", {}, 4, {"dora": True}, {}),
    ("qwen3_vl", {}, 4, {"dropout": 0.1}, {}),
    ("qwen3_vl", {}, 4, {"target_modules": ("q_proj", "v_proj")}, {}),
    ("qwen3_vl", {}, 4, {"accumulation": 4}, {}),
    ("qwen3_vl", {"layers": 8}, 4, {}, {"checkpointing": True}),
    ("qwen3_vl", {"layers": 8}, 4, {"accumulation": 2}, {"rows": 2}),
    ("qwen3_vl", {"vocabulary": 151936, "layers": 1}, 4, {}, {"answer": 96}),
    ("qwen3_vl", {**WIDE, "layers": 3}, 4, {}, {}),
    ("qwen3_vl", {**WIDE, "layers": 3}, 2, {}, {}),
    ("qwen3_vl", WIDE, 4, {"accumulation": 2}, {"rows": 2}),
    ("qwen3_vl", {**WIDE, "layers": 5}, 4, {}, {"checkpointing": True}),
]


@pytest.mark.parametrize(
    ("family", "shape", "item_bytes", "settings", "how"),
    CASES,
    ids=[f"{case[0]} {case[2]} bytes {case[1] | case[3] | case[4] or ''}" for case in CASES],
)
def test_predicted_peak_is_what_a_step_takes(
    tmp_path: Path,
    family: str,
    shape: dict[str, Any],
    item_bytes: int,
    settings: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """At most 15 % too little, and at most 35 % too much."""
    configured = configuration(family, **{"layers": 4, **shape})
    base = random_base(configured, tmp_path, item_bytes)
    size = configured_model_size(configured, item_bytes)
    recipe = TrainRecipe(**{"accumulation": 1, "learning_rate": 1e-4, **settings})
    share = predicted(size, recipe, **how) / step_peak(base, size, recipe, **how)
    assert 0.85 < share < 1.35, f"predicted / measured: {share:.2f}"


def prompt_of(size: ModelSize, tokens: int) -> EncodedPrompt:
    """A prompt of noise without a photograph."""
    places = mx.arange(tokens, dtype=mx.int32)
    prompt = EncodedPrompt(
        ids=tuple(range(tokens)),
        embeddings=mx.random.normal((1, tokens, size.width)),
        image_index=mx.zeros((0,), dtype=mx.int32),
        deepstack=(),
        positions=mx.broadcast_to(places, (3, 1, tokens)),
        next_position=tokens,
    )
    mx.eval(prompt.embeddings, prompt.positions, prompt.image_index)
    return prompt


@pytest.mark.parametrize(
    ("family", "shape", "tokens"),
    [
        ("qwen3_vl", {}, 512),
        ("qwen3_vl", {}, 1024),
        ("qwen3_vl", {"num_attention_heads": 16, "bits": 4}, 512),
        ("qwen2_vl", {"intermediate_size": 2048}, 512),
    ],
)
def test_predicted_serving_memory_is_what_an_answer_takes(
    tmp_path: Path, family: str, shape: dict[str, Any], tokens: int
) -> None:
    """Prefill, then the longest answer's cache: never more than 10 % too little, and at most 40 % too much."""
    configured = configuration(family, **{"layers": 6, **shape})
    base, size = random_base(configured, tmp_path, 4), configured_model_size(configured, 4)
    memory = predict_serving_memory(size, ServingLoad(text_tokens=tokens, image_tokens=0, answer_tokens=300))
    prompt, decoder, prefilled, decoded = prompt_of(size, tokens), make_decoder(base), list[int](), list[int]()
    inputs = tokens * size.width * size.item_bytes
    gc.collect()
    held = mx.get_active_memory() - inputs
    with peak_of(prefilled):
        mx.eval(decoder.start(prompt))
    kept = mx.get_active_memory() - held
    with peak_of(decoded):
        for _ in range(0, 300, 16):
            mx.eval(decoder.extend([1] * 16))
    assert 0.8 < memory.prefill / (prefilled[0] + inputs) < 1.4
    assert 0.8 < memory.decoding / (decoded[0] + kept) < 1.4


def test_weights_are_known_without_reading_them() -> None:
    """mini's and a published size's; nothing is allocated for it."""
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    large = configured_model_size(skeleton_configuration(SkeletonShape(size="8b", bits=16)), 2)
    assert large.weight_bytes == pytest.approx(17.5e9, rel=0.02), "8.77 thousand million parameters in 2 bytes"
    assert mx.get_peak_memory() - held < 1e6
    mini = load_base("mini")
    loaded = sum(array.nbytes for _, array in tree_flatten(mini.model.parameters()))
    assert loaded_model_size(mini).weight_bytes == loaded
    assert configured_model_size(mini.configuration) == loaded_model_size(mini)
