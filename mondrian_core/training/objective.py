"""What a phase of a training optimizes; the loop, its checkpoints and its log are the same for every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.training.training_examples import Batch

LossFunction = Callable[..., mx.array]  # (base, batch, checkpointing=, seed=) -> the loss, or (F,) with the loss first
SUPERVISED_STAGE = "train"


@dataclass(frozen=True, kw_only=True)
class TrainingObjective:
    """A loss, and how its batches are made.

    Attributes:
        stage: the word of its events.
        loss: of one batch, already weighted; the sum over the batches of a step is what that step reports.
        batch_of: (base, example, image tokens to pad to, factor of its weight) -> a batch.
        figures: names of what `loss` gives besides the loss.
        keeps_start: True when the adapter it begins with is a result too, should no epoch be better.
    """

    stage: str
    loss: LossFunction
    make_batch: Callable[[BaseVLM, Any, int, float], Batch]
    metrics: tuple[str, ...] = ()
    may_keep_start: bool = False

    @property
    def phase(self) -> str:
        """Mark of its lines in the log, and folder of its checkpoint below the run's; "" for the first phase."""
        return "" if self.stage == SUPERVISED_STAGE else self.stage


@dataclass(frozen=True, kw_only=True)
class PreferenceResult:
    """What preference tuning came to.

    Attributes:
        pairs: pairs it learned from; corrections: how many of them a person's corrections are.
        validation_pairs: those that chose the epoch; 0: the last epoch was taken.
        best_epoch: epoch it comes from; 0: none was better than the adapter it began with, which was kept.
        steps: optimizer steps.
        loss: of the best epoch, on the validation pairs or (without any) the training pairs.
        accuracy: share of the validation pairs whose chosen answer has the larger reward, a tie counted
            half; None without any.
        margin: mean difference of their rewards.
        start_accuracy, start_margin: the same before the first step.
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
