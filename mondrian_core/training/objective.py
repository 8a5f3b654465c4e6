"""What a training phase optimizes; the loop, its checkpoints and its log are the same for all phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.training.training_examples import Batch

LossFunction = Callable[
    ..., mx.array
]  # (base, batch, checkpointing=, seed=) -> the loss, or (F,) metrics with the loss first
SUPERVISED_STAGE = "train"


@dataclass(frozen=True, kw_only=True)
class TrainingObjective:
    """A loss, and how its batches are made.

    Attributes:
        stage: name of its events.
        loss: weighted loss of one batch; a step reports the sum over its batches.
        make_batch: (base, example, image tokens to pad to, factor of its weight) -> a batch.
        metrics: names of the metrics besides the loss.
        may_keep_start: True if the adapter that the phase begins with is the result when no epoch is better.
    """

    stage: str
    loss: LossFunction
    make_batch: Callable[[BaseVLM, Any, int, float], Batch]
    metrics: tuple[str, ...] = ()
    may_keep_start: bool = False

    @property
    def phase(self) -> str:
        """Mark of its lines in the log, and its checkpoint's folder in the run's folder; "" for the first phase."""
        return "" if self.stage == SUPERVISED_STAGE else self.stage


@dataclass(frozen=True, kw_only=True)
class PreferenceResult:
    """Result of preference tuning.

    Attributes:
        pairs: number of pairs trained on.
        corrections: how many of them are a person's corrections.
        recommendations: how many are judged recommendations.
        crops: how many are accepted crops.
        validation_pairs: number of pairs that chose the epoch; 0: the last epoch was taken.
        best_epoch: epoch of the adapter; 0: none was better than the adapter it began with, which was kept.
        steps: optimizer steps.
        loss: loss of the best epoch, on the validation pairs or (without any) the training pairs.
        accuracy: share of the validation pairs whose chosen answer has the larger reward, a tie counted
            half; None without any.
        margin: mean difference of their rewards.
        start_accuracy: accuracy before the first step.
        start_margin: margin before the first step.
    """

    pairs: int
    corrections: int
    validation_pairs: int
    best_epoch: int
    steps: int
    loss: float
    accuracy: float | None = None
    margin: float | None = None
    start_accuracy: float | None = None
    start_margin: float | None = None
    recommendations: int = 0
    crops: int = 0
