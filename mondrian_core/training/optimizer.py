"""AdamW with warm-up, cosine and a global norm; its whole state is a tree of arrays that a checkpoint can hold."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.optimizers
from mlx.utils import tree_flatten, tree_map

from mondrian_core.recipes import TrainRecipe

Tree = Any


def learning_rate(step: int, total: int, recipe: TrainRecipe) -> float:
    """Rate of optimizer step `step` (from 0) of `total`: linear warm-up, then a cosine down to the final fraction."""
    warm = round(recipe.warmup_fraction * total)
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    done = (step - warm) / max(1, total - warm - 1)
    final = recipe.final_rate_fraction
    return recipe.learning_rate * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def make_optimizer(recipe: TrainRecipe, trainable: Tree) -> mlx.optimizers.AdamW:
    """A fresh AdamW with bias correction for these arrays."""
    optimizer = mlx.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay, bias_correction=True)
    optimizer.init(trainable)
    return optimizer


def apply_step(optimizer: mlx.optimizers.AdamW, trainable: Tree, gradient: Tree, rate: float,
               clip: float) -> tuple[Tree, Tree, mx.array]:  # fmt: skip
    """(updated arrays, the optimizer's new state, global norm of the gradient before clipping).

    The state that the optimizer held is left as it is, so an interrupted step has changed nothing.
    """
    # by name: a tree from a checkpoint comes in another order, and the last bit of a sum depends on it
    by_name = sorted(tree_flatten(gradient), key=lambda item: item[0])
    norm = mx.sqrt(mx.sum(mx.stack([mx.sum(mx.square(array)) for _, array in by_name])))
    factor = mx.minimum(1.0, clip / mx.maximum(norm, 1e-12))
    optimizer.state = tree_map(lambda array: array, optimizer.state)
    optimizer.learning_rate = rate
    updated = optimizer.apply_gradients(tree_map(lambda array: array * factor, gradient), trainable)
    return updated, optimizer.state, norm
