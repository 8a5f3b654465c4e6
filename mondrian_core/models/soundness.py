"""Is an adapter sound for a base? Checked before it is used: the library itself skips wrong keys without a word."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mondrian_core.errors import BadAdapter
from mondrian_core.files import read_json
from mondrian_core.models import adapter_files
from mondrian_core.models.base import Base
from mondrian_core.models.dora import squared_rows


def linear_layers(base: Base) -> dict[str, nn.Module]:
    """The linear layers of the language model that may carry LoRA, by their name in the whole model."""
    return {
        name: module
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
        and name.startswith("language_model.")
        and not name.endswith("lm_head")
    }


def check(base: Base, folder: Path) -> tuple[str, ...]:
    """What is wrong with an adapter for this base; empty when it is sound.

    Looks for missing and unmatched keys, wrong shapes, values that are not finite, B all zero (a LoRA would do
    nothing), and a manifest that names another base, or another chat template, tokenizer or image processor of it.
    """
    try:
        adapter = adapter_files.read(folder)
    except BadAdapter as error:
        return (error.problem,)
    return (*problems(base, adapter), *_manifest_problems(base, folder))


def problems(base: Base, adapter: adapter_files.Adapter) -> tuple[str, ...]:
    """What is wrong with an adapter in memory for this base."""
    layers = linear_layers(base)
    found = [f"the key {key} belongs to no LoRA pair" for key in adapter.stray[:3]]
    halves = sorted(set(adapter.down) ^ set(adapter.up))
    found += [f"{name} has only one half of its pair" for name in halves[:3]]
    absent = [name for name in adapter.declared if name not in adapter.down and name not in adapter.up]
    found += [f"{name} is declared but has no weights" for name in absent[:3]]
    undeclared = [name for name in adapter.modules if adapter.declared and name not in adapter.declared]
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
    idle = not adapter.scale or all(not bool(mx.any(tensor != 0)) for tensor in adapter.up.values())
    if idle and not found and all(_keeps_lengths(layers[name], adapter, name) for name in adapter.modules):
        found.append("B is all zero, so it changes nothing")
    return tuple(found[:12])


def _keeps_lengths(layer: nn.Module, adapter: adapter_files.Adapter, name: str) -> bool:
    """True when the magnitudes are those of the base, or there are none."""
    if not adapter.dora:
        return True
    own = mx.sqrt(squared_rows(layer))
    return bool(mx.allclose(adapter.magnitude[name].astype(mx.float32), own, rtol=1e-5))


def _shape_problems(name: str, layer: nn.Module, adapter: adapter_files.Adapter) -> list[str]:
    inputs, outputs = dimensions(layer)
    down, up = adapter.down[name], adapter.up[name]
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


def dimensions(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, packed or not."""
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inputs = inputs * 32 // layer.bits
    return int(inputs), int(outputs)


def _manifest_problems(base: Base, folder: Path) -> list[str]:
    path = folder / "manifest.json"
    if not path.exists():
        return []
    try:
        trained_on = read_json(path).get("base")
    except (OSError, json.JSONDecodeError, AttributeError):
        return ["manifest.json can't be read"]
    return list(base.identity.differences(trained_on))
