"""Adapters: refused when unsound, bypassed for the base, the same as the library's when used."""

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
from mondrian_core.errors import BadAdapter, BadRecipe
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import hidden_states
from mondrian_core.models.kl import log_probabilities
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import encode_prompt
from mondrian_core.recipes import TrainRecipe
from tests.models.conftest import make_adapter

pytestmark = pytest.mark.mini
Q = "language_model.model.layers.0.self_attn.q_proj"


def _logits(base: BaseVLM, messages: Any, image: Any) -> np.ndarray:
    prompt = encode_prompt(base, messages, image)
    hidden = hidden_states(base, prompt.decoder_inputs)
    return np.array(log_probabilities(base, hidden[0]))


def _edited(source: Path, target: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> Path:
    shutil.copytree(source, target)
    weights = load_file(target / "adapters.safetensors")
    edit(weights)
    save_file(weights, target / "adapters.safetensors")
    return target


def test_valid_adapter_has_no_problems(base: BaseVLM, adapter: Path) -> None:
    assert lora_layers.validate_adapter_folder(base, adapter) == ()


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda w: w.pop(f"{Q}.lora_b"), "only one half"),
        (lambda w: [w.pop(f"{Q}.lora_a"), w.pop(f"{Q}.lora_b")], "declared but has no weights"),
        (
            lambda w: w.update({f"{Q}s.lora_a": w[f"{Q}.lora_a"], f"{Q}s.lora_b": w[f"{Q}.lora_b"]}),
            "not a layer of the base",
        ),
        (lambda w: w.update({f"{Q}.lora_a": w[f"{Q}.lora_a"].T.copy()}), "shapes"),
        (lambda w: w.update({f"{Q}.lora_b": np.full_like(w[f"{Q}.lora_b"], np.nan)}), "not finite"),
        (lambda w: w.update({k: np.zeros_like(v) for k, v in w.items() if k.endswith("lora_b")}), "changes nothing"),
        (lambda w: w.update({"something.else": np.zeros(1, np.float32)}), "belongs to no LoRA pair"),
    ],
)
def test_invalid_adapter_is_rejected_with_reason(
    base: BaseVLM, adapter: Path, tmp_path: Path, edit: Any, problem: str
) -> None:
    broken = _edited(adapter, tmp_path / "broken", edit)
    assert any(problem in found for found in lora_layers.validate_adapter_folder(base, broken))
    with pytest.raises(BadAdapter, match="can't be used"):
        lora_layers.get_adapter_switch(base).use(broken)


def test_missing_and_damaged_files_are_problems(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    assert "missing" in lora_layers.validate_adapter_folder(base, tmp_path / "nowhere")[0]
    folder = Path(shutil.copytree(adapter, tmp_path / "cut"))
    (folder / "adapters.safetensors").write_bytes((folder / "adapters.safetensors").read_bytes()[:-100])
    assert "damaged" in lora_layers.validate_adapter_folder(base, folder)[0]


def test_adapter_of_another_base_is_rejected(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "other"))
    (folder / "manifest.json").write_text(json.dumps({"base": {"fingerprint": "0" * 64}}))
    assert "another base" in lora_layers.validate_adapter_folder(base, folder)[0]
    (folder / "manifest.json").write_text(json.dumps({"base": {"fingerprint": base.fingerprint}}))
    assert lora_layers.validate_adapter_folder(base, folder) == ()


def test_rejected_adapter_keeps_the_current_one(
    base: BaseVLM, adapter: Path, messages: Any, image: Any, tmp_path: Path
) -> None:
    mounted = lora_layers.get_adapter_switch(base)
    mounted.use(adapter)
    before = _logits(base, messages, image)
    with pytest.raises(BadAdapter):
        mounted.use(tmp_path)
    assert mounted.folder == adapter
    np.testing.assert_array_equal(_logits(base, messages, image), before)


def test_switch_without_adapter_equals_base_exactly(base: BaseVLM, adapter: Path, messages: Any, image: Any) -> None:
    mounted = lora_layers.get_adapter_switch(base)
    mounted.use(None)
    alone = _logits(base, messages, image)
    mounted.use(adapter)
    changed = _logits(base, messages, image)
    mounted.use(None)
    assert np.abs(changed - alone).max() > 1e-3
    np.testing.assert_array_equal(_logits(base, messages, image), alone)
    from mondrian_core.models.base_model import load_base

    np.testing.assert_array_equal(_logits(load_base("mini"), messages, image), alone)


def test_mounted_adapter_matches_training_layers(base: BaseVLM, adapter: Path, messages: Any, image: Any) -> None:
    from mlx_vlm import load

    lora_layers.get_adapter_switch(base).use(adapter)
    ours = _logits(base, messages, image)
    model, processor = load(str(base.path), adapter_path=str(adapter))
    plain = BaseVLM(
        name="plain",
        path=base.path,
        fingerprint=base.fingerprint,
        model=model,
        processor=processor,
        tokenizer=processor.tokenizer,
    )
    # W + A B is rounded once where x A B is added apart: about 1e-5 on logits of size 10
    np.testing.assert_allclose(ours, _logits(plain, messages, image), atol=1e-4)


def test_low_rank_sum_and_merged_product_agree(
    base: BaseVLM, adapter: Path, messages: Any, image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = lora_layers.get_adapter_switch(base)
    mounted.use(adapter)
    assert {len(change) for change in mounted.deltas} == {1}
    summed = _logits(base, messages, image)
    monkeypatch.setattr("mondrian_core.models.lora.adapter_switch._COPY_BYTES", 0)
    mounted.use(Path(shutil.copytree(adapter, tmp_path / "beside")))
    assert {len(change) for change in mounted.deltas} == {2}
    # float32 sums in two orders; which, also depends on what BLAS was used for before in this process
    np.testing.assert_allclose(_logits(base, messages, image), summed, atol=5e-5)


def test_adapter_switch_adds_no_parameters(base: BaseVLM, adapter: Path) -> None:
    names = [name for name, _ in tree_flatten(base.model.parameters())]
    lora_layers.get_adapter_switch(base).use(adapter)
    assert [name for name, _ in tree_flatten(base.model.parameters())] == names


def test_adapter_switch_takes_less_than_50_ms(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    import time

    other = make_adapter(base, tmp_path / "other", seed=5)
    mounted = lora_layers.get_adapter_switch(base)
    for folder in (adapter, other, None):
        mounted.use(folder)
    began = time.process_time()
    for folder in (adapter, other, None) * 4:
        mounted.use(folder)
    assert (time.process_time() - began) / 12 < 0.050


def test_a_rewritten_adapter_is_read_again(base: BaseVLM, messages: Any, image: Any, tmp_path: Path) -> None:
    mounted = lora_layers.get_adapter_switch(base)
    folder = make_adapter(base, tmp_path / "a", seed=1)
    mounted.use(folder)
    first = _logits(base, messages, image)
    make_adapter(base, folder, seed=2)
    mounted.use(folder)
    assert np.abs(_logits(base, messages, image) - first).max() > 1e-4


def test_first_use_reads_the_weights_once(
    base: BaseVLM, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request for an adapter waits for this."""
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    read: list[str] = []
    load = mx.load
    monkeypatch.setattr(mx, "load", lambda path, *rest: read.append(path) or load(path, *rest))
    mounted = lora_layers.get_adapter_switch(base)
    mounted.use(copy)
    mounted.use(None)
    assert len(read) == 1


def test_seed_determines_initialisation_and_detaching_restores(base: BaseVLM) -> None:
    names = [name for name, _ in tree_flatten(base.model.parameters())]

    def drawn(seed: int) -> dict[str, np.ndarray]:
        modules = lora_layers.attach_lora(base, TrainRecipe(), seed)
        assert len(modules) == 7 * len(base.language_model.model.layers)
        found = {name: np.array(array) for name, array in lora_layers.attached_parameters(base).items()}
        lora_layers.detach_lora(base)
        return found

    one, again, other = drawn(3), drawn(3), drawn(4)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    assert all(not array.any() for name, array in one.items() if name.endswith("lora_b"))
    assert [name for name, _ in tree_flatten(base.model.parameters())] == names


def test_unknown_target_module_is_bad_recipe(base: BaseVLM) -> None:
    with pytest.raises(BadRecipe, match="nonsense_proj"):
        lora_layers.attach_lora(base, TrainRecipe(target_modules=("nonsense_proj",)), 0)


def test_targets_are_linear_layers_of_the_language_model(base: BaseVLM) -> None:
    layers = len(base.language_model.model.layers)
    first = "language_model.model.layers.0.self_attn.q_proj"
    assert lora_layers.resolve_target_modules(base, [first]) == [first]
    assert len(lora_layers.resolve_target_modules(base, ["self_attn.q_proj"])) == layers
    assert len(lora_layers.resolve_target_modules(base, ["q_proj", first, "v_proj"])) == 2 * layers
    base.language_model.lm_head = nn.Linear(8, 8)  # as a base whose output layer is not that of its embedding
    try:
        for name in ("lm_head", "language_model.lm_head"):
            with pytest.raises(BadRecipe, match="lm_head"):
                lora_layers.resolve_target_modules(base, [name])
    finally:
        del base.language_model.lm_head


def test_all_layouts_give_the_same_answers(
    base: BaseVLM, adapter: Path, messages: Any, image: Any, tmp_path: Path
) -> None:
    mounted = lora_layers.get_adapter_switch(base)
    mounted.use(adapter)
    ours = _logits(base, messages, image)
    weights = load_file(adapter / "adapters.safetensors")
    older, peft = tmp_path / "older", tmp_path / "peft"
    older.mkdir()
    peft.mkdir()
    save_file(
        {k.replace(".lora_a", ".A").replace(".lora_b", ".B"): v for k, v in weights.items()},
        older / "adapters.safetensors",
    )
    (older / "adapter_config.json").write_text(json.dumps({"rank": 8, "alpha": 16, "dropout": 0.0}))
    turned = {}
    for name, array in weights.items():
        theirs = "base_model.model." + name.replace("language_model.model.", "model.language_model.")
        turned[theirs.replace(".lora_a", ".lora_A.weight").replace(".lora_b", ".lora_B.weight")] = array.T.copy()
    save_file(turned, peft / "adapter_model.safetensors")
    (peft / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16}))
    for folder in (older, peft):
        mounted.use(folder)
        np.testing.assert_array_equal(_logits(base, messages, image), ours)


def test_packed_base_supports_adapters(tmp_path: Path, messages: Any, image: Any) -> None:

    from mondrian_core.models.base_model import load_base

    packed = load_base("mini")
    nn.quantize(packed.model.language_model, group_size=32, bits=4)
    mx.eval(packed.model.parameters())
    folder = make_adapter(packed, tmp_path / "packed", size=0.3)
    assert json.loads((folder / "adapter_config.json").read_text())["base_quantization"]
    assert lora_layers.validate_adapter_folder(packed, folder) == ()
    mounted = lora_layers.get_adapter_switch(packed)
    alone = _logits(packed, messages, image)
    mounted.use(folder)
    assert {len(change) for change in mounted.deltas} == {2}
    assert np.abs(_logits(packed, messages, image) - alone).max() > 1e-3
    mounted.use(None)
    np.testing.assert_array_equal(_logits(packed, messages, image), alone)
