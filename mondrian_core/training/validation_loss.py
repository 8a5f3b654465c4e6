"""Loss over held-out examples, and which of them have no finite loss.

Shapes: `F` metrics of an objective, the loss first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.objective import TrainingObjective

Tree = Any


class ValidationLoss:
    """Measures the adapter in training on held-out examples, without dropout."""

    def __init__(
        self,
        base: BaseVLM,
        step: GradientStep,
        objective: TrainingObjective,
        examples: Sequence[Any],
        image_tokens: int,
    ) -> None:
        """`image_tokens` is the number of image tokens that every example is padded to."""
        self._base, self._step, self._objective = base, step, objective
        self._examples, self._image_tokens = examples, image_tokens

    def measure(self, trainable: Tree, numbers: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """(metrics (F,) averaged over the examples with these numbers, the numbers whose own metrics are not finite).

        Metrics are float64, the loss in nats per token; with a loss as the only metric the array has no axis.
        """
        weights = {number: self._examples[number].weight for number in numbers}
        total = sum(weights.values())
        if not math.isfinite(total):
            unusable = [number for number, weight in weights.items() if not math.isfinite(weight)]
            return np.full(1 + len(self._objective.metrics), math.nan), unusable
        self._base.model.eval()
        try:
            batches = [
                self._objective.make_batch(self._base, self._examples[number], self._image_tokens, 1.0 / total)
                for number in numbers
            ]
            rows = self._step.row_losses(trainable, batches)
        finally:
            self._base.model.train()
        metrics = np.asarray(sum(rows, np.float64(0)))
        if math.isfinite(float(metrics.flat[0])):
            return metrics, []
        return metrics, [number for number, row in zip(numbers, rows, strict=True) if not np.isfinite(row).all()]
