"""DoRA by numbers: its layer against the rebuilt matrix, answers against training, files against mlx-vlm and PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.errors import BadAdapter
from mondrian_core.models.adapter_export import export_merged_model, export_mlx_adapter, export_peft_adapter
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.forward_pass import hidden_states, lm_head_logits
from mondrian_core.models.lora import lora_adapter, lora_layers
from mondrian_core.models.lora.adapter_inspection import inspect_adapter, relative_output_change
from mondrian_core.models.lora.adapter_switch import SwitchableLinear, SwitchableQuantizedLinear
from mondrian_core.models.lora.dora import DoRALinear, adapted_row_norms, dequantized_weight, squared_row_norms
from mondrian_core.models.prompt_encoding import encode_prompt
from mondrian_core.recipes import TrainRecipe
from tests.models.conftest import make_adapter, photograph

pytestmark = pytest.mark.mini
IN, OUT, RANK, SCALE = 128, 96, 4, 1.5
Q = "language_model.model.layers.0.self_attn.q_proj"


def linear_of(bits: int | None, bias: bool, kind: mx.Dtype = mx.float32) -> nn.Module:
    """A linear layer of fixed numbers, packed or not."""
    mx.random.seed(3)
    layer = nn.Linear(IN, OUT, bias=bias)
    if bias:
        layer.bias = mx.random.normal((OUT,))  # larger than what the layer gives: scaling it would be seen
    layer.set_dtype(kind)
    layer = nn.QuantizedLinear.from_linear(layer, 64, bits) if bits else layer
    layer.freeze()
    return layer


def dora_on(linear: nn.Module, dropout: float = 0.0) -> DoRALinear:
    """A layer that training has moved in A, B and m."""
    mx.random.seed(4)
    layer = DoRALinear(linear, 0.1 * mx.random.normal((IN, RANK)), mx.zeros((RANK, OUT)), SCALE, dropout)
    layer.lora_b = 0.1 * mx.random.normal((RANK, OUT))
    layer.m = layer.m * mx.random.uniform(0.8, 1.2, (OUT,))
    return layer


def trained(layer: DoRALinear) -> dict[str, mx.array]:
    """A, B and m."""
    return dict(tree_flatten(layer.trainable_parameters()))


def explicit(layer: DoRALinear, arrays: dict[str, mx.array], x: mx.array) -> mx.array:
    """The paper's equation with the matrix built, the norm held constant for the gradient."""
    moved = dequantized_weight(layer.linear) + layer.scale * (arrays["lora_a"] @ arrays["lora_b"]).T
    weight = (arrays["m"] / mx.stop_gradient(mx.linalg.norm(moved, axis=1)))[:, None] * moved
    found = x @ weight.T
    return found + layer.linear["bias"] if "bias" in layer.linear else found


KINDS = [(None, False), (None, True), (4, False), (4, True), (8, True)]


@pytest.mark.parametrize(("bits", "bias"), KINDS)
def test_dora_matches_the_explicit_matrix(bits: int | None, bias: bool) -> None:
    layer = dora_on(linear_of(bits, bias))
    x, weights = mx.random.normal((2, 7, IN)), mx.random.normal((2, 7, OUT))
    arrays = trained(layer)
    assert arrays.keys() == {"lora_a", "lora_b", "m"}

    def ours(given: dict[str, mx.array], x: mx.array) -> mx.array:
        layer.update(given)
        return mx.sum(weights * mx.tanh(layer(x)))

    def theirs(given: dict[str, mx.array], x: mx.array) -> mx.array:
        return mx.sum(weights * mx.tanh(explicit(layer, given, x)))

    np.testing.assert_allclose(np.array(layer(x)), np.array(explicit(layer, arrays, x)), atol=2e-5)
    mine, mine_x = mx.grad(ours, argnums=(0, 1))(arrays, x)
    wanted, wanted_x = mx.grad(theirs, argnums=(0, 1))(arrays, x)
    for name in arrays:
        assert float(mx.max(mx.abs(wanted[name]))) > 0.1
        np.testing.assert_allclose(np.array(mine[name]), np.array(wanted[name]), rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(np.array(mine_x), np.array(wanted_x), rtol=1e-4, atol=1e-4)


def test_dora_norm_has_no_gradient() -> None:
    """With the norm followed the gradient of B is another one; so the comparison above could have failed."""
    layer = dora_on(linear_of(None, False))
    x = mx.random.normal((5, IN))
    arrays = trained(layer)

    def followed(given: dict[str, mx.array]) -> mx.array:
        moved = layer.linear.weight + layer.scale * (given["lora_a"] @ given["lora_b"]).T
        return mx.sum(mx.square(x @ ((given["m"] / mx.linalg.norm(moved, axis=1))[:, None] * moved).T))

    held = mx.grad(lambda given: mx.sum(mx.square(explicit(layer, given, x))))(arrays)["lora_b"]
    assert float(mx.max(mx.abs(mx.grad(followed)(arrays)["lora_b"] - held))) > 0.1


@pytest.mark.parametrize(
    ("bits", "kind", "close"),
    [
        (None, mx.float32, 1e-6),
        (4, mx.float32, 1e-6),
        (8, mx.float32, 1e-6),
        (None, mx.bfloat16, 1e-3),
        (4, mx.bfloat16, 2e-4),
    ],
)
def test_row_norms_match_the_explicit_matrix(bits: int | None, kind: mx.Dtype, close: float) -> None:
    layer = dora_on(linear_of(bits, True, kind))
    moved = dequantized_weight(layer.linear) + SCALE * (layer.lora_a @ layer.lora_b).T
    found = adapted_row_norms(layer.linear, squared_row_norms(layer.linear), layer.lora_a, layer.lora_b, SCALE)
    wanted = np.linalg.norm(np.array(moved, dtype=np.float64), axis=1)
    np.testing.assert_allclose(np.array(found), wanted, rtol=close)
    moved_by = np.abs(wanted / np.sqrt(np.array(squared_row_norms(layer.linear))) - 1)
    assert moved_by.max() > 50 * close  # what the adapter does to the norms isn't rounding


@pytest.mark.parametrize(("bits", "bias"), KINDS)
def test_fresh_dora_layer_gives_base_output(bits: int | None, bias: bool) -> None:
    linear = linear_of(bits, bias)
    x = mx.random.normal((5, IN))
    fresh = DoRALinear(linear, mx.random.normal((IN, RANK)), mx.zeros((RANK, OUT)), SCALE, 0.0)
    np.testing.assert_allclose(np.array(fresh(x)), np.array(linear(x)), atol=1e-6)


def test_zero_row_is_not_divided_by_zero() -> None:
    linear = nn.Linear(IN, OUT, bias=False)
    linear.weight = mx.zeros((OUT, IN))
    layer = DoRALinear(linear, mx.random.normal((IN, RANK)), mx.zeros((RANK, OUT)), SCALE, 0.0)
    np.testing.assert_array_equal(np.array(layer(mx.ones((2, IN)))), np.zeros((2, OUT)))


@pytest.mark.parametrize(
    ("bits", "bias", "kind", "close"),
    [
        (None, True, mx.float32, 2e-5),
        (4, True, mx.float32, 2e-5),
        (8, False, mx.float32, 2e-5),
        (4, True, mx.bfloat16, 0.06),
        (None, True, mx.bfloat16, 0.06),
    ],
)
def test_switchable_layer_matches_training_layer(bits: int | None, bias: bool, kind: mx.Dtype, close: float) -> None:
    layer = dora_on(linear_of(bits, bias, kind))
    x = mx.random.normal((6, IN)).astype(kind)
    wanted = explicit(layer, trained(layer), x.astype(mx.float32))
    factor = layer.m / adapted_row_norms(
        layer.linear, squared_row_norms(layer.linear), layer.lora_a, layer.lora_b, SCALE
    )
    switched = layer.linear
    switched.__class__ = SwitchableQuantizedLinear if bits else SwitchableLinear
    change = (layer.lora_a.astype(kind), (SCALE * factor * layer.lora_b).astype(kind), (factor - 1).astype(kind))
    object.__setattr__(switched, "delta", change)
    np.testing.assert_allclose(np.array(switched(x).astype(mx.float32)), np.array(wanted), atol=close)
    assert layer(x).dtype == switched(x).dtype == kind


# --- on mini ----------------------------------------------------------------------------------------------------------


def moved_dora(base: BaseVLM, folder: Path, *, seed: int = 0, **recipe: Any) -> Path:
    """A DoRA as training would leave it: B and the magnitudes moved."""
    make_adapter(base, folder, seed=seed, size=0.3, dora=True, **recipe)
    weights = load_file(folder / "adapters.safetensors")
    rng = np.random.default_rng(seed)
    for name in sorted(weights):
        if name.endswith(".m"):
            weights[name] = weights[name] * rng.uniform(0.8, 1.25, weights[name].shape).astype(np.float32)
    save_file(weights, folder / "adapters.safetensors")
    return folder


@pytest.fixture(scope="module")
def dora(base: BaseVLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound DoRA that changes the answers."""
    return moved_dora(base, tmp_path_factory.mktemp("dora"))


@pytest.fixture(scope="module", params=[4, 8])
def packed(base: BaseVLM, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseVLM:
    """mini in 4 and in 8 bit, from a folder as a hub has it."""
    return load_base(str(pack(base, tmp_path_factory.mktemp("packed") / "base", request.param)))


def pack(base: BaseVLM, folder: Path, bits: int) -> Path:
    """mini's folder with its language model's linears packed."""
    shutil.copytree(base.path, folder)
    other = load_base(str(folder))
    nn.quantize(other.language_model, 64, bits, class_predicate=lambda _, layer: isinstance(layer, nn.Linear))
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(other.model.parameters())), metadata={"format": "mlx"}
    )
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 64, "bits": bits}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits_of(base: BaseVLM, messages: Any, image: Any) -> np.ndarray:
    prompt = encode_prompt(base, messages, image)
    hidden = hidden_states(base, prompt.decoder_inputs)
    return np.array(lm_head_logits(base, hidden)[0].astype(mx.float32))


def attached_logits(base: BaseVLM, folder: Path, messages: Any, image: Any, **recipe: Any) -> np.ndarray:
    """Logits of the layers of training with the weights of a folder."""
    lora_layers.attach_lora(base, TrainRecipe(dora=True, **recipe), 0)
    try:
        base.model.load_weights(str(folder / "adapters.safetensors"), strict=False)
        base.model.eval()
        return logits_of(base, messages, image)
    finally:
        lora_layers.detach_lora(base)


def test_attaching_keeps_logits_and_detaching_restores_bits(base: BaseVLM, messages: Any, image: Any) -> None:
    alone = logits_of(base, messages, image)
    before = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}
    lora_layers.attach_lora(base, TrainRecipe(dora=True), 0)
    base.model.eval()
    try:
        assert sum(name.endswith(".m") for name in lora_layers.attached_parameters(base)) == 28
        np.testing.assert_allclose(logits_of(base, messages, image), alone, atol=1e-5)
    finally:
        lora_layers.detach_lora(base)
    after = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(logits_of(base, messages, image), alone)


def test_dora_answers_match_training_and_mlx_vlm(base: BaseVLM, dora: Path, messages: Any, image: Any) -> None:
    from mlx_vlm import load

    alone = logits_of(base, messages, image)
    trained = attached_logits(base, dora, messages, image)
    lora_layers.get_adapter_switch(base).use(dora)
    assert {len(change) for change in lora_layers.get_adapter_switch(base).deltas} == {1}
    np.testing.assert_allclose(logits_of(base, messages, image), trained, atol=2e-4)
    lora_layers.get_adapter_switch(base).use(None)
    np.testing.assert_array_equal(logits_of(base, messages, image), alone)
    assert np.abs(trained - alone).max() > 1.0
    model, processor = load(str(base.path), adapter_path=str(dora))
    plain = BaseVLM(
        name="plain",
        path=base.path,
        fingerprint=base.fingerprint,
        model=model,
        processor=processor,
        tokenizer=processor.tokenizer,
    )
    np.testing.assert_allclose(logits_of(plain, messages, image), trained, atol=2e-4)


def test_dora_on_packed_base_matches_training_and_mlx_vlm(
    packed: BaseVLM, messages: Any, image: Any, tmp_path: Path
) -> None:
    from mlx_vlm import load

    folder = moved_dora(packed, tmp_path / "dora")
    alone = logits_of(packed, messages, image)
    trained = attached_logits(packed, folder, messages, image)
    mounted = lora_layers.get_adapter_switch(packed)
    mounted.use(folder)
    assert {len(change) for change in mounted.deltas} == {3}
    np.testing.assert_allclose(logits_of(packed, messages, image), trained, atol=2e-4)
    mounted.use(None)
    np.testing.assert_array_equal(logits_of(packed, messages, image), alone)
    assert np.abs(trained - alone).max() > 1.0
    model, processor = load(str(packed.path), adapter_path=str(folder))
    model.set_dtype(mx.float32)
    plain = BaseVLM(
        name="plain",
        path=packed.path,
        fingerprint=packed.fingerprint,
        model=model,
        processor=processor,
        tokenizer=processor.tokenizer,
    )
    np.testing.assert_allclose(logits_of(plain, messages, image), trained, atol=5e-4)


def test_compiled_decoder_supports_dora_on_packed_base(
    packed: BaseVLM, messages: Any, image: Any, tmp_path: Path
) -> None:
    """Decoding token by token gives the log-probabilities of one pass, after a LoRA of the same modules was used."""
    from mondrian_core.models.inference.generation import generate

    lora = make_adapter(packed, tmp_path / "lora", size=0.3)
    folder = moved_dora(packed, tmp_path / "dora")
    mounted = lora_layers.get_adapter_switch(packed)
    told = []
    for each in (lora, folder, None):
        mounted.use(each)
        told.append(generate(packed, messages, image, max_tokens=12).tokens)
        prompt = encode_prompt(packed, messages, image)
        first = int(np.argmax(logits_of(packed, messages, image)[len(prompt.ids) - 1]))
        assert told[-1][0] == first
    mounted.use(folder)
    assert generate(packed, messages, image, max_tokens=12).tokens == told[1] != told[2]


def edited(source: Path, target: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> Path:
    shutil.copytree(source, target)
    weights = load_file(target / "adapters.safetensors")
    edit(weights)
    save_file(weights, target / "adapters.safetensors")
    return target


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda w: w.pop(f"{Q}.m"), "has no magnitude"),
        (lambda w: w.update({f"{Q}s.m": w[f"{Q}.m"]}), "a magnitude without a pair"),
        (lambda w: w.update({f"{Q}.m": w[f"{Q}.m"][:-1]}), "magnitude of shape"),
        (lambda w: w.update({f"{Q}.m": np.full_like(w[f"{Q}.m"], np.inf)}), "not finite"),
    ],
)
def test_invalid_dora_magnitude_is_rejected(base: BaseVLM, dora: Path, tmp_path: Path, edit: Any, problem: str) -> None:
    assert lora_layers.validate_adapter_folder(base, dora) == ()
    broken = edited(dora, tmp_path / "broken", edit)
    assert any(problem in found for found in lora_layers.validate_adapter_folder(base, broken))
    assert any(problem in found for found in inspect_adapter(broken, base.fingerprint, ["mini"]).problems)
    with pytest.raises(BadAdapter, match="can't be used"):
        lora_layers.get_adapter_switch(base).use(broken)


def test_magnitudes_in_plain_lora_are_unmatched_keys(base: BaseVLM, dora: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dora, tmp_path / "called-lora"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "fine_tune_type": "lora"}))
    assert any("belongs to no LoRA pair" in found for found in lora_layers.validate_adapter_folder(base, folder))


def test_magnitude_only_change_counts_as_effect(base: BaseVLM, dora: Path, tmp_path: Path) -> None:
    """B = 0 with other magnitudes changes the answers; with the base's own it does nothing."""

    def no_direction(weights: dict[str, np.ndarray]) -> None:
        weights.update({name: np.zeros_like(array) for name, array in weights.items() if name.endswith("lora_b")})

    lengths = edited(dora, tmp_path / "lengths", no_direction)
    seen = inspect_adapter(lengths, base.fingerprint, ["mini"])
    assert seen.problems == () and seen.change is not None and 0.05 < seen.change < 0.3
    fresh = make_adapter(base, tmp_path / "fresh", size=0.0, dora=True)
    assert any("changes nothing" in found for found in lora_layers.validate_adapter_folder(base, fresh))


def test_measured_change_matches_explicit_matrices(base: BaseVLM, dora: Path) -> None:
    found = lora_adapter.load_lora_adapter(dora)
    ratios = []
    for name in found.modules:
        weight = np.array(dict(base.model.named_modules())[name].weight)
        moved = weight + found.scale * (np.array(found.lora_a[name]) @ np.array(found.lora_b[name])).T
        changed = np.array(found.magnitude[name])[:, None] * moved / np.linalg.norm(moved, axis=1, keepdims=True)
        ratios.append(np.linalg.norm(changed - weight) / np.linalg.norm(weight))
    assert min(ratios) * 0.8 < relative_output_change(base, found) < max(ratios) * 1.2


def test_dora_round_trip(base: BaseVLM, dora: Path, tmp_path: Path) -> None:
    read = lora_adapter.load_lora_adapter(dora)
    assert read.dora and len(read.magnitude) == len(read.modules) == 28 and read.unmatched_keys == ()
    export_mlx_adapter(dora, tmp_path / "mlx")
    again = lora_adapter.load_lora_adapter(tmp_path / "mlx")
    for name in read.modules:
        np.testing.assert_array_equal(np.array(again.magnitude[name]), np.array(read.magnitude[name]))


def test_dora_peft_round_trip(base: BaseVLM, dora: Path, messages: Any, image: Any, tmp_path: Path) -> None:
    export_peft_adapter(base, dora, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["use_dora"] is True
    stored = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    theirs = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    np.testing.assert_array_equal(stored[theirs], np.array(lora_adapter.load_lora_adapter(dora).magnitude[Q]))
    mounted = lora_layers.get_adapter_switch(base)
    mounted.use(dora)
    ours = logits_of(base, messages, image)
    mounted.use(tmp_path / "peft")
    np.testing.assert_allclose(logits_of(base, messages, image), ours, atol=1e-5)


def test_merged_answers_as_base_with_dora(base: BaseVLM, dora: Path, messages: Any, tmp_path: Path) -> None:
    parity = export_merged_model(base, dora, tmp_path / "merged", [(messages, photograph(1))])
    assert (parity.photographs, parity.same_answers) == (1, 1)
    assert parity.log_probability_difference < 1e-3 and parity.delta_error < 1e-5


@pytest.mark.parametrize(
    ("recipe", "scale"),
    [({}, 2.0), ({"rslora": True}, 16 / 2.8284271247461903), ({"rank": 16, "alpha": 8, "rslora": True}, 2.0)],
)
def test_rslora_divides_by_square_root_of_rank(
    base: BaseVLM, tmp_path: Path, recipe: dict[str, Any], scale: float
) -> None:
    folder = make_adapter(base, tmp_path / "adapter", **recipe)
    assert lora_adapter.load_lora_adapter(folder).scale == pytest.approx(scale, rel=1e-12)
    assert json.loads((folder / "adapter_config.json").read_text())["fine_tune_type"] == "lora"
