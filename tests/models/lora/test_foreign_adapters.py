"""An adapter's folder means the same wherever it is read: used directly, or taken into the registry and used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.errors import BadAdapter
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_adapter, lora_layers
from mondrian_core.models.lora.adapter_validation import adaptable_linear_layers, linear_dimensions
from mondrian_core.registry import Registry
from mondrian_core.registry.validation import array_problems

pytestmark = pytest.mark.mini

MODULES = {"self_attn.q_proj": 4, "self_attn.k_proj": 4, "mlp.up_proj": 4}
Edit = Callable[[Path], None]


def ours(module: str) -> str:
    return f"language_model.model.layers.0.{module}"


def peft(base: BaseVLM, folder: Path, ranks: dict[str, int] | None = None, **config: Any) -> Path:
    """A PEFT adapter that fits mini."""
    folder.mkdir()
    layers, rng, arrays = adaptable_linear_layers(base), np.random.default_rng(4), {}
    for module, rank in {**MODULES, **(ranks or {})}.items():
        inputs, outputs = linear_dimensions(layers[ours(module)])
        name = f"base_model.model.model.language_model.layers.0.{module}"
        arrays[f"{name}.lora_A.weight"] = rng.normal(size=(rank, inputs)).astype(np.float32)
        arrays[f"{name}.lora_B.weight"] = rng.normal(size=(outputs, rank)).astype(np.float32)
    save_file(arrays, folder / "adapter_model.safetensors")
    usual = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 6,
        "lora_dropout": 0.1,
        "bias": "none",
        "peft_version": "0.18",
        "megatron_core": "megatron.core",
        "qalora_group_size": 16,
        "init_lora_weights": True,
        "use_dora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps({**usual, **config}))
    return folder


def native(folder: Path, values: Any, **config: Any) -> Path:
    """An adapter in mlx-vlm's layout (`values` None: in its older one)."""
    folder.mkdir()
    rng, ends = np.random.default_rng(4), (".A", ".B") if values is None else (".lora_a", ".lora_b")
    save_file(
        {f"{ours('self_attn.q_proj')}{end}": rng.normal(size=(4, 4)).astype(np.float32) for end in ends},
        folder / "adapters.safetensors",
    )
    told = config if values is None else {"lora_parameters": values, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def products(folder: Path) -> dict[str, np.ndarray]:
    found = lora_adapter.load_lora_adapter(folder)
    return {name: found.scale * np.array(found.lora_a[name]) @ np.array(found.lora_b[name]) for name in found.modules}


HONOURED: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "plain": ({}, {}),
    "rslora": ({}, {"use_rslora": True}),
    "alpha by module": ({}, {"alpha_pattern": {"q_proj": 3, r"layers\.0\.mlp\.up_proj": 12}}),
    "rank by module": ({"mlp.up_proj": 2, "self_attn.k_proj": 8}, {"rank_pattern": {"up_proj": 2, "k_proj": 8}}),
    "both, rslora": (
        {"mlp.up_proj": 2},
        {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"up_proj": 1}, "use_rslora": True},
    ),
    "eva": ({}, {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}),
    "gaussian": ({}, {"init_lora_weights": "gaussian"}),
    "some layers": ({}, {"layers_to_transform": [0], "layers_pattern": "layers", "exclude_modules": "x"}),
    "fan_in_fan_out": ({}, {"fan_in_fan_out": True}),
    "nothing more": ({}, {"modules_to_save": [], "bias": None, "layer_replication": None, "loftq_config": {}}),
}


@pytest.mark.parametrize("name", HONOURED)
def test_direct_use_supports_what_import_supports(base: BaseVLM, tmp_path: Path, name: str) -> None:
    ranks, config = HONOURED[name]
    folder = peft(base, tmp_path / "peft", ranks, **config)
    assert lora_layers.validate_adapter_folder(base, folder) == ()
    assert array_problems(folder) == ()
    taken = Registry(tmp_path / "registry").import_from("ansel", folder, actor="a").path
    found, expected = products(folder), products(taken)
    assert found.keys() == expected.keys() and len(found) == len(MODULES)
    for module in found:
        np.testing.assert_allclose(found[module], expected[module], rtol=1e-5, atol=1e-5)
    stored, values = load_file(folder / "adapter_model.safetensors"), {**{"use_rslora": False}, **config}
    a, b = (
        stored[f"base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_{half}.weight"] for half in "AB"
    )
    alpha = values.get("alpha_pattern", {}).get("q_proj", 6)
    expected_q = alpha / (2 if values["use_rslora"] else 4) * a.T @ b.T
    np.testing.assert_allclose(found[ours("self_attn.q_proj")], expected_q, rtol=1e-4, atol=1e-5)


def test_changed_scale_is_noticed_with_same_weights(base: BaseVLM, tmp_path: Path) -> None:
    """What was read is kept for the next use, under a name that covers the configuration too."""
    folder, mounted = peft(base, tmp_path / "peft"), lora_layers.get_adapter_switch(base)

    def change() -> np.ndarray:
        mounted.use(folder)
        place = mounted.adapted_modules.index(ours("self_attn.q_proj"))
        return np.array(mounted.deltas[place][0]) - np.array(
            adaptable_linear_layers(base)[ours("self_attn.q_proj")].weight
        )

    once, path = change(), folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 12}))
    np.testing.assert_allclose(change(), 2 * once, rtol=1e-3, atol=1e-4)


REFUSED: dict[str, dict[str, Any]] = {
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "bias": {"bias": "lora_only"},
    "lora_bias": {"lora_bias": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter_16": {"init_lora_weights": "pissa_niter_16"},
    "olora": {"init_lora_weights": "olora"},
    "loftq": {"init_lora_weights": "loftq"},
    "corda": {"init_lora_weights": "corda"},
    "lora_ga": {"init_lora_weights": "lora_ga"},
    "layer_replication": {"layer_replication": [[0, 2]]},
    "target_parameters": {"target_parameters": ["experts.gate"]},
    "trainable_token_indices": {"trainable_token_indices": [5]},
    "alora_invocation_tokens": {"alora_invocation_tokens": [5]},
    "use_qalora": {"use_qalora": True},
    "use_something_new": {"use_something_new": True},
    "IA3": {"peft_type": "IA3"},
    "lora_alpha": {"lora_alpha": None},
    "'16'": {"lora_alpha": "16"},
    "nan": {"lora_alpha": float("nan")},
    "does nothing": {"lora_alpha": 0},
    "r in": {"r": 0},
    "names no r": {"r": None},
    "rank 4": {"r": 8},
    "alpha_pattern": {"alpha_pattern": {"(q_proj": 2}},
    "rank_pattern": {"rank_pattern": [2]},
    "no magnitude": {"use_dora": True},
}


def refusals(base: BaseVLM, folder: Path, registry: Path) -> list[str]:
    """What each reader says to a folder."""
    said = ["; ".join(lora_layers.validate_adapter_folder(base, folder))]
    for read in (
        lora_adapter.load_lora_adapter,
        lora_layers.get_adapter_switch(base).use,
        lambda path: Registry(registry).import_from("ansel", path, actor="a"),
    ):
        with pytest.raises(BadAdapter) as caught:
            read(folder)
        said.append(str(caught.value))
    return said


@pytest.mark.parametrize("named", REFUSED)
def test_direct_use_rejects_what_import_rejects(base: BaseVLM, tmp_path: Path, named: str) -> None:
    folder = peft(base, tmp_path / "peft", **REFUSED[named])
    assert all(named in said for said in refusals(base, folder, tmp_path / "registry"))
    assert named in "; ".join(array_problems(folder))


def test_missing_or_invalid_numbers_are_rejected(base: BaseVLM, tmp_path: Path) -> None:
    whole = {"rank": 4, "scale": 2.0, "keys": [ours("self_attn.q_proj")]}
    spoiled: list[tuple[Any, dict[str, Any], str]] = [
        ({**whole, "scale": None}, {}, "names no scale"),
        ({key: whole[key] for key in ("rank", "keys")}, {}, "names no scale"),
        ({key: whole[key] for key in ("scale", "keys")}, {}, "names no rank"),
        ({**whole, "scale": "2"}, {}, "scale"),
        ({**whole, "scale": True}, {}, "scale"),
        ({**whole, "scale": 10**400}, {}, "scale"),
        ({**whole, "rank": 1.5}, {}, "rank"),
        ({**whole, "keys": "q_proj"}, {}, "keys"),
        ([4], {}, "lora_parameters"),
        (whole, {"fine_tune_type": "full"}, "full"),
        (None, {"rank": 0, "alpha": 16}, "rank"),
        (None, {"rank": "8", "alpha": 16}, "rank"),
        (None, {"rank": 8, "alpha": None}, "alpha"),
        (None, {"rank": 8, "alpha": [1]}, "alpha"),
        (None, {"alpha": 16}, "doesn't describe a LoRA"),
        (None, {}, "doesn't describe a LoRA"),
    ]
    for number, (values, config, problem) in enumerate(spoiled):
        folder = native(tmp_path / str(number), values, **config)
        assert all(problem in said for said in refusals(base, folder, tmp_path / "registry")), (values, config)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000])
def test_configuration_must_be_an_object(base: BaseVLM, tmp_path: Path, content: bytes) -> None:
    folder = peft(base, tmp_path / "peft")
    (folder / "adapter_config.json").write_bytes(content)
    assert all("adapter_config.json" in said for said in refusals(base, folder, tmp_path / "registry"))


def twice(folder: Path) -> None:
    """Two adapters in one file."""
    path = folder / "adapter_model.safetensors"
    arrays = load_file(path)
    first = next(iter(arrays))
    half = "A" if "lora_A" in first else "B"
    save_file({**arrays, first.replace(f"lora_{half}.", f"lora_{half}.other."): arrays[first]}, path)


def embedding(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(
        {**load_file(path), "base_model.model.model.embed_tokens.lora_embedding_A": np.ones((4, 4), np.float32)}, path
    )


def whole_numbers(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: array.astype(np.int32) for name, array in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (twice, "two adapters"),
        (embedding, "not half"),
        (whole_numbers, "not a float"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "can't be read"),
    ],
)
def test_arrays_outside_lora_are_rejected(base: BaseVLM, tmp_path: Path, spoil: Edit, problem: str) -> None:
    folder = peft(base, tmp_path / "peft")
    spoil(folder)
    assert all(problem in said for said in refusals(base, folder, tmp_path / "registry"))
