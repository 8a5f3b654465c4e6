"""Adapter files in memory: the layouts that `lora_files` tells apart, one form for the model.

A DoRA holds a magnitude (out,) for each module besides: `.m` with `fine_tune_type` "dora", PEFT's
`.lora_magnitude_vector` with `use_dora`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import mlx.core as mx

from mondrian_core import lora_files
from mondrian_core.errors import BadAdapter
from mondrian_core.lora_files import (
    ADAPTER_WEIGHTS_FILE,
    DORA,
    LORA_SUFFIXES,
    MAGNITUDE_SUFFIX,
    PEFT_WEIGHTS_FILE,
    LoraDescription,
)
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
        scale: factor of the product A B.
        down: A by module name, (in, r).
        up: B by module name, (r, out).
        declared: modules that the configuration names; empty where it names none.
        stray: keys of the weights file that belong to no module.
        dora: whether it is a DoRA, by its configuration.
        magnitude: m by module name, (out,); empty but for a DoRA.
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
    """Read an adapter in any of the three layouts, as an import would take it in.

    Raises:
        BadAdapter: when files are missing, damaged or of a kind that isn't a LoRA or DoRA.
    """
    said = lora_files.describe_adapter(folder)
    return (
        _peft_adapter(folder, said)
        if said.layout == "peft"
        else _mlx_adapter(_tensors(folder / ADAPTER_WEIGHTS_FILE), said)
    )


def _tensors(path: Path) -> dict[str, mx.array]:
    if not path.is_file():
        raise BadAdapter(f"The adapter's weights {path} are missing.", "Restore the file, or train again.")
    try:
        tensors = cast(dict[str, mx.array], mx.load(str(path)))
        mx.eval(tensors)
    except (RuntimeError, ValueError) as error:
        raise BadAdapter(f"The weights {path} are damaged ({error}).", "Restore them, or train again.") from error
    return tensors


def _mlx_adapter(tensors: dict[str, mx.array], said: LoraDescription) -> LoraAdapter:
    """Halves without their other half, and magnitudes of a plain LoRA (stray), are left to `soundness` to name."""
    ends = (*LORA_SUFFIXES[said.layout], MAGNITUDE_SUFFIX)
    down, up, lengths = (
        {key.removesuffix(end): tensor for key, tensor in tensors.items() if key.endswith(end)} for end in ends
    )
    known = ends if said.dora else ends[:2]
    stray = tuple(key for key in tensors if not key.endswith(known))
    return LoraAdapter(
        layout=said.layout,
        rank=said.rank,
        scale=said.scale,
        dropout=said.dropout,
        lora_a=down,
        lora_b=up,
        declared_modules=said.declared_modules,
        unmatched_keys=stray,
        dora=said.dora,
        magnitude=lengths if said.dora else {},
    )


def _peft_adapter(folder: Path, said: LoraDescription) -> LoraAdapter:
    made = lora_files.with_uniform_rank(lora_files.read_peft_matrices(folder, said, mlx_module_name))
    down = {name: mx.array(pair.lora_a) for name, pair in made.pairs.items()}
    up = {name: mx.array(pair.lora_b) for name, pair in made.pairs.items()}
    lengths = {name: mx.array(pair.magnitude) for name, pair in made.pairs.items() if pair.magnitude is not None}
    return LoraAdapter(
        layout="peft",
        rank=made.rank,
        scale=made.scale,
        dropout=said.dropout,
        lora_a=down,
        lora_b=up,
        declared_modules=(),
        unmatched_keys=(),
        dora=said.dora,
        magnitude=lengths,
    )
