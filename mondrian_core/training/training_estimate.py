"""Estimate time and memory of a training from its rows' tokens and a probe of a few layers; nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mondrian_core.dataset_types import DatasetRow, PreferencePair
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageProgressed, ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.model_memory import ModelSize, loaded_model_size, machine_memory
from mondrian_core.models.prompt_encoding import answer_token_ids
from mondrian_core.models.service_memory import memory_of_services
from mondrian_core.models.token_counting import token_counter_of
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.gradient_step import most_rows_at_once
from mondrian_core.training.memory import (
    MemoryPlan,
    TrainingLoad,
    memory_advice,
    memory_problem,
    plan_training_memory,
)
from mondrian_core.training.step_probe import StepProbe, probe_training_step
from mondrian_core.training.trainer import NO_PREFERENCE_PAIRS, PreferencePairSplit
from mondrian_core.training.training_examples import padded_length

_STAGE = "estimate"
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
        seconds: expected time, with the answers; early stopping and rows that are computed at once shorten it.
        answers: answers about validation photographs, of all epochs.
        answer_seconds: part of `seconds` that these answers take.
        peak_bytes: predicted peak memory of MLX. Where the probe took more than predicted, it counts.
        probe_share: peak memory of the probe as a share of the prediction for the probe; 0 without a probe.
        memory_bytes: memory that MLX may use on this machine.
        service_bytes: part of that which services on this machine may take.
        gradient_checkpointing: True if layers are recomputed to save memory.
        rows_at_once: rows that are computed at the same time.
        fits: False if the longest row exceeds the recipe's limit, or if memory isn't sufficient.
        problem: why it doesn't fit; "" if it does.
        next_step: what to change if it doesn't fit.
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
    answers: int
    answer_seconds: float
    peak_bytes: int
    probe_share: float
    memory_bytes: int
    service_bytes: int
    gradient_checkpointing: bool
    rows_at_once: int
    fits: bool
    problem: str
    next_step: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _RowTokens:
    """Tokens of a row: text before the answer, photograph, answer with its end token (of a pair: both answers)."""

    text: int
    photograph: int
    answer: int
    answers: int = 1

    @property
    def length(self) -> int:
        """Tokens that the language model reads."""
        return self.text + self.photograph + self.answer - self.answers


def estimate_training(
    base: BaseVLM,
    rows: Sequence[DatasetRow],
    validation: Sequence[DatasetRow],
    recipe: TrainRecipe,
    listen: EventListener = ignore_events,
    pairs: PreferencePairSplit = NO_PREFERENCE_PAIRS,
) -> TrainingEstimate:
    """Count the tokens of every row and pair, predict the memory, and probe a few layers for the time.

    Args:
        base: the base; weights that were not read stay so, but for a few layers.
        rows: training rows.
        validation: validation rows.
        recipe: settings of the training.
        listen: receives progress.
        pairs: pairs for preference tuning.

    Raises:
        BadInput: there are no rows.
        BadRecipe: a target module is not a linear layer of the language model.
    """
    if not rows:
        raise BadInput("There are no rows to train on.", "Run `mondrian link` to see why records were left out.")
    lora_layers.resolve_target_modules(base, recipe.target_modules)
    counted, judged, pairs_counted, pairs_judged = _count_tokens(base, rows, validation, recipe, pairs, listen)
    size, held = loaded_model_size(base), memory_of_services()
    longest = max(row.length for row in (*counted, *judged))
    loads = [_load(counted, judged, min(len(validation), recipe.answered_photographs))]
    if pairs_counted:
        loads.append(replace(_load(pairs_counted, pairs_judged, loads[0].answered_rows), preference=True))
    plans = [plan_training_memory(size, recipe, load, most_rows_at_once(), machine_memory() - held) for load in loads]
    plan = max(plans, key=lambda each: each.memory.peak)
    over = longest > recipe.max_tokens
    probe = StepProbe(row_seconds=0.0, token_seconds=0.0, share_of_predicted=0.0)
    if not over:
        probe = probe_training_step(
            base,
            size,
            recipe,
            loads[0],
            checkpointing=plan.checkpointing,
            on_probe=lambda done, total: listen(StageProgressed(_STAGE, done, total, "probes of a few layers")),
        )
        plan = _at_least_as_probed(plan, probe)
    answers, answer_seconds = _answering(counted, judged, recipe, probe, loads[0])
    per_token = probe.row_seconds / loads[0].tokens
    passes = _passes(counted, judged, recipe.epochs) + _preference_passes(pairs_counted, pairs_judged, recipe)
    problem, next_step = _problem(plan, size, recipe, max(loads, key=lambda load: load.tokens), longest, held)
    return TrainingEstimate(
        rows=len(rows),
        validation_rows=len(validation),
        tokens=sum(row.length for row in counted),
        supervised_tokens=sum(row.answer for row in counted),
        longest_row=longest,
        pairs=len(pairs_counted),
        steps=_steps(len(rows), recipe, recipe.epochs) + _steps(len(pairs_counted), recipe, recipe.preference_epochs),
        trainable=size.adapter_parameters(recipe.rank, recipe.target_modules, dora=recipe.dora),
        seconds=round(per_token * passes + answer_seconds, 1),
        answers=answers,
        answer_seconds=round(answer_seconds, 1),
        peak_bytes=plan.memory.peak,
        probe_share=round(probe.share_of_predicted, 3),
        memory_bytes=machine_memory(),
        service_bytes=held,
        gradient_checkpointing=plan.checkpointing,
        rows_at_once=plan.rows_at_once,
        fits=not problem,
        problem=problem,
        next_step=next_step,
    )


def _count_tokens(
    base: BaseVLM,
    rows: Sequence[DatasetRow],
    validation: Sequence[DatasetRow],
    recipe: TrainRecipe,
    pairs: PreferencePairSplit,
    listen: EventListener,
) -> tuple[list[_RowTokens], list[_RowTokens], list[_RowTokens], list[_RowTokens]]:
    """Tokens of training rows, validation rows, pairs and validation pairs; no pairs if there are too few."""
    count, wanted = token_counter_of(base), bool(recipe.preference_epochs)
    total, done = len(rows) + len(validation) + wanted * (len(pairs.train) + len(pairs.validation)), 0

    def counted(row: DatasetRow) -> _RowTokens:
        nonlocal done
        done += 1
        found = _RowTokens(*count(row.messages, row.image, row.answer))
        listen(StageProgressed(_STAGE, done, total, "rows counted"))
        return found

    def counted_pairs(some: Sequence[PreferencePair]) -> list[_RowTokens]:
        found = []
        for pair in some:
            row, rejected = counted(pair.row), len(answer_token_ids(base, pair.row.messages, pair.rejected))
            if row.text + row.photograph + max(row.answer, rejected) - 1 <= recipe.max_tokens:
                found.append(replace(row, answer=row.answer + rejected, answers=2))
        return found

    trained, judged = [counted(row) for row in rows], [counted(row) for row in validation]
    if not wanted:
        return trained, judged, [], []
    learned, held_out = counted_pairs(pairs.train), counted_pairs(pairs.validation)
    return (
        (trained, judged, learned, held_out) if len(learned) >= recipe.preference_pairs else (trained, judged, [], [])
    )


def _load(rows: Sequence[_RowTokens], judged: Sequence[_RowTokens], answered: int) -> TrainingLoad:
    every = [*rows, *judged]
    return TrainingLoad(
        tokens=padded_length(max(row.length for row in every)),
        answer_tokens=padded_length(max(row.answer for row in every)),
        image_tokens=max(row.photograph for row in every),
        validation_rows=len(judged),
        answered_rows=answered,
    )


def _at_least_as_probed(plan: MemoryPlan, probe: StepProbe) -> MemoryPlan:
    """The plan, with a step that takes at least as much as the probe's share."""
    step = int(plan.memory.step * max(1.0, probe.share_of_predicted))
    return replace(plan, memory=replace(plan.memory, step=step))


def _answering(
    rows: Sequence[_RowTokens], judged: Sequence[_RowTokens], recipe: TrainRecipe, probe: StepProbe, load: TrainingLoad
) -> tuple[int, float]:
    """(answers about validation photographs, seconds); an answer is as long as a critique of the rows."""
    rounds = recipe.epochs + 1 + (recipe.preference_epochs + 1 if recipe.preference_epochs else 0)
    answers = load.answered_rows * rounds
    prompt = sum(row.text + row.photograph for row in judged) / max(1, len(judged))
    length = sum(row.answer for row in rows) / len(rows)
    prefill = _FORWARD_SHARE * probe.row_seconds * prompt / load.tokens
    return answers, answers * (prefill + length * probe.token_seconds)


def _steps(rows: int, recipe: TrainRecipe, epochs: int) -> int:
    return math.ceil(rows / recipe.accumulation) * epochs


def _passes(rows: Sequence[_RowTokens], judged: Sequence[_RowTokens], epochs: int) -> float:
    """Tokens that go forward and backward, or as many forward alone as cost the same."""
    learned, measured = (sum(row.length for row in some) for some in (rows, judged))
    return learned * epochs + measured * (epochs + 1) * _FORWARD_SHARE


def _preference_passes(pairs: Sequence[_RowTokens], judged: Sequence[_RowTokens], recipe: TrainRecipe) -> float:
    """As `_passes`; the reference is computed once for every pair."""
    reference = sum(row.length for row in (*pairs, *judged)) * _FORWARD_SHARE
    return _passes(pairs, judged, recipe.preference_epochs) + reference


def _problem(
    plan: MemoryPlan, size: ModelSize, recipe: TrainRecipe, load: TrainingLoad, longest: int, held: int
) -> tuple[str, str]:
    """Why it doesn't fit, and what to change; two empty texts if it does.

    Args:
        plan: what it takes.
        size: sizes of the base.
        recipe: settings of the training.
        load: the longest rows or pairs.
        longest: tokens of the longest row.
        held: bytes of services on this machine.
    """
    if longest > recipe.max_tokens:
        return (
            f"The longest row has {longest} tokens, the recipe allows {recipe.max_tokens}.",
            "Shorten its critique, use smaller photographs, or raise max_tokens in the recipe's [train].",
        )
    if plan.fits:
        return "", ""
    return memory_problem(plan, held), memory_advice(size, recipe, load, plan, held)
