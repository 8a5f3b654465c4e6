"""AdamW with warm-up, cosine schedule and a global norm limit; its state is a tree of arrays for the checkpoint."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.optimizers
from mlx.utils import tree_flatten, tree_map

from mondrian_core.recipes import TrainRecipe

Tree = Any


_REFERENCE_RATE, _REFERENCE_WIDTH, _EXPONENT = 2e-4, 2560, 0.775


def default_learning_rate(width: int) -> float:
    """Peak learning rate for a base of this hidden width, if the recipe names none.

    2e-4 at 2560 (Qwen3-VL-4B), falling with the width to the power 0.775: the exponent that Schulman et al. (LoRA
    Without Regret, Thinking Machines Lab, 2025) fitted for Qwen models. It doesn't depend on the rank, because alpha
    is divided by it.
    """
    return _REFERENCE_RATE * (_REFERENCE_WIDTH / width) ** _EXPONENT


def with_default_learning_rate(recipe: TrainRecipe, width: int) -> TrainRecipe:
    """The recipe, with the default learning rate for this width if it names none."""
    if recipe.learning_rate is not None:
        return recipe
    return recipe.model_copy(update={"learning_rate": default_learning_rate(width)})


def scheduled_learning_rate(step: int, total: int, recipe: TrainRecipe) -> float:
    """Learning rate of step `step` (from 0) of `total`: linear warm-up, then a cosine down to the final fraction.

    Raises:
        ValueError: the recipe has no learning rate, see `with_default_learning_rate`.
    """
    peak = _peak(recipe)
    warm = round(recipe.warmup_fraction * total)
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    done = (step - warm) / max(1, total - warm - 1)
    final = recipe.final_rate_fraction
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _peak(recipe: TrainRecipe) -> float:
    if recipe.learning_rate is None:
        raise ValueError("the recipe has no learning rate; use `with_default_learning_rate`")
    return recipe.learning_rate


class _AdamW(mlx.optimizers.AdamW):
    """Decays matrices only: a DoRA's magnitudes start at the base's row norms, and 0 isn't a smaller change."""

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]) -> mx.array:
        if parameter.ndim < 2:
            return mlx.optimizers.Adam.apply_single(self, gradient, parameter, state)
        return super().apply_single(gradient, parameter, state)


def make_optimizer(recipe: TrainRecipe, trainable: Tree) -> mlx.optimizers.AdamW:
    """A fresh AdamW with bias correction for these arrays."""
    optimizer = _AdamW(_peak(recipe), weight_decay=recipe.weight_decay, bias_correction=True)
    optimizer.init(trainable)
    return optimizer


def apply_optimizer_step(
    optimizer: mlx.optimizers.AdamW, trainable: Tree, gradient: Tree, rate: float, clip: float
) -> tuple[Tree, Tree, mx.array]:
    """(updated arrays, the optimizer's new state, global norm of the gradient before clipping).

    The optimizer's previous state isn't changed, so an interrupted step has no effect.

    Args:
        optimizer: holds the state before the step.
        trainable: tree of the adapter's arrays.
        gradient: tree of the same shapes.
        rate: learning rate of this step.
        clip: largest global norm; larger gradients are scaled down to it.
    """
    # sorted by name: a tree from a checkpoint has another order, and the last bit of the sum depends on it
    by_name = sorted(tree_flatten(gradient), key=lambda item: item[0])
    norm = mx.sqrt(mx.sum(mx.stack([mx.sum(mx.square(array)) for _, array in by_name])))
    factor = mx.minimum(1.0, clip / mx.maximum(norm, 1e-12))
    optimizer.state = tree_map(lambda array: array, optimizer.state)
    optimizer.learning_rate = rate
    updated = optimizer.apply_gradients(tree_map(lambda array: array * factor, gradient), trainable)
    return updated, optimizer.state, norm
