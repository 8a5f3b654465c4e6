"""Is an adapter sound for a base? Checked before it is used: the library itself skips wrong keys without a word."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mondrian_core.errors import BadAdapter
from mondrian_core.files import read_json
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.dora import squared_row_norms


def adaptable_linear_layers(base: BaseVLM) -> dict[str, nn.Module]:
    """The linear layers of the language model that may carry LoRA, by their name in the whole model."""
    return {
        name: module
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
        and name.startswith(base.family.language_model_prefix)
        and name.rpartition(".")[2] not in base.family.unadapted_modules
    }


def validate_adapter_folder(base: BaseVLM, folder: Path) -> tuple[str, ...]:
    """What is wrong with an adapter for this base; empty when it is sound.

    Looks for missing and unmatched keys, wrong shapes, values that are not finite, B all zero (a LoRA would do
    nothing), and a manifest that names another base, or another chat template, tokenizer or image processor of it.
    """
    try:
        adapter = lora_adapter.load_lora_adapter(folder)
    except BadAdapter as error:
        return (error.problem,)
    return (*validate_loaded_adapter(base, adapter), *_manifest_problems(base, folder))


def validate_loaded_adapter(base: BaseVLM, adapter: lora_adapter.LoraAdapter) -> tuple[str, ...]:
    """What is wrong with an adapter in memory for this base."""
    layers = adaptable_linear_layers(base)
    found = [f"the key {key} belongs to no LoRA pair" for key in adapter.unmatched_keys[:3]]
    halves = sorted(set(adapter.lora_a) ^ set(adapter.lora_b))
    found += [f"{name} has only one half of its pair" for name in halves[:3]]
    absent = [name for name in adapter.declared_modules if name not in adapter.lora_a and name not in adapter.lora_b]
    found += [f"{name} is declared but has no weights" for name in absent[:3]]
    undeclared = [name for name in adapter.modules if adapter.declared_modules and name not in adapter.declared_modules]
    found += [f"{name} has weights but isn't declared" for name in undeclared[:3]]
    if not adapter.modules:
        return (*found, "it holds no LoRA weights")
    for name in adapter.modules:
        if name not in layers:
            found.append(f"{name} is no layer of the base")
            continue
        found += _shape_problems(name, layers[name], adapter)
    if adapter.dora:
        halved = sorted(set(adapter.magnitude) ^ set(adapter.modules))
        found += [f"{name} has a pair without a magnitude, or a magnitude without its pair" for name in halved[:3]]
    idle = not adapter.scale or all(not bool(mx.any(tensor != 0)) for tensor in adapter.lora_b.values())
    if idle and not found and all(_keeps_base_magnitudes(layers[name], adapter, name) for name in adapter.modules):
        found.append("B is all zero, so it changes nothing")
    return tuple(found[:12])


def _keeps_base_magnitudes(layer: nn.Module, adapter: lora_adapter.LoraAdapter, name: str) -> bool:
    """True when the magnitudes are those of the base, or there are none."""
    if not adapter.dora:
        return True
    own = mx.sqrt(squared_row_norms(layer))
    return bool(mx.allclose(adapter.magnitude[name].astype(mx.float32), own, rtol=1e-5))


def _shape_problems(name: str, layer: nn.Module, adapter: lora_adapter.LoraAdapter) -> list[str]:
    inputs, outputs = linear_dimensions(layer)
    down, up = adapter.lora_a[name], adapter.lora_b[name]
    if tuple(down.shape) != (inputs, adapter.rank) or tuple(up.shape) != (adapter.rank, outputs):
        return [
            f"{name} has shapes {tuple(down.shape)} and {tuple(up.shape)}, "
            f"expected {(inputs, adapter.rank)} and {(adapter.rank, outputs)}"
        ]
    lengths = adapter.magnitude.get(name, mx.zeros(outputs))
    if tuple(lengths.shape) != (outputs,):
        return [f"{name} has a magnitude of shape {tuple(lengths.shape)}, expected {(outputs,)}"]
    if not all(bool(mx.all(mx.isfinite(tensor))) for tensor in (down, up, lengths)):
        return [f"{name} has values that are not finite"]
    return []


def linear_dimensions(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, packed or not."""
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inputs = inputs * 32 // layer.bits
    return int(inputs), int(outputs)


def _manifest_problems(base: BaseVLM, folder: Path) -> list[str]:
    path = folder / "manifest.json"
    if not path.exists():
        return []
    try:
        trained_on = read_json(path).get("base")
    except (OSError, json.JSONDecodeError, AttributeError):
        return ["manifest.json can't be read"]
    return list(base.identity.differences(trained_on))
