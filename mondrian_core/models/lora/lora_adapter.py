"""Load an adapter's files into one form for the model, whatever its layout (see `lora_files`).

A DoRA also has a magnitude (out,) for each module: `.m` with `fine_tune_type` "dora", or PEFT's
`.lora_magnitude_vector` with `use_dora`.

Shapes: A (in, r), B (r, out).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import mlx.core as mx

from mondrian_core import lora_arrays, lora_files
from mondrian_core.errors import BadAdapter
from mondrian_core.lora_files import ADAPTER_WEIGHTS_FILE, DORA, PEFT_WEIGHTS_FILE, LoraDescription
from mondrian_core.models.family import mlx_module_name

__all__ = [
    "ADAPTER_CONFIG_FILE",
    "ADAPTER_WEIGHTS_FILE",
    "DORA",
    "PEFT_WEIGHTS_FILE",
    "LoraAdapter",
    "load_lora_adapter",
]

ADAPTER_CONFIG_FILE = lora_files.ADAPTER_CONFIG_FILE


@dataclass(frozen=True, eq=False, kw_only=True)
class LoraAdapter:
    """An adapter in memory.

    Attributes:
        layout: "mlx", "older" or "peft".
        rank: r.
        scale: factor of the product A B.
        dropout: dropout of its training, 0-1.
        lora_a: A by module name, (in, r).
        lora_b: B by module name, (r, out).
        declared_modules: modules that the configuration names; () if it names none.
        unmatched_keys: keys of the weights file that belong to no module.
        dora: True if the configuration says that it is a DoRA.
        magnitude: m by module name, (out,); {} unless it is a DoRA.
    """

    layout: str
    rank: int
    scale: float
    dropout: float
    lora_a: dict[str, mx.array]
    lora_b: dict[str, mx.array]
    declared_modules: tuple[str, ...]
    unmatched_keys: tuple[str, ...]
    dora: bool = False
    magnitude: dict[str, mx.array] = field(default_factory=dict)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules with both halves."""
        return tuple(name for name in self.lora_a if name in self.lora_b)


def load_lora_adapter(folder: Path) -> LoraAdapter:
    """Read an adapter in any of the three layouts, as an import reads it.

    Raises:
        BadAdapter: files are missing or damaged, or it isn't a LoRA or DoRA.
    """
    description = lora_files.describe_adapter(folder)
    if description.layout == "peft":
        return _peft_adapter(folder, description)
    return _mlx_adapter(_tensors(folder / ADAPTER_WEIGHTS_FILE), description)


def _tensors(path: Path) -> dict[str, mx.array]:
    if not path.is_file():
        raise BadAdapter(f"The adapter's weights {path} are missing.", "Restore the file, or train again.")
    try:
        tensors = cast(dict[str, mx.array], mx.load(str(path)))
        mx.eval(tensors)
    except (RuntimeError, ValueError) as error:
        raise BadAdapter(f"The weights {path} are damaged ({error}).", "Restore them, or train again.") from error
    return tensors


def _mlx_adapter(tensors: dict[str, mx.array], description: LoraDescription) -> LoraAdapter:
    """Incomplete pairs, and keys that fit nowhere, are left for `adapter_validation` to report."""
    keys = lora_arrays.module_arrays(tensors, (description.layout,))
    lora_a, lora_b, magnitude = ({name: tensors[key] for name, key in half.items()} for half in keys)
    matched = {key for half in (keys if description.dora else keys[:2]) for key in half.values()}
    return LoraAdapter(
        layout=description.layout,
        rank=description.rank,
        scale=description.scale,
        dropout=description.dropout,
        lora_a=lora_a,
        lora_b=lora_b,
        declared_modules=description.declared_modules,
        unmatched_keys=tuple(key for key in tensors if key not in matched),
        dora=description.dora,
        magnitude=magnitude if description.dora else {},
    )


def _peft_adapter(folder: Path, description: LoraDescription) -> LoraAdapter:
    uniform = lora_files.with_uniform_rank(lora_files.read_peft_matrices(folder, description, mlx_module_name))
    lora_a = {name: mx.array(pair.lora_a) for name, pair in uniform.pairs.items()}
    lora_b = {name: mx.array(pair.lora_b) for name, pair in uniform.pairs.items()}
    magnitude = {name: mx.array(pair.magnitude) for name, pair in uniform.pairs.items() if pair.magnitude is not None}
    return LoraAdapter(
        layout="peft",
        rank=uniform.rank,
        scale=uniform.scale,
        dropout=description.dropout,
        lora_a=lora_a,
        lora_b=lora_b,
        declared_modules=(),
        unmatched_keys=(),
        dora=description.dora,
        magnitude=magnitude,
    )
