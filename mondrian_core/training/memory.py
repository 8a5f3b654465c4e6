"""What a training step holds, and whether this machine has room for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.training_examples import TrainingExample

# Arrays that the gradient needs of one token in one layer: so many of the hidden width and of the MLP's. Measured on
# mini and on bases of 8 and 16 layers, 512 and 1024 wide (docs/experiments/training.md); with checkpointing one hidden
# state a layer is left, and one layer at a time is whole.
_OF_WIDTH, _OF_MLP = 12, 6
_MORE_OF_WIDTH, _MORE_OF_MLP = 4, 2  # of a DoRA: every adapted layer's output before it is brought to its length
_MAX_MEMORY_SHARE = (
    0.6  # share of the memory up to which a step may be without checkpointing; the rest is the system's and caches'
)


def machine_memory() -> int:
    """Bytes that a training may take: Metal's recommended working set, else the machine's memory."""
    if mx.metal.is_available():
        info: dict[str, Any] = mx.device_info()
        return int(info["max_recommended_working_set_size"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def activation_bytes(base: BaseVLM, tokens: int, item_bytes: int, *, dora: bool = False) -> int:
    """Bytes that the gradient of one row of so many tokens holds in the layers, without checkpointing."""
    shape = base.language_model.args
    of_width, of_mlp = _OF_WIDTH + dora * _MORE_OF_WIDTH, _OF_MLP + dora * _MORE_OF_MLP
    per_token = of_width * shape.hidden_size + of_mlp * shape.intermediate_size
    return int(tokens * shape.num_hidden_layers * per_token * item_bytes)


def needs_gradient_checkpointing(
    base: BaseVLM, examples: Sequence[TrainingExample], recipe: TrainRecipe, rows_at_once: int
) -> bool:
    """What the recipe says; under "auto" whether weights and activations would take most of the memory."""
    if recipe.gradient_checkpointing != "auto":
        return recipe.gradient_checkpointing == "on"
    weights = sum(array.nbytes for _, array in tree_flatten(base.model.parameters()))
    longest = max(examples, key=lambda example: example.length)
    active = activation_bytes(base, longest.length, longest.prompt.load().embeddings.dtype.size, dora=recipe.dora)
    return weights + rows_at_once * active > _MAX_MEMORY_SHARE * machine_memory()
