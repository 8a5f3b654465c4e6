"""Adapter files: three layouts on disk, one form in memory.

| layout | A and B | weights file | configuration | scale |
|---|---|---|---|---|
| mlx-vlm 0.7.10 | `.lora_a` (in, r), `.lora_b` (r, out) | adapters.safetensors | `lora_parameters` | as written |
| older mlx-vlm | `.A` (in, r), `.B` (r, out) | adapters.safetensors | `rank`, `alpha` | alpha / rank, as now read |
| PEFT | `.lora_A.weight` (r, in), `.lora_B.weight` (out, r) | adapter_model.safetensors | `peft_type` | alpha / r |

A DoRA holds a magnitude (out,) for each module besides: `.m` with `fine_tune_type` "dora", PEFT's
`.lora_magnitude_vector` with `use_dora`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from mondrian_core.errors import BadAdapter

WEIGHTS, CONFIGURATION, PEFT_WEIGHTS = "adapters.safetensors", "adapter_config.json", "adapter_model.safetensors"
DORA = "dora"
_MAGNITUDE, _PEFT_MAGNITUDE = ".m", ".lora_magnitude_vector"
_OLDER_ALPHA = 0.1  # mlx-vlm's default where an older configuration names none


@dataclass(frozen=True, eq=False)
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
    """Read an adapter in any of the three layouts.

    Raises:
        BadAdapter: when files are missing, damaged or of a kind that isn't a LoRA.
    """
    configuration = _configuration(folder)
    if "peft_type" in configuration:
        return _peft(folder, configuration)
    tensors = _tensors(folder / WEIGHTS)
    if "lora_parameters" in configuration:
        kind = configuration.get("fine_tune_type", "lora")
        if kind not in ("lora", DORA):
            raise BadAdapter(f"The adapter in {folder} is a '{kind}', not a LoRA.", "Train or import a LoRA adapter.")
        values = configuration["lora_parameters"]
        names = tuple(values.get("keys") or ())
        scale = float(values["scale"])
        return _paired("mlx", tensors, (".lora_a", ".lora_b"), values, scale, names, _MAGNITUDE if kind == DORA else "")
    if "rank" in configuration:
        scale = float(configuration.get("alpha", _OLDER_ALPHA)) / int(configuration["rank"])
        return _paired("older", tensors, (".A", ".B"), configuration, scale, ())
    raise BadAdapter(f"{folder / CONFIGURATION} describes no LoRA.", "Give a folder by Mondrian, mlx-vlm or PEFT.")


def _configuration(folder: Path) -> dict[str, Any]:
    path = folder / CONFIGURATION
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise BadAdapter(
            f"There is no adapter in {folder}: {CONFIGURATION} is missing.",
            "Give the folder that holds the adapter's weights and its adapter_config.json.",
        ) from None
    except (OSError, ValueError) as error:
        raise BadAdapter(f"{path} can't be read: {error}.", "Restore the file, or train again.") from error
    if not isinstance(value, dict):
        raise BadAdapter(f"{path} is no JSON object.", "Restore the file, or train again.")
    return value


def _tensors(path: Path) -> dict[str, mx.array]:
    if not path.is_file():
        raise BadAdapter(f"The adapter's weights {path} are missing.", "Restore the file, or train again.")
    try:
        tensors = cast(dict[str, mx.array], mx.load(str(path)))
        mx.eval(tensors)
    except (RuntimeError, ValueError) as error:
        raise BadAdapter(f"The weights {path} are damaged ({error}).", "Restore them, or train again.") from error
    return tensors


def _paired(layout: str, tensors: dict[str, mx.array], ends: tuple[str, str], values: dict[str, Any], scale: float,
            declared: tuple[str, ...], magnitude: str = "") -> Adapter:  # fmt: skip
    """`magnitude`: how its keys end; empty for a plain LoRA, whose magnitudes would be stray."""
    known = (*ends, magnitude) if magnitude else ends
    down, up, lengths = ({key.removesuffix(end): tensor for key, tensor in tensors.items() if end and key.endswith(end)}
                         for end in (*ends, magnitude))  # fmt: skip
    stray = tuple(key for key in tensors if not key.endswith(known))
    return Adapter(layout, int(values["rank"]), scale, float(values.get("dropout", 0.0)), down, up, declared, stray,
                   bool(magnitude), lengths)  # fmt: skip


def _peft(folder: Path, configuration: dict[str, Any]) -> Adapter:
    if configuration["peft_type"] != "LORA":
        raise BadAdapter(f"The PEFT adapter in {folder} is no LoRA.", "Export it as a LoRA adapter.")
    rank, alpha = int(configuration["r"]), float(configuration["lora_alpha"])
    scale = alpha / math.sqrt(rank) if configuration.get("use_rslora") else alpha / rank
    tensors = {module_of(key): tensor for key, tensor in _tensors(folder / PEFT_WEIGHTS).items()}
    turned = {key: mx.contiguous(tensor.T) if tensor.ndim == 2 else tensor for key, tensor in tensors.items()}
    values = {"rank": rank, "dropout": configuration.get("lora_dropout", 0.0)}
    return _paired("peft", turned, (".lora_A.weight", ".lora_B.weight"), values, scale, (),
                   _PEFT_MAGNITUDE if configuration.get("use_dora") else "")  # fmt: skip


def module_of(key: str) -> str:
    """A key of transformers or PEFT as mlx-vlm spells it.

    transformers names Qwen3-VL's language model `model.language_model`, mlx-vlm `language_model.model`.
    """
    key = key.removeprefix("base_model.model.")
    return key.replace("model.language_model.", "language_model.model.", 1) if key.startswith("model.") else key


def peft_name(module: str) -> str:
    """The reverse of what `read` does with a PEFT key: the module as PEFT spells it."""
    return "base_model.model." + module.replace("language_model.model.", "model.language_model.", 1)
