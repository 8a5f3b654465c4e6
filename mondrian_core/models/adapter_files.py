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
from mondrian_core.lora_files import DORA, PEFT_WEIGHTS, WEIGHTS, Described

__all__ = ["CONFIGURATION", "DORA", "PEFT_WEIGHTS", "WEIGHTS", "Adapter", "peft_name", "read"]

CONFIGURATION = lora_files.CONFIG
_MAGNITUDE = ".m"
_ENDS = {"mlx": (".lora_a", ".lora_b"), "older": (".A", ".B")}


@dataclass(frozen=True, eq=False, kw_only=True)
class Adapter:
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
    down: dict[str, mx.array]
    up: dict[str, mx.array]
    declared: tuple[str, ...]
    stray: tuple[str, ...]
    dora: bool = False
    magnitude: dict[str, mx.array] = field(default_factory=dict)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules with both halves."""
        return tuple(name for name in self.down if name in self.up)


def read(folder: Path) -> Adapter:
    """Read an adapter in any of the three layouts, as an import would take it in.

    Raises:
        BadAdapter: when files are missing, damaged or of a kind that isn't a LoRA or DoRA.
    """
    said = lora_files.described(folder)
    return _peft(folder, said) if said.layout == "peft" else _paired(_tensors(folder / WEIGHTS), said)


def _tensors(path: Path) -> dict[str, mx.array]:
    if not path.is_file():
        raise BadAdapter(f"The adapter's weights {path} are missing.", "Restore the file, or train again.")
    try:
        tensors = cast(dict[str, mx.array], mx.load(str(path)))
        mx.eval(tensors)
    except (RuntimeError, ValueError) as error:
        raise BadAdapter(f"The weights {path} are damaged ({error}).", "Restore them, or train again.") from error
    return tensors


def _paired(tensors: dict[str, mx.array], said: Described) -> Adapter:
    """Halves without their other half, and magnitudes of a plain LoRA (stray), are left to `soundness` to name."""
    ends = (*_ENDS[said.layout], _MAGNITUDE)
    down, up, lengths = (
        {key.removesuffix(end): tensor for key, tensor in tensors.items() if key.endswith(end)} for end in ends
    )
    known = ends if said.dora else ends[:2]
    stray = tuple(key for key in tensors if not key.endswith(known))
    return Adapter(
        layout=said.layout,
        rank=said.rank,
        scale=said.scale,
        dropout=said.dropout,
        down=down,
        up=up,
        declared=said.declared,
        stray=stray,
        dora=said.dora,
        magnitude=lengths if said.dora else {},
    )


def _peft(folder: Path, said: Described) -> Adapter:
    made = lora_files.fitted(lora_files.peft_pairs(folder, said))
    down = {name: mx.array(pair.down) for name, pair in made.pairs.items()}
    up = {name: mx.array(pair.up) for name, pair in made.pairs.items()}
    lengths = {name: mx.array(pair.magnitude) for name, pair in made.pairs.items() if pair.magnitude is not None}
    return Adapter(
        layout="peft",
        rank=made.rank,
        scale=made.scale,
        dropout=said.dropout,
        down=down,
        up=up,
        declared=(),
        stray=(),
        dora=said.dora,
        magnitude=lengths,
    )


def peft_name(module: str) -> str:
    """The reverse of what `read` does with a PEFT key: the module as PEFT spells it."""
    return "base_model.model." + module.replace("language_model.model.", "model.language_model.", 1)
