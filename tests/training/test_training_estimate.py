"""The estimate counts what training would see and takes no step."""

from __future__ import annotations

import pytest
from mlx.utils import tree_flatten

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.events import StageProgressed, ignore_events
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.model_memory import loaded_model_size
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.memory import plan_training_memory, predict_training_memory, training_load
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
    monkeypatch.setenv("MONDRIAN_MEMORY_GB", "0.001")
    found = estimate_training(base, rows[:1], [], TrainRecipe(accumulation=1))
    assert not found.fits and "it may take 0.0 GB here" in found.problem and "smaller or a packed" in found.next_step


def test_estimate_without_rows_is_rejected(base: BaseVLM) -> None:
    with pytest.raises(BadInput, match="no rows"):
        estimate_training(base, [], [], TrainRecipe())


def test_answers_about_validation_photographs_are_counted(base: BaseVLM, rows: list[DatasetRow]) -> None:
    """Two photographs before the first epoch and after each of three; they take time and none of the steps."""
    asked = TrainRecipe(accumulation=1, epochs=3, answered_photographs=2)
    silent = asked.model_copy(update={"answered_photographs": 0})
    found, none = (estimate_training(base, rows[:1], rows[1:4], each) for each in (asked, silent))
    assert (found.answers, none.answers, none.answer_seconds) == (2 * 4, 0, 0.0)
    assert 0 < found.answer_seconds < found.seconds and found.steps == none.steps


def test_the_probe_is_heard_and_leaves_the_base_as_it_was(base: BaseVLM, rows: list[DatasetRow]) -> None:
    heard: list[StageProgressed] = []
    layers = list(base.language_model.model.layers)
    unread = load_base("mini", weights=False)
    loaded, lazy = (
        estimate_training(each, rows[:1], [], TrainRecipe(accumulation=1), lambda event: heard.append(event))
        for each in (base, unread)
    )
    assert {each.detail for each in heard} == {"rows counted", "probes of a few layers"}
    assert base.language_model.model.layers == layers
    assert loaded.peak_bytes == pytest.approx(lazy.peak_bytes, rel=0.1)
    assert 0.7 < loaded.probe_share < 1.15, "a few layers take what is predicted for them"


def test_auto_checkpointing_follows_memory(
    base: BaseVLM, rows: list[DatasetRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what a step takes with and without it, checkpointing is on; below that rows are computed one by one."""
    size = loaded_model_size(base)
    recipe = TrainRecipe(accumulation=2, rank=4)
    load = training_load(encode_training_rows(base, rows[:1], recipe, ignore_events, ""))
    peaks = {
        (checkpointing, count): predict_training_memory(
            size, recipe, load, checkpointing=checkpointing, rows_at_once=count
        ).peak
        for checkpointing in (False, True)
        for count in (1, 2)
    }
    assert peaks[True, 1] < peaks[True, 2] < peaks[False, 1] < peaks[False, 2]
    ways = [plan_training_memory(size, recipe, load, 2, limit) for limit in (*peaks.values(), peaks[True, 1] - 1)]
    assert [(way.checkpointing, way.rows_at_once, way.fits) for way in ways] == [
        (True, 2, True),
        (False, 2, True),
        (True, 1, True),
        (True, 2, True),
        (True, 1, False),
    ]
    off = recipe.model_copy(update={"gradient_checkpointing": "off"})
    assert not plan_training_memory(size, off, load, 2, peaks[True, 2]).checkpointing
    on = recipe.model_copy(update={"gradient_checkpointing": "on"})
    assert plan_training_memory(size, on, load, 2, peaks[False, 2]).checkpointing
    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str(peaks[True, 1] / 1e9))
    assert estimate_training(base, rows[:1], [], recipe).gradient_checkpointing
