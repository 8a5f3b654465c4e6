"""What a training phase takes, and what a training produces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.generative_validation import GenerativeValidation
from mondrian_core.training.objective import PreferenceResult, TrainingObjective


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training produced.

    Attributes:
        adapter: folder with the best adapter (mlx-vlm's format).
        best_epoch: epoch it comes from, counted from 1.
        best_loss: its validation loss, or its training loss without validation rows; nats per token.
        best_answers: validation by generation after that epoch; None where no photograph was answered.
        start_loss: validation loss of the base without an adapter; None without validation rows.
        worse_than_base: True when no epoch was better than the base, by the metric that chooses the epoch.
        steps: optimizer steps.
        seconds: training time, all interrupted parts included.
        log: training_log.jsonl.
        curve: loss_curve.png.
        preference: result of preference tuning; None where there was none.
    """

    adapter: Path
    best_epoch: int
    best_loss: float
    best_answers: GenerativeValidation | None
    steps: int
    seconds: float
    log: Path
    curve: Path
    preference: PreferenceResult | None = None
    start_loss: float | None = None
    worse_than_base: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingPhase:
    """What one phase of a training learns, from what, and where its files are written.

    Attributes:
        objective: the loss, and how a batch is made from an example.
        recipe: settings; the learning rate is set.
        examples: encoded examples to train on, at least one.
        held_out: encoded examples that choose the epoch; without any the last epoch is taken.
        answered_rows: validation rows that are also answered after each epoch.
        out: folder of the run.
        signature: what must be unchanged when an interrupted run is resumed, by name.
        start: arrays of the adapter that the phase begins with; None: a fresh one, which changes nothing.
    """

    objective: TrainingObjective
    recipe: TrainRecipe
    examples: Sequence[Any]
    held_out: Sequence[Any] = ()
    answered_rows: Sequence[DatasetRow] = ()
    out: Path
    signature: dict[str, str] = field(default_factory=dict)
    start: dict[str, mx.array] | None = None
