"""Validation by answering: the form of the answers and the error of their scores, which the loss only hints at."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.events import EventListener, StageProgressed
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.generation import Generation, generate
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, MAX_ANSWER_TOKENS, MAX_SCORE, MIN_SCORE
from mondrian_core.training.ranks import Ranks


@dataclass(frozen=True)
class GenerativeValidation:
    """What an adapter answered about validation photographs, greedily and unconstrained.

    Attributes:
        photographs: how many were asked about.
        valid: answers that are strictly in form and not cut.
        score_error: mean over photographs and dimensions of the squared difference (points^2) between the advisor's
            score and the expected value over the score tokens; a score that wasn't given counts as the worst legal one.
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
    """Let the adapter that is being trained answer; with `weights` None the base, before the first step.

    The layers of training are taken off meanwhile and put on again with fresh arrays: a step takes its arrays as
    arguments. So the answers come from the decoder that evaluation and the service use.
    """
    with tempfile.TemporaryDirectory(prefix="mondrian-epoch-") as name:
        folder = Path(name)
        if weights is not None:
            lora_layers.save_attached_adapter(base, folder, weights)
        lora_layers.detach_lora(base)
        mounted = lora_layers.get_adapter_switch(base)
        try:
            mounted.use(None if weights is None else folder)
            found = [_answer(base, row, number, len(rows), listen) for number, row in enumerate(rows)]
        finally:
            mounted.use(None)
            lora_layers.attach_lora(base, recipe, recipe.seed)
            base.model.train()
    return score_validation_answers(rows, found)


def _answer(base: BaseVLM, row: DatasetRow, number: int, total: int, listen: EventListener) -> Generation:
    said = generate(base, row.messages, row.image, max_tokens=MAX_ANSWER_TOKENS)
    listen(StageProgressed("validate", number + 1, total, "answers"))
    return said


def score_validation_answers(rows: Sequence[DatasetRow], found: Sequence[Generation]) -> GenerativeValidation:
    """Count and compare."""
    errors = [_error(row.scores, said.expected_scores) for row, said in zip(rows, found, strict=True)]
    return GenerativeValidation(len(rows), sum(_valid(said) for said in found), sum(errors) / len(errors))


def together(found: GenerativeValidation | None, ranks: Ranks) -> GenerativeValidation | None:
    """What all ranks found; None: this one was asked about nothing."""
    if ranks.size == 1:
        return found
    count, valid, error = (0, 0, 0.0) if found is None else (found.photographs, found.valid, found.score_error)
    all_counted, all_valid, all_errors = ranks.sums(np.array([count, valid, count * error]))
    return GenerativeValidation(round(all_counted), round(all_valid), float(all_errors / all_counted))


def _valid(said: Generation) -> bool:
    try:
        parse_critique_strict(said.text)
    except CritiqueParseError:
        return False
    return said.finish_reason == "stop"


def _error(wanted: Mapping[str, float], found: Mapping[str, float]) -> float:
    squares = [
        (found[name] - wanted[name]) ** 2 if math.isfinite(found.get(name, math.nan)) else _worst(wanted[name])
        for name in DIMENSIONS
    ]
    return sum(squares) / len(squares)


def _worst(score: float) -> float:
    return float(max(score - MIN_SCORE, MAX_SCORE - score) ** 2)
