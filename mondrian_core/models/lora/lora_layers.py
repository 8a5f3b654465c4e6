"""LoRA layers on a base: attach them for training, save and load their arrays, detach them.

Layers and files are mlx-vlm's own, so `mlx_vlm.load(path, adapter_path=folder)` gives the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mondrian_core import lora_files
from mondrian_core.errors import BadRecipe
from mondrian_core.files import write_atomic, write_json
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.adapter_switch import AdapterSwitch, existing_adapter_switch, get_adapter_switch
from mondrian_core.models.lora.adapter_validation import adaptable_linear_layers, validate_adapter_folder
from mondrian_core.models.lora.dora import DoRALinear
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import AnswerForm

__all__ = [
    "AdapterSwitch",
    "attach_lora",
    "detach_lora",
    "get_adapter_switch",
    "resolve_target_modules",
    "save_attached_adapter",
    "validate_adapter_folder",
]


def attach_lora(base: BaseVLM, train: TrainRecipe, seed: int) -> list[str]:
    """Add trainable LoRA or DoRA layers to the language model and freeze the rest; returns the adapted modules' names.

    A is drawn at random from the seed and B is zero, so the first answers are the base's.

    Raises:
        BadRecipe: a name in `target_modules` matches no linear layer of the language model.
    """
    from mlx_vlm.trainer.peft import get_peft_model

    if any(hasattr(module, "lora_a") for _, module in base.model.named_modules()):
        raise RuntimeError("LoRA layers are already attached to this base")
    mounted = existing_adapter_switch(base)
    if mounted is not None:
        mounted.use(None)
    # mlx-vlm divides alpha by the rank; rsLoRA (Kalajdzievski, 2023) by its square root
    alpha = train.alpha * math.sqrt(train.rank) if train.rslora else train.alpha
    mx.random.seed(seed)
    base.model.freeze()  # once; mlx-vlm would freeze its parts again for every module
    get_peft_model(
        base.model,
        resolve_target_modules(base, train.target_modules),
        rank=train.rank,
        alpha=alpha,
        dropout=train.dropout,
        freeze=False,
        verbose=False,
    )
    if train.dora:
        _convert_to_dora(base)
    mx.eval(base.model.trainable_parameters())
    return list(attached_adapter_config(base)["lora_parameters"]["keys"])


def resolve_target_modules(base: BaseVLM, names: Sequence[str]) -> list[str]:
    """Full names of the layers that match; a name is a layer's last part ("q_proj"), a longer suffix, or all of it.

    Only linear layers of the language model can be adapted. The vision tower is frozen, and mlx-vlm loads no adapter of
    the token embedding or the output layer (`lm_head`).

    Raises:
        BadRecipe: names the entries that match no layer.
    """
    layers = adaptable_linear_layers(base)
    found = {name: [layer for layer in layers if layer == name or layer.endswith(f".{name}")] for name in names}
    if unsuitable := [name for name, matches in found.items() if not matches]:
        known = sorted({name.rpartition(".")[2] for name in layers})
        raise BadRecipe(
            f"train.target_modules: {', '.join(map(repr, unsuitable))} is not a linear layer of the language model of "
            f"{base.name}.",
            f"Choose among {', '.join(known)}; output layer, embeddings and vision tower are not adapted.",
        )
    return list(dict.fromkeys(layer for matches in found.values() for layer in matches))


def _convert_to_dora(base: BaseVLM) -> None:
    """Replace the LoRA layers by DoRA layers with the same A."""
    from mlx_vlm.trainer.common.utils import get_module_by_name, set_module_by_name

    values = base.model._vlm_adapter_config
    for name in values["lora_parameters"]["keys"]:
        lora = get_module_by_name(base.model, name)
        dora = DoRALinear(lora.linear, lora.lora_a, lora.lora_b, lora.scale, values["lora_parameters"]["dropout"])
        set_module_by_name(base.model, name, dora)
    values["fine_tune_type"] = lora_adapter.DORA  # the name under which mlx-vlm loads it


def detach_lora(base: BaseVLM) -> None:
    """Remove the LoRA layers; the base is then unchanged, bit for bit."""
    from mlx_vlm.trainer.common.utils import set_module_by_name

    for name, module in list(base.model.named_modules()):
        if hasattr(module, "lora_a"):
            set_module_by_name(base.model, name, module.linear)
    base.model._vlm_adapter_config = None
    base.model.freeze()
    base.model.eval()


def attached_adapter_config(base: BaseVLM) -> dict[str, Any]:
    """adapter_config.json of the attached layers, as mlx-vlm writes it."""
    from mlx_vlm.trainer.common.model import _quantization_config

    found = dict(base.model._vlm_adapter_config)
    packed = _quantization_config(base.model)
    if packed:
        # an attached layer holds the base's linear layer one level below; a loader knows the base's own name
        found["base_quantization"] = {name.removesuffix(".linear"): values for name, values in packed.items()}
    return found


def attached_parameters(base: BaseVLM) -> dict[str, mx.array]:
    """The trainable arrays of the attached layers, by name."""
    return dict(tree_flatten(base.model.trainable_parameters()))


def load_attached_parameters(base: BaseVLM, weights: Mapping[str, mx.array]) -> None:
    """Set the arrays of the attached layers, cast to their data types."""
    held = attached_parameters(base)
    base.model.load_weights([(name, array.astype(held[name].dtype)) for name, array in weights.items()], strict=False)
    mx.eval(base.model.trainable_parameters())


def save_attached_adapter(base: BaseVLM, folder: Path, weights: dict[str, mx.array] | None = None) -> None:
    """Write adapters.safetensors and adapter_config.json.

    Args:
        base: the base with attached layers.
        folder: where to write.
        weights: arrays by name; None: those of the attached layers.

    Raises:
        DiskFull: no space is left; files that existed before are unchanged.
    """
    from safetensors.numpy import save as as_bytes  # mlx's own writer doesn't report a full disk as such

    tensors = attached_parameters(base) if weights is None else weights
    plain = {name: np.array(array.astype(mx.float32)) for name, array in tensors.items()}
    write_atomic(folder / lora_adapter.ADAPTER_WEIGHTS_FILE, as_bytes(plain, metadata={"format": "mlx"}))
    write_json(folder / lora_adapter.ADAPTER_CONFIG_FILE, attached_adapter_config(base))


def record_answer_form(folder: Path, form: AnswerForm) -> None:
    """Write the form into an adapter's configuration, where it isn't the first one."""
    if setting := lora_files.answer_form_setting(form):
        write_json(folder / lora_adapter.ADAPTER_CONFIG_FILE, {**lora_files.read_adapter_config(folder), **setting})
