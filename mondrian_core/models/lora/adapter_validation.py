"""Validate an adapter against a base before it is used: mlx-vlm ignores keys that don't match, without an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mondrian_core import lora_arrays
from mondrian_core.errors import BadAdapter
from mondrian_core.files import read_json
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.dora import squared_row_norms

_MAX_EXAMPLES, _MAX_PROBLEMS = 3, 12


def adaptable_linear_layers(base: BaseVLM) -> dict[str, nn.Module]:
    """The linear layers of the language model that may carry LoRA, by their names in the whole model."""
    return {
        name: module
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
        and name.startswith(base.family.language_model_prefix)
        and name.rpartition(".")[2] not in base.family.unadapted_modules
    }


def validate_adapter_folder(base: BaseVLM, folder: Path) -> tuple[str, ...]:
    """What is wrong with an adapter for this base; () if nothing is.

    Checks for missing and unmatched keys, wrong shapes, values that are not finite, B all zero (a LoRA would change
    nothing), and a manifest that names another base, or another chat template, tokenizer or image processor of it.
    """
    try:
        return validate_adapter_of_folder(base, lora_adapter.load_lora_adapter(folder), folder)
    except BadAdapter as error:
        return (error.problem,)


def validate_adapter_of_folder(base: BaseVLM, adapter: lora_adapter.LoraAdapter, folder: Path) -> tuple[str, ...]:
    """As `validate_adapter_folder`, for an adapter that was already read from the folder."""
    return (*validate_loaded_adapter(base, adapter), *_manifest_problems(base, folder))


def validate_loaded_adapter(base: BaseVLM, adapter: lora_adapter.LoraAdapter) -> tuple[str, ...]:
    """What is wrong with an adapter in memory for this base; () if nothing is."""
    layers = adaptable_linear_layers(base)
    problems = [f"the key {key} belongs to no LoRA pair" for key in adapter.unmatched_keys[:_MAX_EXAMPLES]]
    problems += _undeclared_problems(adapter)
    problems += lora_arrays.shape_problems(
        _shapes(adapter.lora_a),
        _shapes(adapter.lora_b),
        _shapes(adapter.magnitude) if adapter.dora else None,
        adapter.rank,
    )
    problems += [f"{name} is not a layer of the base" for name in adapter.modules if name not in layers]
    if problems or not adapter.modules:
        return tuple(problems[:_MAX_PROBLEMS])
    for name in adapter.modules:
        problems += _dimension_problems(name, layers[name], adapter)
    problems = problems or _infinite_problems(adapter)
    idle = not adapter.scale or all(not bool(mx.any(tensor != 0)) for tensor in adapter.lora_b.values())
    if idle and not problems and all(_keeps_base_magnitudes(layers[name], adapter, name) for name in adapter.modules):
        problems.append("B is all zero, so it changes nothing")
    return tuple(problems[:_MAX_PROBLEMS])


def _undeclared_problems(adapter: lora_adapter.LoraAdapter) -> list[str]:
    """Modules in the configuration alone or in the weights alone; a configuration may list none."""
    declared, held = adapter.declared_modules, {*adapter.lora_a, *adapter.lora_b}
    absent = [f"{name} is declared but has no weights" for name in declared if name not in held]
    extra = [f"{name} has weights but isn't declared" for name in adapter.modules if declared and name not in declared]
    return [*absent[:_MAX_EXAMPLES], *extra[:_MAX_EXAMPLES]]


def _shapes(arrays: Mapping[str, mx.array]) -> dict[str, Sequence[int]]:
    return {name: array.shape for name, array in arrays.items()}


def _keeps_base_magnitudes(layer: nn.Module, adapter: lora_adapter.LoraAdapter, name: str) -> bool:
    """True if the magnitudes are the base's row norms, or if there are none."""
    if not adapter.dora:
        return True
    own = mx.sqrt(squared_row_norms(layer))
    return bool(mx.allclose(adapter.magnitude[name].astype(mx.float32), own, rtol=1e-5))


def _dimension_problems(name: str, layer: nn.Module, adapter: lora_adapter.LoraAdapter) -> list[str]:
    """What is wrong with the shapes of one module's pair for the base's layer."""
    inputs, outputs = linear_dimensions(layer)
    lora_a, lora_b = adapter.lora_a[name], adapter.lora_b[name]
    if lora_a.shape[0] != inputs or lora_b.shape[1] != outputs:
        shapes, expected = (lora_a.shape, lora_b.shape), ((inputs, adapter.rank), (adapter.rank, outputs))
        return [f"{name} has shapes {shapes[0]} and {shapes[1]}, expected {expected[0]} and {expected[1]}"]
    return []


def _infinite_problems(adapter: lora_adapter.LoraAdapter) -> list[str]:
    """Modules with values that are not finite; all arrays in one evaluation, because each one waits for the device."""
    halves = [adapter.lora_a, adapter.lora_b, *([adapter.magnitude] if adapter.dora else [])]
    finite = mx.stack([mx.all(mx.isfinite(half[name])) for name in adapter.modules for half in halves])
    rows = np.array(finite).reshape(-1, len(halves))
    return [
        f"{name} has values that are not finite"
        for name, row in zip(adapter.modules, rows, strict=True)
        if not row.all()
    ]


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
