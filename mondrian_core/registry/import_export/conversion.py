"""Convert adapters of other layouts to mlx-vlm's layout, so that plain mlx-vlm loads every version.

The product that an adapter adds to a layer stays numerically the same, so the scale that its trainer used is needed;
`lora_files` reads it. The magnitudes of a DoRA are copied unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core import lora_arrays, lora_files
from mondrian_core.lora_files import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

ScaleConvention = Literal["alpha", "alpha/rank"]
ORIGINAL_CONFIG = "original_config.json"


def convert_to_mlx_vlm(folder: Path, out: Path, meant: ScaleConvention | None = None) -> dict[str, Any]:
    """Convert an adapter of PEFT's or the older layout to mlx-vlm's; gives a record of the conversion.

    The form that it was taught to answer in stays in its configuration.

    Args:
        folder: the adapter.
        out: folder for the converted adapter.
        meant: for the older layout: what its trainer multiplied the product by; None: as the library reads it now.

    Raises:
        BadAdapter: damaged, incomplete, or more than a LoRA or DoRA.
    """
    from safetensors.numpy import save_file

    from mondrian_core.models.family import mlx_module_name

    described = lora_files.describe_adapter(folder)
    if described.layout == "peft":
        pairs = lora_files.read_peft_matrices(folder, described, mlx_module_name)
    else:
        scale = described.scale * described.rank if meant == "alpha" else described.scale
        pairs = lora_files.read_older_matrices(folder, described, scale)
    uniform = lora_files.with_uniform_rank(pairs)
    arrays: dict[str, NDArray[Any]] = {}
    suffix_a, suffix_b = lora_arrays.KEY_SUFFIXES["mlx"]
    for name, pair in uniform.pairs.items():
        arrays |= {f"{name}{suffix_a}": pair.lora_a, f"{name}{suffix_b}": pair.lora_b}
        if pair.magnitude is not None:
            arrays[f"{name}{lora_arrays.MAGNITUDE_SUFFIX}"] = pair.magnitude
    values = {"rank": uniform.rank, "scale": uniform.scale, "dropout": described.dropout, "keys": list(pairs)}
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, out / ADAPTER_WEIGHTS_FILE, metadata={"format": "mlx"})
    kind = lora_files.DORA if described.dora else lora_files.LORA
    form = lora_files.answer_form_setting(lora_files.adapter_answer_form(folder))
    (out / ADAPTER_CONFIG_FILE).write_text(
        json.dumps({"fine_tune_type": kind, "num_layers": -1, "lora_parameters": values, **form})
    )
    (out / ORIGINAL_CONFIG).write_text(json.dumps(described.configuration, indent=2))
    scales = sorted({round(pair.scale, 9) for pair in pairs.values()})
    layout = "peft" if described.layout == "peft" else "mlx-vlm, flat"
    return {"layout": layout, "kind": kind, "modules": len(pairs), "rank": uniform.rank, "scales": scales}
