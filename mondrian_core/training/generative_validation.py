"""Validation by generation: are the adapter's answers valid, and how far are their scores from the advisor's?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.events import EventListener, StageProgressed
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.generation import Generation, generate
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, MAX_ANSWER_TOKENS, MAX_SCORE, MIN_SCORE


@dataclass(frozen=True)
class GenerativeValidation:
    """An adapter's greedy, unconstrained answers about validation photographs.

    Attributes:
        photographs: number of photographs.
        valid: answers that the strict reader accepts and that are not truncated.
        score_error: mean over photographs and dimensions of the squared difference (points^2) between the advisor's
            score and the expected score; a missing score counts as the worst possible one.
    """

    photographs: int
    valid: int
    score_error: float


def validate_by_generation(
    base: BaseVLM,
    weights: dict[str, mx.array] | None,
    rows: Sequence[DatasetRow],
    recipe: TrainRecipe,
    listen: EventListener,
) -> GenerativeValidation:
    """Let the adapter in training answer about some photographs.

    The training layers are detached meanwhile, so the answers come from the decoder of evaluation and service. They are
    attached again with fresh arrays, because a step receives its arrays as arguments.

    Args:
        base: the base with attached layers.
        weights: the adapter's arrays; None: the base alone answers.
        rows: rows with the photographs and the advisor's scores.
        recipe: settings of the training.
        listen: receives progress.
    """
    with tempfile.TemporaryDirectory(prefix="mondrian-epoch-") as name:
        folder = Path(name)
        if weights is not None:
            lora_layers.save_attached_adapter(base, folder, weights)
        lora_layers.detach_lora(base)
        mounted = lora_layers.get_adapter_switch(base)
        try:
            mounted.use(None if weights is None else folder)
            answers = [_answer(base, row, number, len(rows), listen) for number, row in enumerate(rows)]
        finally:
            mounted.use(None)
            lora_layers.attach_lora(base, recipe, recipe.seed)
            base.model.train()
    return score_validation_answers(rows, answers)


def _answer(base: BaseVLM, row: DatasetRow, number: int, total: int, listen: EventListener) -> Generation:
    answer = generate(base, row.messages, row.image, max_tokens=MAX_ANSWER_TOKENS)
    listen(StageProgressed("validate", number + 1, total, "answers"))
    return answer


def score_validation_answers(rows: Sequence[DatasetRow], answers: Sequence[Generation]) -> GenerativeValidation:
    """Count valid answers and compare their scores with the advisor's."""
    errors = [_error(row.scores, answer.expected_scores) for row, answer in zip(rows, answers, strict=True)]
    return GenerativeValidation(len(rows), sum(_is_valid(answer) for answer in answers), sum(errors) / len(errors))


def _is_valid(answer: Generation) -> bool:
    try:
        parse_critique_strict(answer.text)
    except CritiqueParseError:
        return False
    return answer.finish_reason == "stop"


def _error(truth: Mapping[str, float], expected: Mapping[str, float]) -> float:
    squares = [
        (expected[name] - truth[name]) ** 2 if math.isfinite(expected.get(name, math.nan)) else _worst(truth[name])
        for name in DIMENSIONS
    ]
    return sum(squares) / len(squares)


def _worst(score: float) -> float:
    return float(max(score - MIN_SCORE, MAX_SCORE - score) ** 2)
