"""Memory of a training step, and whether gradient checkpointing is needed on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.training_examples import TrainingExample

# Number of arrays of the hidden width and of the MLP's width that the gradient keeps per token and layer. Measured on
# mini and on bases of 8 and 16 layers, 512 and 1024 wide (docs/experiments/training.md). With checkpointing one hidden
# state per layer remains, and all arrays of one layer at a time.
_OF_WIDTH, _OF_MLP = 12, 6
_MORE_OF_WIDTH, _MORE_OF_MLP = 4, 2  # for a DoRA: every adapted layer's output before scaling
_MAX_MEMORY_SHARE = (
    0.6  # a step may use this share of the memory without checkpointing; the system and caches need the rest
)


def machine_memory() -> int:
    """Bytes that a training may use: Metal's recommended working set, otherwise the machine's memory."""
    if mx.metal.is_available():
        info: dict[str, Any] = mx.device_info()
        return int(info["max_recommended_working_set_size"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def activation_bytes(base: BaseVLM, tokens: int, item_bytes: int, *, dora: bool = False) -> int:
    """Bytes that the layers keep for the gradient of one row, without checkpointing.

    Args:
        base: the base.
        tokens: tokens of the row.
        item_bytes: bytes of one number.
        dora: True for DoRA layers.
    """
    shape = base.language_model.args
    of_width, of_mlp = _OF_WIDTH + dora * _MORE_OF_WIDTH, _OF_MLP + dora * _MORE_OF_MLP
    per_token = of_width * shape.hidden_size + of_mlp * shape.intermediate_size
    return int(tokens * shape.num_hidden_layers * per_token * item_bytes)


def needs_gradient_checkpointing(
    base: BaseVLM, examples: Sequence[TrainingExample], recipe: TrainRecipe, rows_at_once: int
) -> bool:
    """The recipe's choice; with "auto" True if weights and activations would need most of the memory.

    Args:
        base: the base.
        examples: all encoded examples; the longest one counts.
        recipe: the recipe.
        rows_at_once: rows that are computed at the same time.
    """
    if recipe.gradient_checkpointing != "auto":
        return recipe.gradient_checkpointing == "on"
    weights = sum(array.nbytes for _, array in tree_flatten(base.model.parameters()))
    longest = max(examples, key=lambda example: example.length)
    active = activation_bytes(base, longest.length, longest.prompt.load().embeddings.dtype.size, dora=recipe.dora)
    return weights + rows_at_once * active > _MAX_MEMORY_SHARE * machine_memory()
