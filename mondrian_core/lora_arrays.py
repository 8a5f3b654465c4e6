"""Arrays of adapter files without mlx: read them, group them by module, check their shapes.

Shapes: A (in, r), B (r, out), magnitudes (out,).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadAdapter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

KEY_SUFFIXES = {"mlx": (".lora_a", ".lora_b"), "older": (".A", ".B")}  # of A (in, r) and B (r, out), by layout
MAGNITUDE_SUFFIX = ".m"
_MAX_EXAMPLES = 3  # modules named for one kind of problem
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
RESTORE_ADVICE = "Restore the file, or train again."


def module_arrays(
    keys: Iterable[str], layouts: Iterable[str] = tuple(KEY_SUFFIXES)
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Keys of A, of B and of the magnitudes by module, in an adapters.safetensors of one of these layouts."""
    halves: tuple[dict[str, str], dict[str, str], dict[str, str]] = ({}, {}, {})
    suffixes = [(*KEY_SUFFIXES[layout], MAGNITUDE_SUFFIX) for layout in layouts]
    for key in keys:
        for ends in suffixes:
            for half, end in zip(halves, ends, strict=True):
                if key.endswith(end):
                    half[key.removesuffix(end)] = key
    return halves


def shape_problems(
    lora_a: Mapping[str, Sequence[int]],
    lora_b: Mapping[str, Sequence[int]],
    magnitude: Mapping[str, Sequence[int]] | None,
    rank: int | None,
) -> list[str]:
    """What is wrong with the shapes of an adapter's arrays, whatever its base; [] if nothing is.

    Args:
        lora_a: shape of A, (in, r), by module.
        lora_b: shape of B, (r, out), by module.
        magnitude: shape of a DoRA's magnitudes, (out,), by module; None for a LoRA.
        rank: r as the configuration states it; None if it states none.
    """
    pairs = [name for name in lora_a if name in lora_b]
    problems = [f"{name} has only one half of its pair" for name in sorted(set(lora_a) ^ set(lora_b))[:_MAX_EXAMPLES]]
    if not pairs:
        return [*problems, "it holds no LoRA weights"]
    wrong = [name for name in pairs if not _is_pair(lora_a[name], lora_b[name], rank)]
    for name in wrong[:_MAX_EXAMPLES]:
        shapes = f"{tuple(lora_a[name])} and {tuple(lora_b[name])}"
        problems.append(f"{name} has shapes {shapes}, which don't fit each other or rank {rank}")
    if magnitude is None:
        return problems
    alone = sorted(set(magnitude) - set(pairs))[:_MAX_EXAMPLES]
    problems += [f"{name} has a magnitude without a pair" for name in alone]
    problems += [f"{name} has no magnitude" for name in pairs if name not in magnitude][:_MAX_EXAMPLES]
    unequal = [name for name in pairs if name in magnitude and tuple(magnitude[name]) != (lora_b[name][-1],)]
    for name in unequal[:_MAX_EXAMPLES]:
        problems.append(f"{name} has a magnitude of shape {tuple(magnitude[name])}, expected {(lora_b[name][-1],)}")
    return problems


def _is_pair(lora_a: Sequence[int], lora_b: Sequence[int], rank: int | None) -> bool:
    if len(lora_a) != 2 or len(lora_b) != 2 or lora_a[1] != lora_b[0]:
        return False
    return rank is None or lora_a[1] == rank


def read_safetensors(weights: Path) -> dict[str, Mapping[str, Any]]:
    """ "shape", "dtype" and "data" (bytes) of every array in a safetensors file, by name. Nothing is unpickled.

    Raises:
        ValueError: it isn't a safetensors file.
    """
    from safetensors import SafetensorError, deserialize

    try:
        return {name: entry for name, entry in deserialize(weights.read_bytes()) if name != "__metadata__"}
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def read_float32_tensors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file as float32; bfloat16 has no numpy type and is widened bit by bit.

    Raises:
        BadAdapter: the file is missing or damaged, or holds other types than floats.
    """
    import numpy as np

    try:
        found = read_safetensors(path)
    except FileNotFoundError:
        raise BadAdapter(f"The adapter's weights {path} are missing.", RESTORE_ADVICE) from None
    except (OSError, ValueError) as error:
        raise BadAdapter(f"{path} can't be read: {error}.", RESTORE_ADVICE) from None
    arrays: dict[str, Array] = {}
    for name, entry in found.items():
        if entry["dtype"] not in _DTYPES:
            raise BadAdapter(f"{name} in {path} is {entry['dtype']}, not a float.", "Export the adapter in float32.")
        raw = np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        wide = (raw.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else raw.astype(np.float32)
        arrays[name] = wide
    return arrays
