"""Preference tuning by numbers: the loss, both answers in one pass, the reference, and a phase from end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import (
    ACCEPTED_CROP,
    CORRECTION,
    OTHER_PHOTOGRAPH,
    RECOMMENDATION,
    DatasetRow,
    PreferencePair,
)
from mondrian_core.errors import BadInput
from mondrian_core.events import StageEvent, StageNotice, StageProgressed, ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import PreferencePairSplit, TrainingResult, TrainingRows, dpo_references, train_adapter
from mondrian_core.training.dpo import (
    DPO_METRICS,
    PreferenceExample,
    answer_log_likelihoods,
    dpo_loss,
    dpo_objective,
    encode_preference_pairs,
    make_preference_batch,
)
from mondrian_core.training.gradient_step import GradientStep, token_losses
from mondrian_core.training.training_estimate import estimate_training
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch
from tests.training.conftest import make_row

pytestmark = pytest.mark.mini
RECIPE = TrainRecipe(
    rank=4,
    alpha=8,
    epochs=1,
    accumulation=2,
    learning_rate=5e-3,
    answered_photographs=0,
    preference_epochs=2,
    preference_pairs=2,
    preference_learning_rate=2e-3,
)


def make_pairs(numbers: Sequence[int], shift: int = 1) -> list[PreferencePair]:
    """Each photograph's critique against that of another one; the lengths differ."""
    rows = [make_row(number, words=1 + number % 3) for number in numbers]
    return [PreferencePair(row, rows[(at + shift) % len(rows)].answer, OTHER_PHOTOGRAPH) for at, row in enumerate(rows)]


def encoded(base: BaseVLM, pairs: Sequence[PreferencePair], recipe: TrainRecipe = RECIPE) -> list[PreferenceExample]:
    return encode_preference_pairs(base, pairs, recipe, ignore_events, "")


@pytest.fixture
def changed(base: BaseVLM) -> Iterator[BaseVLM]:
    """mini with an adapter that changes it."""
    lora_layers.attach_lora(base, RECIPE, 3)
    rng = np.random.default_rng(0)
    moved = {
        name: mx.array(rng.normal(scale=0.02, size=array.shape).astype(np.float32))
        for name, array in lora_layers.attached_parameters(base).items()
        if name.endswith("lora_b")
    }
    lora_layers.load_attached_parameters(base, moved)
    base.model.eval()
    yield base
    lora_layers.detach_lora(base)


def alone(base: BaseVLM, row: DatasetRow, answer: str) -> float:
    """log p of an answer, by the pass of the training before."""
    (example,) = encode_training_rows(base, [replace(row, answer=answer)], RECIPE, ignore_events, "")
    _, losses = token_losses(base, make_training_batch(base, example, example.prompt.image_tokens, 1.0))
    return -float(np.array(losses)[: len(example.answer)].astype(np.float64).sum())


@pytest.mark.parametrize(("margin", "smoothing"), [(0.0, 0.0), (1.7, 0.0), (-2.5, 0.1), (30.0, 0.2)])
def test_dpo_loss_matches_formula(margin: float, smoothing: float) -> None:
    chance = 1 / (1 + math.exp(-margin))
    by_hand = -(1 - smoothing) * math.log(chance) + smoothing * (margin + math.log1p(math.exp(-margin)))
    loss, slope = mx.value_and_grad(lambda m: dpo_loss(m, smoothing))(mx.array(margin))
    assert loss.item() == pytest.approx(by_hand, rel=1e-5, abs=1e-7)
    assert slope.item() == pytest.approx(-(1 - smoothing) * (1 - chance) + smoothing * chance, abs=1e-6)


def test_pair_in_one_pass_matches_single_passes(changed: BaseVLM) -> None:
    for pair, example in zip(make_pairs([1, 2, 6]), encoded(changed, make_pairs([1, 2, 6])), strict=True):
        assert len(example.chosen) != len(example.rejected)
        batch = make_preference_batch(changed, example, example.prompt.image_tokens + 3, 1.0)
        found = np.array(answer_log_likelihoods(changed, batch))
        expected = [alone(changed, pair.row, pair.row.answer), alone(changed, pair.row, pair.rejected)]
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_dpo_gradient_at_zero_margin(changed: BaseVLM) -> None:
    """Rafailov et al., section 4: beta sigma(-m) (grad log p(chosen) - grad log p(rejected)), sigma(0) = 1/2."""
    recipe = RECIPE.model_copy(update={"preference_beta": 0.3, "preference_nll": 0.0})
    (example, _) = encoded(changed, make_pairs([1, 2]), recipe)
    trainable = changed.model.trainable_parameters()
    plain = make_preference_batch(changed, example, example.prompt.image_tokens, 1.0)
    now = np.array(answer_log_likelihoods(changed, plain))
    batch = make_preference_batch(
        changed, replace(example, references=(float(now[0]), float(now[1]))), example.prompt.image_tokens, 1.0
    )
    objective = dpo_objective(recipe)
    figures, gradient = GradientStep(changed, compiled=False, threads=1, loss=objective.loss).loss_and_grad(
        trainable, [batch]
    )
    loss, right, margin, *rewards = np.array(figures)
    assert (loss, right, margin) == (pytest.approx(math.log(2), abs=1e-5), 0.5, 0.0)
    np.testing.assert_allclose(rewards, 0, atol=1e-4)

    def difference(parameters: Any) -> mx.array:
        changed.model.update(parameters)
        both = answer_log_likelihoods(changed, plain)
        return both[0] - both[1]

    expected = dict(tree_flatten(mx.grad(difference)(trainable)))
    changed.model.update(trainable)
    for name, array in tree_flatten(gradient):
        np.testing.assert_allclose(np.array(array), -0.3 / 2 * np.array(expected[name]), atol=2e-5, err_msg=name)


def test_dpo_nll_matches_supervised_loss(changed: BaseVLM) -> None:
    """With references of minus infinity's size the preference is settled, and N alone is left."""
    recipe = RECIPE.model_copy(update={"preference_nll": 0.7})
    pair = make_pairs([4, 5])[0]
    example = replace(encoded(changed, [pair], recipe)[0], references=(-1e5, 1e5))
    step = GradientStep(changed, compiled=False, threads=1, loss=dpo_objective(recipe).loss)
    batch = make_preference_batch(changed, example, example.prompt.image_tokens, 0.5)
    found = step.total_loss(changed.model.trainable_parameters(), [batch])
    (row,) = encode_training_rows(changed, [pair.row], recipe, ignore_events, "")
    batches = [make_training_batch(changed, row, row.prompt.image_tokens, 1 / row.weight)]
    nll = float(
        GradientStep(changed, compiled=False, threads=1).total_loss(changed.model.trainable_parameters(), batches)
    )
    assert found[0] == pytest.approx(0.5 * 0.7 * nll, rel=1e-4)
    assert found[1] == 0.5 and len(found) == 1 + len(DPO_METRICS)


def test_dpo_metrics_are_the_same_compiled_checkpointed_threaded(changed: BaseVLM) -> None:
    examples = encoded(changed, make_pairs([1, 2]))
    changed.model.train()

    def found(**how: Any) -> list[np.ndarray]:
        step = GradientStep(changed, loss=dpo_objective(RECIPE).loss, **how)
        batches = [make_preference_batch(changed, each, 16, 0.5) for each in examples]
        figures, gradient = step.loss_and_grad(changed.model.trainable_parameters(), batches)
        step.close()
        return [np.array(figures), *(np.array(array) for _, array in sorted(tree_flatten(gradient)))]

    eager = found(compiled=False, threads=1)
    # one thread of ours leaves the BLAS all of its own, whose sums have another order
    for how in (
        {"compiled": False, "threads": 2},
        {"compiled": True},
        {"compiled": False, "threads": 1, "checkpointing": True},
    ):
        for one, other in zip(eager, found(**how), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    changed.model.eval()


@pytest.mark.parametrize("what", ["base", "start"])
def test_reference_is_base_or_start_adapter(base: BaseVLM, tmp_path: Path, what: str) -> None:
    recipe = RECIPE.model_copy(update={"preference_reference": what})
    pairs = make_pairs([1, 2])
    examples = encoded(base, pairs, recipe)
    lora_layers.attach_lora(base, recipe, recipe.seed)
    rng = np.random.default_rng(1)
    start = {
        name: mx.array(rng.normal(scale=0.02, size=array.shape).astype(np.float32))
        for name, array in lora_layers.attached_parameters(base).items()
    }
    if what == "start":
        lora_layers.load_attached_parameters(base, start)
    else:
        lora_layers.detach_lora(base)
    base.model.eval()
    expected = [[alone(base, pair.row, pair.row.answer), alone(base, pair.row, pair.rejected)] for pair in pairs]
    lora_layers.detach_lora(base)
    found = dpo_references.load_or_compute_references(base, examples, recipe, tmp_path, start, ignore_events)
    np.testing.assert_allclose([found[each.key] for each in examples], expected, rtol=2e-5)
    assert not any(hasattr(module, "lora_a") for _, module in base.model.named_modules())


def test_references_are_cached_by_their_inputs(base: BaseVLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = GradientStep.row_losses

    def counted(self: GradientStep, trainable: Any, batches: Sequence[Any]) -> Any:
        asked.append(len(batches))
        return real(self, trainable, batches)

    monkeypatch.setattr(GradientStep, "row_losses", counted)
    examples, start = encoded(base, make_pairs([1, 2, 3])), {"any": mx.ones((2, 2))}

    def found(some: list[PreferenceExample], recipe: TrainRecipe = RECIPE) -> int:
        asked.clear()
        first = dpo_references.load_or_compute_references(base, some, recipe, tmp_path, start, ignore_events)
        assert all(first[each.key][0] < 0 for each in some)
        return sum(asked)

    assert found(examples[:2]) == 2
    assert found(examples[:2]) == 0, "read, not asked again"
    assert found(examples) == 1, "only what is new"
    other = encoded(base, [replace(make_pairs([1, 2, 3])[0], rejected=make_row(9).answer)])
    assert found(other) == 1, "another answer is another pair"
    (tmp_path / dpo_references.REFERENCES_FILE).write_text("{ cut off")
    assert found(examples) == 3
    kept = json.loads((tmp_path / dpo_references.REFERENCES_FILE).read_text())
    (tmp_path / dpo_references.REFERENCES_FILE).write_text(json.dumps({**kept, "key": "of another base"}))
    assert found(examples) == 3


def bytes_of(result: TrainingResult) -> bytes:
    return (result.adapter / "adapters.safetensors").read_bytes()


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.timeout(600)
def test_held_out_pairs_become_preferred(base: BaseVLM, tmp_path: Path) -> None:
    """The person's wish is plain here: many words, not one. The base is bit for bit what it was."""
    before = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}

    def wishes(numbers: range) -> list[PreferencePair]:
        return [
            PreferencePair(make_row(number, words=1), make_row(number, words=3).answer, kind)
            for number, kind in zip(numbers, (CORRECTION, CORRECTION, RECOMMENDATION, ACCEPTED_CROP), strict=False)
        ]

    recipe = RECIPE.model_copy(update={"preference_epochs": 3, "preference_reference": "start"})
    rows = [make_row(number) for number in range(2)]
    pairs = PreferencePairSplit(wishes(range(4)), wishes(range(10, 13)))
    result = train_adapter(base, TrainingRows(rows, pairs=pairs), recipe, tmp_path)
    told = result.preference
    assert told is not None and (told.pairs, told.validation_pairs) == (4, 3)
    assert (told.corrections, told.recommendations, told.crops) == (2, 1, 1)
    assert told.start_accuracy == 0.5, "compared with itself nothing is preferred"
    assert told.start_margin == pytest.approx(0, abs=1e-4), "but for the rounding of sums of many tokens"
    assert told.accuracy == 1.0 and told.margin is not None and told.margin > 0.1
    assert told.best_epoch > 0 and result.steps == 1 + told.steps == 1 + 6
    lines = [line for line in lines_of(tmp_path) if line.get("phase") == "preference"]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert all(name in line for line in lines if line["kind"] == "step" for name in DPO_METRICS)
    judged = [line["validation_margin"] for line in lines if line["kind"] == "epoch"]
    assert len(judged) == 4 and judged[-1] > judged[0]
    after = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}
    assert list(before) == list(after) and all(np.array_equal(before[name], after[name]) for name in before)
    assert (
        lora_layers.validate_adapter_folder(base, result.adapter)
        == lora_layers.validate_adapter_folder(base, tmp_path / "preference" / "start")
        == ()
    )
    assert bytes_of(result) != (tmp_path / "preference" / "start" / "adapters.safetensors").read_bytes()


class Interrupter:
    """Interrupts as Ctrl-C does, in the phase after the first one."""

    def __init__(self, after: int) -> None:
        self.after, self.events = after, list[StageEvent]()

    def __call__(self, event: StageEvent) -> None:
        self.events.append(event)
        if isinstance(event, StageProgressed) and event.stage == "preference" and event.done == self.after:
            raise KeyboardInterrupt


@pytest.mark.timeout(600)
def test_resumed_preference_tuning_is_bit_equal(base: BaseVLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with dropout; and what has been asked of the reference isn't asked again."""
    recipe = RECIPE.model_copy(update={"dropout": 0.1})
    rows, pairs = (
        [make_row(number) for number in range(2)],
        PreferencePairSplit(make_pairs([1, 2, 3]), make_pairs([7, 8])),
    )
    whole = train_adapter(base, TrainingRows(rows, pairs=pairs), recipe, tmp_path / "whole")
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train_adapter(base, TrainingRows(rows, pairs=pairs), recipe, out, listen=Interrupter(1))

    def asked_again(*_: Any) -> None:
        raise AssertionError("the reference was asked again")

    monkeypatch.setattr(dpo_references, "_compute", asked_again)
    listener = Interrupter(99)
    resumed = train_adapter(base, TrainingRows(rows, pairs=pairs), recipe, out, resume=True, listen=listener)
    assert any(
        isinstance(event, StageNotice) and "Resumed after step 1 of 4" in event.message for event in listener.events
    )
    assert bytes_of(resumed) == bytes_of(whole)
    assert lines_of(out) == lines_of(tmp_path / "whole")
    assert resumed.preference == whole.preference
    other = recipe.model_copy(update={"preference_beta": 0.5})
    with pytest.raises(BadInput, match="recipe changed"):
        train_adapter(base, TrainingRows(rows, pairs=pairs), other, out, resume=True)


def test_finished_training_can_be_tuned_later(base: BaseVLM, tmp_path: Path) -> None:
    rows, heard = [make_row(number) for number in range(2)], list[StageEvent]()
    plain = train_adapter(
        base,
        TrainingRows(rows),
        RECIPE.model_copy(update={"preference_epochs": 0}),
        tmp_path,
    )
    first = bytes_of(plain)
    few = train_adapter(
        base,
        TrainingRows(rows, pairs=PreferencePairSplit(make_pairs([1, 2])[:1])),
        RECIPE,
        tmp_path,
        resume=True,
        listen=heard.append,
    )
    assert any(isinstance(event, StageNotice) and "There are 1 pairs" in event.message for event in heard)
    assert few.preference is None and bytes_of(few) == first
    tuned = train_adapter(
        base, TrainingRows(rows, pairs=PreferencePairSplit(make_pairs([1, 2]))), RECIPE, tmp_path, resume=True
    )
    assert tuned.preference is not None and tuned.preference.best_epoch == 2, "without validation the last epoch"
    assert bytes_of(tuned) != first == (tmp_path / "preference" / "start" / "adapters.safetensors").read_bytes()


def test_too_long_pair_is_left_out_with_notice(base: BaseVLM) -> None:
    pairs = make_pairs([1, 2])
    long = replace(pairs[0], rejected=make_row(1, words=60).answer)
    lengths = [len(each.prompt.ids) + max(len(each.chosen), len(each.rejected)) for each in encoded(base, pairs)]
    heard: list[StageEvent] = []
    found = encode_preference_pairs(
        base, [long, pairs[1]], RECIPE.model_copy(update={"max_tokens": max(lengths)}), heard.append, ""
    )
    assert [each.photo_id for each in found] == [pairs[1].row.photo_id]
    assert any(isinstance(event, StageNotice) and "1 pairs are left out" in event.message for event in heard)


def test_start_adapter_is_kept_if_no_epoch_is_better(base: BaseVLM, tmp_path: Path) -> None:
    """A rate that wrecks the likelihoods: the validation pairs get worse, so the start is the result."""
    wrecking = {"preference_epochs": 1, "preference_reference": "start", "preference_learning_rate": 0.05}
    recipe = RECIPE.model_copy(update=wrecking)
    pairs = make_pairs([1, 2])
    turned = [
        PreferencePair(replace(pair.row, answer=pair.rejected), pair.row.answer, OTHER_PHOTOGRAPH) for pair in pairs
    ]
    result = train_adapter(
        base, TrainingRows([make_row(1)], pairs=PreferencePairSplit(pairs, turned)), recipe, tmp_path
    )
    assert result.preference is not None and result.preference.best_epoch == 0
    assert bytes_of(result) == (tmp_path / "preference" / "start" / "adapters.safetensors").read_bytes()


def test_estimate_includes_preference_tuning(base: BaseVLM) -> None:
    rows, pairs = [make_row(number) for number in range(3)], make_pairs([1, 2, 3])
    plain = estimate_training(
        base, rows, [], RECIPE.model_copy(update={"preference_epochs": 0}), ignore_events, PreferencePairSplit(pairs)
    )
    tuned = estimate_training(base, rows, [], RECIPE, ignore_events, PreferencePairSplit(pairs, make_pairs([7, 8])))
    few = estimate_training(base, rows, [], RECIPE, ignore_events, PreferencePairSplit(pairs[:1]))
    assert (plain.pairs, plain.steps) == (few.pairs, few.steps) == (0, 2)
    assert (tuned.pairs, tuned.steps) == (3, 2 + 2 * 2)
    assert tuned.peak_bytes > plain.peak_bytes, "both answers go through at once"
    assert not any(hasattr(module, "lora_a") for _, module in base.model.named_modules())
