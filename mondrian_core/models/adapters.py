"""LoRA on a base: attach for training, save, check before use, mount for answering.

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

from mondrian_core.errors import BadRecipe
from mondrian_core.files import write_atomic, write_json
from mondrian_core.models import adapter_files
from mondrian_core.models.base import Base
from mondrian_core.models.dora import DoRALinear
from mondrian_core.models.mounted import Mounted, mount, mounted_on
from mondrian_core.models.soundness import check, linear_layers
from mondrian_core.recipes import TrainRecipe

__all__ = ["Mounted", "attach", "check", "detach", "mount", "save", "targets"]


def attach(base: Base, train: TrainRecipe, seed: int) -> list[str]:
    """Put trainable LoRA or DoRA layers on the language model; the rest is frozen. Names of the adapted modules.

    The seed is set before the layers are made: A is drawn at random, B is zero, so the first answers are the base's.

    Raises:
        BadRecipe: when a name in `target_modules` is not that of linear layers of the language model.
    """
    from mlx_vlm.trainer.peft import get_peft_model

    if any(hasattr(module, "lora_a") for _, module in base.model.named_modules()):
        raise RuntimeError("LoRA layers are already attached to this base")
    mounted = mounted_on(base)
    if mounted is not None:
        mounted.use(None)
    # the library divides alpha by the rank; Kalajdzievski (rsLoRA, 2023) by its root
    alpha = train.alpha * math.sqrt(train.rank) if train.rslora else train.alpha
    mx.random.seed(seed)
    get_peft_model(
        base.model,
        targets(base, train.target_modules),
        rank=train.rank,
        alpha=alpha,
        dropout=train.dropout,
        verbose=False,
    )
    if train.dora:
        _decompose(base)
    mx.eval(base.model.trainable_parameters())
    return list(configuration(base)["lora_parameters"]["keys"])


def targets(base: Base, names: Sequence[str]) -> list[str]:
    """Full names of the layers that `names` mean: a name is a layer's last part ("q_proj"), a longer end, or all of it.

    Only linear layers of the language model can be adapted: the vision tower is frozen, and neither the embedding of
    tokens nor the output layer (`lm_head`) is one that `soundness.check` or the library loads.

    Raises:
        BadRecipe: naming those that mean none of these.
    """
    layers = linear_layers(base)
    found = {name: [layer for layer in layers if layer == name or layer.endswith(f".{name}")] for name in names}
    if unsuitable := [name for name, matches in found.items() if not matches]:
        known = sorted({name.rpartition(".")[2] for name in layers})
        raise BadRecipe(
            f"train.target_modules: {', '.join(map(repr, unsuitable))} is not a linear layer of the language model of "
            f"{base.name}.",
            f"Choose among {', '.join(known)}; output layer, embeddings and vision tower are not adapted.",
        )
    return list(dict.fromkeys(layer for matches in found.values() for layer in matches))


def _decompose(base: Base) -> None:
    """Make DoRA of the LoRA layers, with the same A."""
    from mlx_vlm.trainer.common.utils import get_module_by_name, set_module_by_name

    values = base.model._vlm_adapter_config
    for name in values["lora_parameters"]["keys"]:
        lora = get_module_by_name(base.model, name)
        dora = DoRALinear(lora.linear, lora.lora_a, lora.lora_b, lora.scale, values["lora_parameters"]["dropout"])
        set_module_by_name(base.model, name, dora)
    values["fine_tune_type"] = adapter_files.DORA  # the name under which mlx-vlm loads it


def detach(base: Base) -> None:
    """Take the LoRA layers off again; the base is what it was, bit for bit."""
    from mlx_vlm.trainer.common.utils import set_module_by_name

    for name, module in list(base.model.named_modules()):
        if hasattr(module, "lora_a"):
            set_module_by_name(base.model, name, module.linear)
    base.model._vlm_adapter_config = None
    base.model.freeze()
    base.model.eval()


def configuration(base: Base) -> dict[str, Any]:
    """adapter_config.json of the attached layers, as mlx-vlm writes it."""
    from mlx_vlm.trainer.common.model import _quantization_config

    found = dict(base.model._vlm_adapter_config)
    packed = _quantization_config(base.model)
    if packed:
        # attached layers hold their linear one level down; the base's own name is what a loader knows
        found["base_quantization"] = {name.removesuffix(".linear"): values for name, values in packed.items()}
    return found


def parameters(base: Base) -> dict[str, mx.array]:
    """The trainable arrays of the attached layers by name."""
    return dict(tree_flatten(base.model.trainable_parameters()))


def put(base: Base, weights: Mapping[str, mx.array]) -> None:
    """Give the attached layers these arrays, in the types they have."""
    held = parameters(base)
    base.model.load_weights([(name, array.astype(held[name].dtype)) for name, array in weights.items()], strict=False)
    mx.eval(base.model.trainable_parameters())


def save(base: Base, folder: Path, weights: dict[str, mx.array] | None = None) -> None:
    """Write adapters.safetensors and adapter_config.json (weights: None for those attached now).

    Raises:
        DiskFull: when no space is left; what lay there before stays whole.
    """
    from safetensors.numpy import save as as_bytes  # mlx's own writer doesn't tell a full disk apart

    tensors = parameters(base) if weights is None else weights
    plain = {name: np.array(array.astype(mx.float32)) for name, array in tensors.items()}
    write_atomic(folder / adapter_files.WEIGHTS, as_bytes(plain, metadata={"format": "mlx"}))
    write_json(folder / adapter_files.CONFIGURATION, configuration(base))
