"""Adapters of other layouts as mlx-vlm's own, so that a version is loadable by plain mlx-vlm whatever it came as.

What an adapter adds to a layer must stay the same number, so the scale that its trainer meant decides:

| layout | what is added to x W^T | source |
|---|---|---|
| PEFT | x A^T B^T alpha/r; with rsLoRA alpha/sqrt(r); r and alpha may differ by module | peft, LoraLayer.set_scale |
| mlx-vlm before March 2026 | x A B alpha | mlx-vlm, issue 841 |
| mlx-vlm since, flat configuration | x A B alpha/r | mlx-vlm, LoRaLayer |
| mlx-vlm, `lora_parameters` | x A B scale | mlx-vlm, LoRALinear |

mlx-vlm's layout has one rank and one scale. Smaller ranks are filled up with zeros, other scales go into B; both leave
the product as it is, and so the norms that a DoRA divides by: its magnitudes are taken over unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core.errors import BadAdapter
from mondrian_core.registry.soundness import read_arrays
from mondrian_core.registry.version import CONFIG, PEFT_WEIGHTS, WEIGHTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Meant = Literal["alpha", "alpha/rank"]
ORIGINAL_CONFIG = "original_config.json"

_PEFT_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<half>A|B)(\.\w+)?\.weight")
_PEFT_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_(?P<half>magnitude_vector)(\.\w+)?(\.weight)?")
_OF_LORA, _OF_DORA = {"A", "B"}, {"A", "B", "magnitude_vector"}
# Features of PEFT that change more than a low-rank product, with the value under which they do nothing.
_BEYOND = {"bias": "none", "modules_to_save": None, "layer_replication": None, "lora_bias": False,
           "trainable_token_indices": None, "target_parameters": None}  # fmt: skip
_MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class Pair:
    """A (in, r) and B (r, out) of a module in float32, the factor of their product, and a DoRA's magnitudes (out,)."""

    down: Array
    up: Array
    scale: float
    magnitude: Array | None = None


def is_peft(folder: Path) -> bool:
    """True when the configuration says PEFT."""
    return "peft_type" in _configuration(folder)


def is_flat(folder: Path) -> bool:
    """True for the older configuration of mlx-vlm, rank and alpha without `lora_parameters`."""
    found = _configuration(folder)
    return "rank" in found and "lora_parameters" not in found and "peft_type" not in found


def convert(folder: Path, out: Path, meant: Meant | None = None) -> dict[str, Any]:
    """Write the adapter in `folder`, PEFT's or of the older layout, to `out` in mlx-vlm's; gives what was done.

    Args:
        meant: for the older layout, the scale that its trainer used.

    Raises:
        BadAdapter: damaged, incomplete, or more than a LoRA or DoRA.
    """
    from safetensors.numpy import save_file

    configuration = _configuration(folder)
    pairs = _peft_pairs(folder, configuration) if is_peft(folder) else _flat_pairs(folder, configuration, meant)
    rank = max(pair.down.shape[1] for pair in pairs.values())
    scale = next(iter(pairs.values())).scale
    arrays: dict[str, Array] = {}
    for name, pair in pairs.items():
        arrays[f"{name}.lora_a"], arrays[f"{name}.lora_b"] = _fitted(pair, rank, scale)
        if pair.magnitude is not None:
            arrays[f"{name}.m"] = pair.magnitude
    dropout = float(configuration.get("lora_dropout", configuration.get("dropout", 0.0)) or 0.0)
    values = {"rank": rank, "scale": scale, "dropout": dropout, "keys": list(pairs)}
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, out / WEIGHTS, metadata={"format": "mlx"})
    kind = "dora" if configuration.get("use_dora") else "lora"
    (out / CONFIG).write_text(json.dumps({"fine_tune_type": kind, "num_layers": -1, "lora_parameters": values}))
    (out / ORIGINAL_CONFIG).write_text(json.dumps(configuration, indent=2))
    scales = sorted({round(pair.scale, 9) for pair in pairs.values()})
    return {"layout": "peft" if is_peft(folder) else "mlx-vlm, flat", "kind": kind, "modules": len(pairs), "rank": rank,
            "scales": scales}  # fmt: skip


def _fitted(pair: Pair, rank: int, scale: float) -> tuple[Array, Array]:
    """A and B with that rank and scale and the same product."""
    import numpy as np

    missing = rank - pair.down.shape[1]
    down = np.pad(pair.down, ((0, 0), (0, missing)))
    up = np.pad(pair.up * np.float32(pair.scale / scale), ((0, missing), (0, 0)))
    return np.ascontiguousarray(down, np.float32), np.ascontiguousarray(up, np.float32)


def _peft_pairs(folder: Path, configuration: Mapping[str, Any]) -> dict[str, Pair]:
    _require_lora(folder, configuration)
    wanted = _OF_DORA if configuration.get("use_dora") else _OF_LORA
    halves: dict[str, dict[str, Array]] = {}
    for key, array in _floats(folder / PEFT_WEIGHTS).items():
        found = _PEFT_KEY.fullmatch(key) or (_PEFT_MAGNITUDE.fullmatch(key) if wanted == _OF_DORA else None)
        if found is None or array.ndim != (1 if found["half"] == "magnitude_vector" else 2):
            raise BadAdapter(f"{folder / PEFT_WEIGHTS} holds {key}, which is no half of a LoRA.", _EXPORT)
        halves.setdefault(found["module"], {})[found["half"]] = array
    pairs = {}
    for module, half in halves.items():
        if half.keys() != wanted:
            said = "has no magnitude" if half.keys() == _OF_LORA else "has only one half"
            raise BadAdapter(f"{folder / PEFT_WEIGHTS} {said} of {module}.", "Save the adapter again.")
        scale = _peft_scale(configuration, module, half["A"].shape[0], folder)
        pairs[our_name(module)] = Pair(half["A"].T, half["B"].T, scale, half.get("magnitude_vector"))
    return _some(pairs, folder)


_EXPORT = "Export it as a plain LoRA (PEFT can merge or convert it), or train it anew."


def _require_lora(folder: Path, configuration: Mapping[str, Any]) -> None:
    if configuration["peft_type"] != "LORA":
        raise BadAdapter(f"The PEFT adapter in {folder} is a {configuration['peft_type']}, not a LoRA.", _EXPORT)
    beyond = [name for name, nothing in _BEYOND.items() if configuration.get(name, nothing) not in (nothing, [], {})]
    start = str(configuration.get("init_lora_weights", "")).lower()
    if start.startswith(_MOVES_THE_BASE):
        beyond.append(f"init_lora_weights={start}, which changes the base as well")
    if beyond:
        raise BadAdapter(f"The PEFT adapter in {folder} is more than a LoRA: {', '.join(beyond)}.", _EXPORT)


def _peft_scale(configuration: Mapping[str, Any], module: str, rank: int, folder: Path) -> float:
    """alpha/r or alpha/sqrt(r) of one module. The rank is what the arrays have; the configuration has to agree."""
    declared = int(_by_pattern(configuration.get("rank_pattern"), module, configuration["r"]))
    if declared != rank:
        raise BadAdapter(f"{module} in {folder} has rank {rank}, its configuration says {declared}.", "Save it again.")
    alpha = float(_by_pattern(configuration.get("alpha_pattern"), module, configuration["lora_alpha"]))
    return alpha / (math.sqrt(rank) if configuration.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, usual: Any) -> Any:
    """The value of the first pattern that matches the end of the module's name, as PEFT looks it up."""
    name = module.removeprefix("base_model.model.")
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return usual


def our_name(module: str) -> str:
    """A module of transformers' Qwen-VL as mlx-vlm names it.

    transformers has had `model.language_model.layers` since 2025 and `model.layers` before.
    """
    name = module.removeprefix("base_model.model.")
    for theirs, ours in (("model.language_model.", "language_model.model."), ("model.visual.", "vision_tower."),
                         ("visual.", "vision_tower."), ("model.layers.", "language_model.model.layers.")):  # fmt: skip
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _flat_pairs(folder: Path, configuration: Mapping[str, Any], meant: Meant | None) -> dict[str, Pair]:
    arrays = _floats(folder / WEIGHTS)
    try:
        rank, alpha = int(configuration["rank"]), float(configuration["alpha"])
    except (KeyError, TypeError, ValueError):
        raise BadAdapter(f"{folder / CONFIG} lacks rank or alpha.", "Restore the file, or train again.") from None
    scale = alpha if meant == "alpha" else alpha / rank
    names = [key.removesuffix(".A") for key in arrays if key.endswith(".A")]
    odd = [key for key in arrays if not key.endswith((".A", ".B")) or f"{key[:-2]}.A" not in arrays]
    if odd or any(f"{name}.B" not in arrays for name in names):
        raise BadAdapter(f"{folder / WEIGHTS} holds arrays that are no pair of a LoRA.", "Restore it, or train again.")
    return _some({name: Pair(arrays[f"{name}.A"], arrays[f"{name}.B"], scale) for name in names}, folder)


def _some(pairs: dict[str, Pair], folder: Path) -> dict[str, Pair]:
    if not pairs or not all(pair.scale for pair in pairs.values()):
        raise BadAdapter(f"The adapter in {folder} does nothing: no LoRA weights, or a scale of 0.", "Train it again.")
    return pairs


def _configuration(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise BadAdapter(f"{folder / CONFIG} can't be read: {error}.", "Restore the file.") from None
    return found if isinstance(found, dict) else {}


def _floats(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file as float32; bfloat16 has no numpy type and is widened bit by bit."""
    import numpy as np

    try:
        found = read_arrays(path)
    except (OSError, ValueError) as error:
        raise BadAdapter(f"{path} can't be read: {error}.", "Restore the file.") from None
    arrays: dict[str, Array] = {}
    for name, entry in found.items():
        if entry["dtype"] not in _DTYPES:
            raise BadAdapter(f"{name} in {path} is {entry['dtype']}, no float.", "Export the adapter in float32.")
        raw = np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        wide = (raw.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else raw.astype(np.float32)
        arrays[name] = wide
    return arrays
