"""Is a version still what was registered? Hashes against the manifest, and the LoRA arrays against their configuration.

Nothing is ever unpickled: weights are safetensors, read by that library alone. Whether the keys fit a base
model is checked by `mondrian_core.models`; its answer is passed to the registry as `problems`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondrian_core import lora_arrays, lora_files
from mondrian_core.errors import BadAdapter
from mondrian_core.files import file_sha256
from mondrian_core.lora_arrays import read_safetensors
from mondrian_core.registry.version import CONFIG, MANIFEST, AdapterVersion, weights_name

_MAX_EXAMPLES = 3  # examples named in one problem


def file_problems(version: AdapterVersion, recorded_sha256: str | None) -> tuple[str, ...]:
    """What differs from the manifest: missing, changed and unlisted files, or an edited manifest."""
    found: list[str] = []
    if recorded_sha256 and file_sha256(version.path / MANIFEST) != recorded_sha256:
        found.append(f"{MANIFEST} was changed after registration")
    for name, facts in version.manifest["files"].items():
        path = version.path / name
        try:
            size, expected = path.stat().st_size, facts["bytes"]
            if size != expected:
                found.append(f"{name} has {size} bytes instead of {expected}")
            elif file_sha256(path) != facts["sha256"]:
                found.append(f"{name} doesn't match its SHA-256")
        except FileNotFoundError:
            found.append(f"{name} is missing")
        except (OSError, KeyError, TypeError) as error:
            found.append(f"{name} can't be checked: {error}")
    listed = {MANIFEST, *version.manifest["files"]}
    there = sorted(path.name for path in version.path.iterdir() if not path.name.startswith("."))
    return (*found, *(f"{name} is not listed in {MANIFEST}" for name in there if name not in listed))


def array_problems(folder: Path) -> tuple[str, ...]:
    """What is wrong with the LoRA arrays: unreadable, not finite, unpaired, other rank than the configuration's."""
    weights = folder / weights_name(folder)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        if not isinstance(config, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        return (f"{CONFIG} can't be read: {error}",)
    try:
        arrays = read_safetensors(weights)
    except (OSError, ValueError) as error:
        return (f"{weights.name} can't be read: {error}",)
    found = [*_not_finite(arrays)]
    if "peft_type" in config:
        return (*found, *_peft_problems(folder))
    if config.get("fine_tune_type", "lora") != "full":
        lora_a, lora_b, magnitude = (
            {module: arrays[key]["shape"] for module, key in half.items()} for half in lora_arrays.module_arrays(arrays)
        )
        is_dora = config.get("fine_tune_type") == lora_files.DORA
        found += lora_arrays.shape_problems(lora_a, lora_b, magnitude if is_dora else None, _rank(config))
    return tuple(found)


def _peft_problems(folder: Path) -> tuple[str, ...]:
    """PEFT's ranks may differ by module, so this reports what an import would."""
    from mondrian_core.models.family import mlx_module_name

    try:
        lora_files.read_peft_matrices(folder, lora_files.describe_adapter(folder), mlx_module_name)
    except BadAdapter as error:
        return (error.problem,)
    return ()


def _rank(config: Mapping[str, Any]) -> int | None:
    rank = (config.get("lora_parameters") or {}).get("rank", config.get("rank"))
    return rank if isinstance(rank, int) else None


def _not_finite(arrays: Mapping[str, Mapping[str, Any]]) -> list[str]:
    import numpy as np

    # A float is NaN or infinite when all bits of its exponent are set; bfloat16 has no numpy type.
    exponents = {
        "F64": (np.uint64, 0x7FF0000000000000),
        "F32": (np.uint32, 0x7F800000),
        "F16": (np.uint16, 0x7C00),
        "BF16": (np.uint16, 0x7F80),
    }
    bad = []
    for name, array in arrays.items():
        if array["dtype"] not in exponents:
            bad.append(f"{name} ({array['dtype']})")
            continue
        kind, mask = exponents[array["dtype"]]
        bits = np.frombuffer(array["data"], dtype=kind)
        if bool(np.any((bits & kind(mask)) == kind(mask))):
            bad.append(name)
    return [f"values that are not finite floats: {_first_examples(bad)}"] if bad else []


def _first_examples(names: list[str]) -> str:
    more = len(names) - _MAX_EXAMPLES
    return ", ".join(names[:_MAX_EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def version_problems(version: AdapterVersion, recorded_sha256: str | None) -> tuple[str, ...]:
    """Everything that speaks against serving `version`; () is sound. A legacy version has no manifest to hold it to."""
    if not version.managed:
        return array_problems(version.path)
    if "files" not in version.manifest:
        return (f"{MANIFEST} is missing or damaged",)
    found = file_problems(version, recorded_sha256)
    return found or array_problems(version.path)
