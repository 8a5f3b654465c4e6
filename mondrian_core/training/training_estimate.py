"""Estimate time and memory of a training from one measured optimizer step; nothing is trained or written."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import answer_token_ids, count_prompt_tokens
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.dpo import dpo_objective, encode_preference_pairs
from mondrian_core.training.gradient_step import GradientStep, weighted_loss
from mondrian_core.training.memory import machine_memory, needs_gradient_checkpointing
from mondrian_core.training.objective import SUPERVISED_STAGE, TrainingObjective
from mondrian_core.training.trainer import NO_PREFERENCE_PAIRS, PreferencePairSplit
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch

_FORWARD_SHARE = 0.6  # a forward pass alone costs this much of forward and backward (measured on mini, CPU)


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """Estimated cost of a training.

    Attributes:
        rows: training rows.
        validation_rows: validation rows.
        tokens: tokens of all training rows, including photographs and prompts.
        supervised_tokens: tokens of the answers, which alone carry loss.
        longest_row: tokens of the longest row, training or validation.
        pairs: pairs for preference tuning; 0 if they are too few or the recipe has no preference tuning.
        steps: optimizer steps of all epochs, including preference tuning.
        trainable: number of parameters in the adapter.
        seconds: expected time; early stopping can only shorten it.
        peak_bytes: peak memory of MLX in a measured step, on the longest row and the longest pair.
        memory_bytes: memory of this machine.
        gradient_checkpointing: True if layers are recomputed to save memory.
        fits: False if the longest row exceeds the recipe's limit, or if memory isn't sufficient.
        problem: why it doesn't fit; "" if it does.
    """

    rows: int
    validation_rows: int
    tokens: int
    supervised_tokens: int
    longest_row: int
    pairs: int
    steps: int
    trainable: int
    seconds: float
    peak_bytes: int
    memory_bytes: int
    gradient_checkpointing: bool
    fits: bool
    problem: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def estimate_training(
    base: BaseVLM,
    rows: Sequence[DatasetRow],
    validation: Sequence[DatasetRow],
    recipe: TrainRecipe,
    listen: EventListener = ignore_events,
    pairs: PreferencePairSplit = NO_PREFERENCE_PAIRS,
) -> TrainingEstimate:
    """Count the tokens of every row and pair, and measure one optimizer step on the longest of each.

    Args:
        base: the base.
        rows: training rows.
        validation: validation rows.
        recipe: settings of the training.
        listen: receives progress.
        pairs: pairs for preference tuning.

    Raises:
        BadInput: there are no rows.
    """
    if not rows:
        raise BadInput("There are no rows to train on.", "Run `mondrian link` to see why records were left out.")
    answers = [len(answer_token_ids(base, row.messages, row.answer)) for row in rows]
    lengths = [_length(base, row) for row in rows]
    others = [_length(base, row) for row in validation]
    longest = max(lengths)
    over = max([longest, *others]) > recipe.max_tokens
    seconds, peak, trainable, saving = (0.0, 0, 0, False)
    later = _PreferenceEstimate(0, 0, 0.0, 0)
    if not over:
        example = encode_training_rows(base, [rows[lengths.index(longest)]], recipe, listen, "probe")[0]
        objective = TrainingObjective(stage=SUPERVISED_STAGE, loss=weighted_loss, make_batch=make_training_batch)
        seconds, peak, trainable, saving = _probe(base, objective, example, recipe)
        later = _estimate_preference(base, pairs, recipe, listen)
    per_token = seconds / (longest * recipe.accumulation)
    judged = sum(others) * (recipe.epochs + 1) * _FORWARD_SHARE
    peak = max(peak, later.peak)
    memory = machine_memory()
    problem = _problem(max([longest, *others]), recipe.max_tokens, peak, memory)
    return TrainingEstimate(
        rows=len(rows),
        validation_rows=len(validation),
        tokens=sum(lengths),
        supervised_tokens=sum(answers),
        longest_row=max([longest, *others]),
        pairs=later.pairs,
        steps=math.ceil(len(rows) / recipe.accumulation) * recipe.epochs + later.steps,
        trainable=trainable,
        seconds=round(per_token * (sum(lengths) * recipe.epochs + judged) + later.seconds, 1),
        peak_bytes=peak,
        memory_bytes=memory,
        gradient_checkpointing=saving,
        fits=not problem,
        problem=problem,
    )


def _length(base: BaseVLM, row: DatasetRow) -> int:
    return (
        count_prompt_tokens(base, row.messages, row.image) + len(answer_token_ids(base, row.messages, row.answer)) - 1
    )


@dataclass(frozen=True)
class _PreferenceEstimate:
    """Estimated cost of preference tuning: pairs, optimizer steps, seconds, peak bytes."""

    pairs: int
    steps: int
    seconds: float
    peak: int


def _estimate_preference(
    base: BaseVLM, pairs: PreferencePairSplit, recipe: TrainRecipe, listen: EventListener
) -> _PreferenceEstimate:
    examples = encode_preference_pairs(base, pairs.train, recipe, listen, "pairs") if recipe.preference_epochs else []
    if len(examples) < recipe.preference_pairs:
        return _PreferenceEstimate(0, 0, 0.0, 0)
    validation = encode_preference_pairs(base, pairs.validation, recipe, listen, "validation pairs")
    longest = max(examples, key=lambda example: example.length)
    seconds, peak, _, _ = _probe(base, dpo_objective(recipe), longest, recipe)
    epochs, learned, judged = (
        recipe.preference_epochs,
        *(sum(each.length for each in some) for some in (examples, validation)),
    )
    passes = learned * (epochs + _FORWARD_SHARE) + judged * (epochs + 2) * _FORWARD_SHARE  # including the reference's
    steps = math.ceil(len(examples) / recipe.accumulation) * epochs
    return _PreferenceEstimate(len(examples), steps, seconds / (longest.length * recipe.accumulation) * passes, peak)


def _probe(
    base: BaseVLM, objective: TrainingObjective, example: Any, recipe: TrainRecipe
) -> tuple[float, int, int, bool]:
    """(seconds of an optimizer step, peak bytes, number of parameters, True with gradient checkpointing).

    Two steps are computed and the second one counts.
    """
    lora_layers.attach_lora(base, recipe, recipe.seed)
    base.model.train()
    step = GradientStep(base, loss=objective.loss)
    step.checkpointing = needs_gradient_checkpointing(base, [example], recipe, step.threads)
    try:
        batch = objective.make_batch(base, example, example.prompt.image_tokens, 1.0 / example.weight)
        trainable = base.model.trainable_parameters()
        seconds = 0.0
        for _ in range(2):
            mx.reset_peak_memory()
            began = time.perf_counter()
            mx.eval(step.loss_and_grad(trainable, [batch] * recipe.accumulation))
            seconds = time.perf_counter() - began
        size = sum(int(np.prod(array.shape)) for array in lora_layers.attached_parameters(base).values())
        return seconds, int(mx.get_peak_memory()), size, step.checkpointing
    finally:
        step.close()
        lora_layers.detach_lora(base)


def _problem(longest: int, limit: int, peak: int, memory: int) -> str:
    if longest > limit:
        return f"The longest row has {longest} tokens, the recipe allows {limit}."
    if peak > 0.9 * memory:
        return f"A step needs {peak / 1e9:.1f} GB; this machine has {memory / 1e9:.1f} GB."
    return ""
