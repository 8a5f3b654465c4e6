"""Adapters of other layouts as mlx-vlm's own, so that a version is loadable by plain mlx-vlm whatever it came as.

What an adapter adds to a layer must stay the same number, so the scale that its trainer meant decides; `lora_files`
says which that is. Norms that a DoRA divides by stay as they are, too: its magnitudes are taken over unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core import lora_arrays, lora_files
from mondrian_core.errors import BadAdapter
from mondrian_core.lora_files import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, LoraDescription, LoraMatrices

if TYPE_CHECKING:
    from numpy.typing import NDArray

ScaleConvention = Literal["alpha", "alpha/rank"]
ORIGINAL_CONFIG = "original_config.json"


def convert_to_mlx_vlm(folder: Path, out: Path, meant: ScaleConvention | None = None) -> dict[str, Any]:
    """Write the adapter in `folder`, PEFT's or of the older layout, to `out` in mlx-vlm's; gives what was done.

    Args:
        meant: for the older layout, the scale that its trainer used.

    Raises:
        BadAdapter: damaged, incomplete, or more than a LoRA or DoRA.
    """
    from safetensors.numpy import save_file

    from mondrian_core.models.family import mlx_module_name

    said = lora_files.describe_adapter(folder)
    if said.layout == "peft":
        pairs = lora_files.read_peft_matrices(folder, said, mlx_module_name)
    else:
        pairs = _flat_pairs(folder, said, meant)
    made = lora_files.with_uniform_rank(pairs)
    arrays: dict[str, NDArray[Any]] = {}
    for name, pair in made.pairs.items():
        arrays |= {f"{name}.lora_a": pair.lora_a, f"{name}.lora_b": pair.lora_b}
        if pair.magnitude is not None:
            arrays[f"{name}.m"] = pair.magnitude
    values = {"rank": made.rank, "scale": made.scale, "dropout": said.dropout, "keys": list(pairs)}
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, out / ADAPTER_WEIGHTS_FILE, metadata={"format": "mlx"})
    kind = lora_files.DORA if said.dora else lora_files.LORA
    (out / ADAPTER_CONFIG_FILE).write_text(
        json.dumps({"fine_tune_type": kind, "num_layers": -1, "lora_parameters": values})
    )
    (out / ORIGINAL_CONFIG).write_text(json.dumps(said.configuration, indent=2))
    scales = sorted({round(pair.scale, 9) for pair in pairs.values()})
    layout = "peft" if said.layout == "peft" else "mlx-vlm, flat"
    return {"layout": layout, "kind": kind, "modules": len(pairs), "rank": made.rank, "scales": scales}


def _flat_pairs(folder: Path, said: LoraDescription, meant: ScaleConvention | None) -> dict[str, LoraMatrices]:
    arrays = lora_arrays.read_float32_tensors(folder / ADAPTER_WEIGHTS_FILE)
    scale = said.scale * said.rank if meant == "alpha" else said.scale
    names = [key.removesuffix(".A") for key in arrays if key.endswith(".A")]
    odd = [key for key in arrays if not key.endswith((".A", ".B")) or f"{key[:-2]}.A" not in arrays]
    if odd or any(f"{name}.B" not in arrays for name in names):
        raise BadAdapter(
            f"{folder / ADAPTER_WEIGHTS_FILE} holds arrays that are no pair of a LoRA.", "Restore it, or train again."
        )
    pairs = {name: LoraMatrices(arrays[f"{name}.A"], arrays[f"{name}.B"], scale) for name in names}
    return lora_files.reject_noop_adapter(pairs, folder)
