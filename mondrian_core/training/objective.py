"""What a phase of a training optimizes; the loop, its checkpoints and its log are the same for every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mondrian_core.models.base import Base
from mondrian_core.training.examples import Batch

Loss = Callable[..., mx.array]  # (base, batch, checkpointing=, seed=) -> the loss, or (F,) with the loss first
SUPERVISED = "train"


@dataclass(frozen=True)
class Objective:
    """A loss, and how its batches are made.

    Attributes:
        stage: the word of its events.
        loss: of one batch, already weighted; the sum over the batches of a step is what that step reports.
        batch_of: (base, example, image tokens to pad to, factor of its weight) -> a batch.
        figures: names of what `loss` gives besides the loss.
        keeps_start: True when the adapter it begins with is a result too, should no epoch be better.
    """

    stage: str
    loss: Loss
    batch_of: Callable[[Base, Any, int, float], Batch]
    figures: tuple[str, ...] = ()
    keeps_start: bool = False

    @property
    def phase(self) -> str:
        """Mark of its lines in the log, and folder of its checkpoint below the run's; "" for the first phase."""
        return "" if self.stage == SUPERVISED else self.stage
