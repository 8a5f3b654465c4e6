"""Verify a version: compare file hashes with the manifest, and LoRA arrays with their configuration.

Nothing is unpickled: weights are safetensors. `models.lora` checks whether arrays fit a base model; callers pass its
findings to the registry as `problems`. Shapes: A (in, r), B (r, out), with r the rank.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondrian_core import lora_files
from mondrian_core.errors import BadAdapter
from mondrian_core.files import file_sha256
from mondrian_core.lora_files import read_safetensors
from mondrian_core.registry.version import CONFIG, MANIFEST, AdapterVersion, weights_name

_RANK_AXES = (-1, -2)  # of A (in, r) and B (r, out)
_MAX_EXAMPLES = 3  # examples named in one problem


def file_problems(version: AdapterVersion, recorded_sha256: str | None) -> tuple[str, ...]:
    """Differences from the manifest: missing, changed and unlisted files, or an edited manifest."""
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
    """Problems of the LoRA arrays: unreadable, not finite, unpaired, or of another rank than configured."""
    weights = folder / weights_name(folder)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        if not isinstance(config, dict):
            raise ValueError("no object")
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
        shapes = {name: array["shape"] for name, array in arrays.items()}
        found += _shape_problems(shapes, _rank(config))
        if config.get("fine_tune_type") == "dora":
            found += _magnitude_problems(shapes)
    return tuple(found)


def _peft_problems(folder: Path) -> tuple[str, ...]:
    """The error of an import, if any: PEFT's ranks may differ by module."""
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

    # A float is inf or NaN when all bits of its exponent are set; bfloat16 has no numpy type.
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


def _shape_problems(shapes: Mapping[str, list[int]], rank: int | None) -> list[str]:
    pairs, unpaired = _pairs(shapes)
    wrong = []
    for first, second, axis, other_axis in pairs:
        a, b = shapes[first], shapes[second]
        if len(a) < 2 or len(b) < 2 or a[axis] != b[other_axis] or (rank is not None and a[axis] != rank):
            wrong.append(f"{first} {a} with {b}")
    found = []
    if unpaired:
        found.append(f"A without B, or B without A: {_first_examples(unpaired)}")
    if wrong:
        found.append(f"shapes that don't fit rank {rank}: {_first_examples(wrong)}")
    return found if pairs or found else ["no LoRA arrays"]


def _magnitude_problems(shapes: Mapping[str, list[int]]) -> list[str]:
    """B arrays without a magnitude for each of their outputs."""
    wrong = []
    for _, up, _, rank_axis in _pairs(shapes)[0]:
        end = next(end for _, end in lora_files.LORA_SUFFIXES.values() if up.endswith(end))
        name, outputs = up.removesuffix(end) + lora_files.MAGNITUDE_SUFFIX, shapes[up][-1 - rank_axis]
        if shapes.get(name) != [outputs]:
            wrong.append(f"{name} {shapes.get(name, 'missing')}")
    return [f"magnitudes that don't match their pair: {_first_examples(wrong)}"] if wrong else []


def _pairs(names: Mapping[str, Any]) -> tuple[list[tuple[str, str, int, int]], list[str]]:
    """(A, B, rank axis of A, rank axis of B) of every pair, and the arrays without a counterpart."""
    pairs, unpaired = [], []
    for name in names:
        for first, second in lora_files.LORA_SUFFIXES.values():
            if name.endswith(first):
                other = name.removesuffix(first) + second
                if other in names:
                    pairs.append((name, other, *_RANK_AXES))
                else:
                    unpaired.append(name)
            elif name.endswith(second) and name.removesuffix(second) + first not in names:
                unpaired.append(name)
    return pairs, unpaired


def _first_examples(names: list[str]) -> str:
    more = len(names) - _MAX_EXAMPLES
    return ", ".join(names[:_MAX_EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def version_problems(version: AdapterVersion, recorded_sha256: str | None) -> tuple[str, ...]:
    """All reasons not to serve a version; () when it is intact. A legacy version has no manifest to compare with."""
    if not version.managed:
        return array_problems(version.path)
    if "files" not in version.manifest:
        return (f"{MANIFEST} is missing or damaged",)
    found = file_problems(version, recorded_sha256)
    return found or array_problems(version.path)
