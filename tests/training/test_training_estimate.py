"""The estimate counts what training would see and takes no step."""

from __future__ import annotations

import gc

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.events import ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import memory
from mondrian_core.training.training_estimate import estimate_training
from mondrian_core.training.training_examples import encode_training_rows

pytestmark = pytest.mark.mini


def test_estimate_counts_training_tokens(base: BaseVLM, rows: list[DatasetRow]) -> None:
    names = [name for name, _ in tree_flatten(base.model.parameters())]
    recipe = TrainRecipe(rank=4, epochs=3, accumulation=2)
    found = estimate_training(base, rows, rows[:1], recipe)
    examples = encode_training_rows(base, rows, recipe, ignore_events, "")
    assert found.tokens == sum(example.length for example in examples)
    assert found.supervised_tokens == sum(len(example.answer) for example in examples)
    assert found.longest_row == max(example.length for example in examples)
    assert (found.rows, found.validation_rows, found.steps) == (5, 1, 9)
    assert found.seconds > 0 and found.peak_bytes > 1_000_000 and found.fits and not found.problem
    assert 4 * found.trainable < found.peak_bytes
    assert [name for name, _ in tree_flatten(base.model.parameters())] == names


def test_a_row_over_the_limit_does_not_fit(base: BaseVLM, rows: list[DatasetRow]) -> None:
    found = estimate_training(base, rows[:1], [], TrainRecipe(max_tokens=64))
    assert not found.fits and "allows 64" in found.problem


def test_estimate_compares_memory_with_machine(
    base: BaseVLM, rows: list[DatasetRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mondrian_core.training.training_estimate.machine_memory", lambda: 1000)
    found = estimate_training(base, rows[:1], [], TrainRecipe(accumulation=1))
    assert not found.fits and "this machine has" in found.problem


def test_estimate_without_rows_is_rejected(base: BaseVLM) -> None:
    with pytest.raises(BadInput, match="no rows"):
        estimate_training(base, [], [], TrainRecipe())


def test_auto_checkpointing_follows_memory(
    base: BaseVLM, rows: list[DatasetRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step holds much less, and the formula that decides is within a factor of two of what a step holds."""
    gc.collect()
    held = mx.get_active_memory()  # by this process: other tests keep models too
    plenty = estimate_training(base, rows[:1], [], TrainRecipe(accumulation=1, rank=4))
    examples = encode_training_rows(base, rows[:1], TrainRecipe(), ignore_events, "")
    guessed = memory.activation_bytes(base, examples[0].length, 4)
    weights = sum(array.nbytes for _, array in tree_flatten(base.model.parameters()))
    assert not plenty.gradient_checkpointing
    assert 0.5 < guessed / (plenty.peak_bytes - held) < 2
    monkeypatch.setattr(memory, "machine_memory", lambda: (weights + guessed) / 0.7)
    short = estimate_training(base, rows[:1], [], TrainRecipe(accumulation=1, rank=4))
    assert short.gradient_checkpointing
    assert short.peak_bytes - held < 0.75 * (plenty.peak_bytes - held)
    off = estimate_training(base, rows[:1], [], TrainRecipe(accumulation=1, rank=4, gradient_checkpointing="off"))
    assert not off.gradient_checkpointing


def test_dora_needs_more_activation_memory(base: BaseVLM, rows: list[DatasetRow]) -> None:
    """Of what is guessed that it holds more, at least half is there and not twice as much."""
    gc.collect()
    held, peaks = mx.get_active_memory(), []
    for dora in (False, True):
        recipe = TrainRecipe(accumulation=1, rank=4, dora=dora, gradient_checkpointing="off")
        peaks.append(estimate_training(base, rows[:1], [], recipe).peak_bytes - held)
    length = encode_training_rows(base, rows[:1], TrainRecipe(), ignore_events, "")[0].length
    guessed = [memory.activation_bytes(base, length, 4, dora=dora) for dora in (False, True)]
    assert 0.5 < (peaks[1] - peaks[0]) / (guessed[1] - guessed[0]) < 2
