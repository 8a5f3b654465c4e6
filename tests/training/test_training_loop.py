"""A whole training: by numbers, through interruptions, and with what can go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput, BadRecipe, DiskFull, TrainingDiverged
from mondrian_core.events import StageEvent, StageNotice, StageProgressed
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.generation import generate
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import MAX_ANSWER_TOKENS
from mondrian_core.training import (
    TrainingResult,
    TrainingRows,
    generative_validation,
    train_adapter,
    trainer,
    training_loop,
)
from mondrian_core.training.checkpoints import load_checkpoint
from mondrian_core.training.generative_validation import GenerativeValidation, score_validation_answers
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.optimizer import apply_optimizer_step
from mondrian_core.training.training_examples import make_training_batch
from tests.training.conftest import files_of, make_row

pytestmark = pytest.mark.mini
NAN = float("nan")


def _bytes(result: TrainingResult) -> bytes:
    return (result.adapter / "adapters.safetensors").read_bytes()


def _lines(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


class _Interrupter:
    """Interrupts as Ctrl-C does, after so many optimizer steps."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.events: list[StageEvent] = []

    def __call__(self, event: StageEvent) -> None:
        self.events.append(event)
        if isinstance(event, StageProgressed) and event.stage == "train" and event.done == self.after:
            raise KeyboardInterrupt


def test_training_lowers_loss_keeps_base_and_loads_in_mlx_vlm(base: BaseVLM, tmp_path: Path) -> None:
    before = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}
    recipe = TrainRecipe(epochs=10, accumulation=1, learning_rate=1e-2, warmup_fraction=0.0)
    heard: list[StageEvent] = []
    result = train_adapter(base, TrainingRows([make_row(1)]), recipe, tmp_path, listen=heard.append)
    after = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    losses = [line["loss"] for line in _lines(tmp_path) if line["kind"] == "step"]
    assert len(losses) == result.steps == 10
    assert losses[-1] < 0.8 * losses[0]
    assert result.best_epoch == 10 and result.best_loss == pytest.approx(losses[-1])
    assert lora_layers.validate_adapter_folder(base, result.adapter) == ()
    assert files_of(tmp_path) == {"adapter", "training_log.jsonl", "loss_curve.png", "checkpoint.safetensors"}
    advanced = [event for event in heard if isinstance(event, StageProgressed) and event.stage == "train"]
    assert [event.done for event in advanced] == list(range(1, 11)) and "left" in advanced[0].detail
    from mlx_vlm import load

    model, _ = load(str(base.path), adapter_path=str(result.adapter))
    saved = mx.load(str(result.adapter / "adapters.safetensors"))
    theirs = dict(tree_flatten(model.parameters()))
    assert all(np.array_equal(np.array(theirs[name]), np.array(array)) for name, array in saved.items())


@pytest.mark.timeout(600)
def test_resumed_training_is_bit_equal(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: adapter, log and choice; with dropout, so that the random state is part of it."""
    monkeypatch.setattr(generative_validation, "MAX_ANSWER_TOKENS", 8)
    recipe = recipe.model_copy(update={"dropout": 0.1})
    rows = rows[:4]
    whole = train_adapter(base, TrainingRows(rows, rows[:1]), recipe, tmp_path / "whole")
    for after in (1, 2):  # within an epoch, and at its end before validation
        out = tmp_path / f"cut{after}"
        with pytest.raises(KeyboardInterrupt):
            train_adapter(base, TrainingRows(rows, rows[:1]), recipe, out, listen=_Interrupter(after))
        assert not (out / "adapter").exists()
        resumed = train_adapter(base, TrainingRows(rows, rows[:1]), recipe, out, resume=True if after == 1 else None)
        assert _bytes(resumed) == _bytes(whole)
        assert _lines(out) == _lines(tmp_path / "whole")
        assert (resumed.best_epoch, resumed.best_loss) == (whole.best_epoch, whole.best_loss)


def test_training_is_determined_by_seed(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path
) -> None:
    recipe = recipe.model_copy(update={"epochs": 1})
    one = train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "one")
    again = train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "again")
    other = train_adapter(base, TrainingRows(rows[:2]), recipe.model_copy(update={"seed": 1}), tmp_path / "other")
    assert _bytes(one) == _bytes(again) != _bytes(other)


def test_retry_with_other_rows_starts_over(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path
) -> None:
    recipe = recipe.model_copy(update={"epochs": 1})
    with pytest.raises(KeyboardInterrupt):
        train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "cut", listen=_Interrupter(1))
    heard: list[StageEvent] = []
    again = train_adapter(base, TrainingRows(rows[1:3]), recipe, tmp_path / "cut", resume=None, listen=heard.append)
    assert [event.message for event in heard if isinstance(event, StageNotice)] == [
        "The interrupted run can't be resumed: rows changed since then. Training starts at the first step."
    ]
    assert _bytes(again) == _bytes(train_adapter(base, TrainingRows(rows[1:3]), recipe, tmp_path / "fresh"))
    (tmp_path / "cut" / "checkpoint.safetensors").write_bytes(b"torn")
    assert _bytes(train_adapter(base, TrainingRows(rows[1:3]), recipe, tmp_path / "cut", resume=None)) == _bytes(again)


def test_resuming_another_training_is_rejected(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path, listen=_Interrupter(1))
    with pytest.raises(BadInput, match="recipe changed"):
        train_adapter(base, TrainingRows(rows[:2]), recipe.model_copy(update={"epochs": 3}), tmp_path, resume=True)
    with pytest.raises(BadInput, match="rows changed"):
        train_adapter(base, TrainingRows(rows[:3]), recipe, tmp_path, resume=True)


def test_best_epoch_is_kept_and_patience_stops(
    base: BaseVLM, rows: list[DatasetRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = iter([9.0, 5.0, 4.0, 6.0, 7.0, 3.0])
    monkeypatch.setattr(training_loop._TrainingRun, "_validate", lambda self, *when, **how: np.asarray(next(judged)))
    recipe = TrainRecipe(epochs=9, accumulation=2, patience=2, learning_rate=1e-2, answered_photographs=0)
    result = train_adapter(base, TrainingRows(rows[:2], rows[:1]), recipe, tmp_path)
    assert (result.best_epoch, result.best_loss, result.steps) == (2, 4.0, 4)
    monkeypatch.undo()
    alone = train_adapter(base, TrainingRows(rows[:2]), recipe.model_copy(update={"epochs": 4}), tmp_path / "four")
    assert _bytes(alone) != _bytes(result)


def _noticed(heard: list[StageEvent]) -> str:
    return "\n".join(event.message for event in heard if isinstance(event, StageNotice))


def test_overflowing_validation_row_is_set_aside(base: BaseVLM, rows: list[DatasetRow], tmp_path: Path) -> None:
    """A weight of 1e38 overflows float32: the row's loss is not a number from the first look on."""
    recipe = TrainRecipe(epochs=2, accumulation=2, rank=2, learning_rate=5e-3, answered_photographs=0)
    heard: list[StageEvent] = []
    broken = make_row(7, weight=1e38)
    with np.errstate(over="ignore"):
        result = train_adapter(
            base, TrainingRows(rows[:2], [rows[2], broken]), recipe, tmp_path / "with", listen=heard.append
        )
    assert "The validation loss of p7 is not finite before the first step: it is left out" in _noticed(heard)
    alone = train_adapter(base, TrainingRows(rows[:2], [rows[2]]), recipe, tmp_path / "without")
    assert _bytes(result) == _bytes(alone) and result.best_loss == alone.best_loss
    assert _lines(tmp_path / "with") == _lines(tmp_path / "without")
    with np.errstate(over="ignore"):
        nothing_left = train_adapter(base, TrainingRows(rows[:2], [broken]), recipe, tmp_path / "none")
    assert nothing_left.best_epoch == 2 and np.isfinite(nothing_left.best_loss), "as without validation: the last epoch"


@pytest.mark.parametrize(
    ("losses", "best"),
    [([9.0, 5.0, NAN, 4.0], 3), ([9.0, NAN, 5.0, NAN], 2), ([9.0, 5.0, NAN, NAN], 1), ([9.0, NAN, NAN, NAN], 1)],
)
def test_epoch_with_nan_validation_is_not_best(
    base: BaseVLM,
    rows: list[DatasetRow],
    tmp_path: Path,
    losses: list[float],
    best: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = iter(losses)
    monkeypatch.setattr(GradientStep, "row_losses", lambda self, *given: [np.float64(next(judged))])
    recipe = TrainRecipe(epochs=3, accumulation=2, rank=2, patience=9, learning_rate=5e-3, answered_photographs=0)
    heard: list[StageEvent] = []
    result = train_adapter(base, TrainingRows(rows[:2], rows[2:3]), recipe, tmp_path, listen=heard.append)
    assert (result.best_epoch, result.steps) == (best, 3) and np.isfinite(result.best_loss)
    assert f"The validation loss of p2 is not finite after epoch {losses.index(NAN)}" in _noticed(heard)
    text = (tmp_path / "training_log.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    told = [line["validation_loss"] for line in _lines(tmp_path) if line["kind"] == "epoch"]
    assert told == [None if np.isnan(loss) else loss for loss in losses]
    assert lora_layers.validate_adapter_folder(base, result.adapter) == ()


def test_epoch_worse_than_base_is_reported(
    base: BaseVLM, rows: list[DatasetRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainRecipe(epochs=2, accumulation=2, rank=2, learning_rate=5e-3, answered_photographs=0)

    def trained(name: str, *losses: float) -> tuple[TrainingResult, str]:
        judged, heard = iter(losses), list[StageEvent]()
        monkeypatch.setattr(GradientStep, "row_losses", lambda self, *given: [np.float64(next(judged))])
        result = train_adapter(base, TrainingRows(rows[:2], rows[2:3]), recipe, tmp_path / name, listen=heard.append)
        return result, _noticed(heard)

    result, told = trained("worse", 1.0, 1.5, 1.2)
    assert (result.best_epoch, result.start_loss, result.worse_than_base) == (2, 1.0, True)
    assert "Epoch 1 is worse than the base without an adapter: validation loss 1.5, the base's 1." in told
    result, told = trained("then better", 1.0, 1.5, 0.9)
    assert (result.best_epoch, result.worse_than_base) == (2, False) and "Epoch 1 is worse" in told
    result, told = trained("better", 1.0, 0.9, 0.8)
    assert not result.worse_than_base and told == ""


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "qkv", "nonsense", "", "vision_tower.blocks.0.attn.qkv"])
def test_invalid_target_modules_are_rejected_before_encoding(
    base: BaseVLM, rows: list[DatasetRow], tmp_path: Path, name: str
) -> None:
    heard: list[StageEvent] = []
    recipe = TrainRecipe(target_modules=("q_proj", name))
    with pytest.raises(BadRecipe, match=f"target_modules: '{name}' is not a linear layer"):
        train_adapter(base, TrainingRows(rows[:1]), recipe, tmp_path / "run", listen=heard.append)
    assert heard == [] and not (tmp_path / "run").exists()


def test_every_row_is_used_in_every_epoch(
    base: BaseVLM, rows: list[DatasetRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(base: BaseVLM, example: Any, *rest: Any) -> Any:
        seen.append(example.photo_id)
        return make_training_batch(base, example, *rest)

    monkeypatch.setattr(trainer, "make_training_batch", watched)
    train_adapter(base, TrainingRows(rows), TrainRecipe(epochs=2, accumulation=2), tmp_path)
    names = {row.photo_id for row in rows}
    assert set(seen[:5]) == set(seen[5:]) == names and seen[:5] != seen[5:]


def test_nan_loss_stops_and_keeps_last_checkpoint(
    base: BaseVLM, rows: list[DatasetRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(9))

    def broken(*arguments: Any) -> Any:
        updated, state, norm = apply_optimizer_step(*arguments)
        return updated, state, norm * (float("nan") if next(count) == 2 else 1.0)

    monkeypatch.setattr(training_loop, "apply_optimizer_step", broken)
    with pytest.raises(TrainingDiverged, match="step 3") as caught:
        train_adapter(base, TrainingRows(rows[:2]), TrainRecipe(epochs=4, accumulation=1), tmp_path)
    assert "learning rate" in caught.value.next_step
    monkeypatch.undo()
    kept = load_checkpoint(tmp_path)
    assert kept is not None and kept[0].step == 2
    assert not (tmp_path / "adapter").exists()
    assert not any(hasattr(module, "lora_a") for _, module in base.model.named_modules())


def test_disk_full_keeps_last_checkpoint(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    real = Path.write_bytes
    written: list[Path] = []

    def full(self: Path, data: bytes) -> int:
        if "checkpoint" in self.name:
            written.append(self)
            if len(written) == 2:
                real(self, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull):
        train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path)
    monkeypatch.undo()
    assert files_of(tmp_path) == {"training_log.jsonl", "checkpoint.safetensors"}
    resumed = train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path, resume=True)
    assert _bytes(resumed) == _bytes(train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "whole"))


def test_training_without_rows_is_rejected(base: BaseVLM, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no rows"):
        train_adapter(base, TrainingRows([]), TrainRecipe(), tmp_path)


def test_generative_validation_can_choose_the_epoch(
    base: BaseVLM, rows: list[DatasetRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss gets better in each epoch, the answers are best after the second."""
    losses, errors = iter([9.0, 5.0, 4.0, 3.0]), iter([8.0, 6.0, 2.0, 7.0])
    monkeypatch.setattr(training_loop._TrainingRun, "_validate", lambda self, *when, **how: np.asarray(next(losses)))
    monkeypatch.setattr(training_loop, "validate_by_generation", lambda *args: GenerativeValidation(1, 1, next(errors)))
    recipe = TrainRecipe(epochs=3, accumulation=2, learning_rate=1e-2, choose_by="score_error")
    result = train_adapter(base, TrainingRows(rows[:2], rows[:1]), recipe, tmp_path)
    assert (result.best_epoch, result.best_loss, result.best_answers) == (2, 4.0, GenerativeValidation(1, 1, 2.0))
    logged = [line["answers_score_error"] for line in _lines(tmp_path) if line["kind"] == "epoch"]
    assert logged == [8.0, 6.0, 2.0, 7.0]


def test_generative_validation_uses_current_adapter(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path
) -> None:
    """In training as afterwards from the saved file; before the first step they are the base's."""

    def asked(adapter: Path | None) -> GenerativeValidation:
        lora_layers.get_adapter_switch(base).use(adapter)
        found = score_validation_answers(
            [rows[0]], [generate(base, rows[0].messages, rows[0].image, max_tokens=MAX_ANSWER_TOKENS)]
        )
        lora_layers.get_adapter_switch(base).use(None)
        return found

    without = asked(None)
    result = train_adapter(base, TrainingRows(rows[:2], rows[:1]), recipe, tmp_path)
    first = next(line for line in _lines(tmp_path) if line["kind"] == "epoch")
    assert {name: first[f"answers_{name}"] for name in vars(without)} == vars(without)
    assert result.best_answers == asked(result.adapter) != without


def test_feature_cache_keeps_training_bit_equal(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a second training of the same rows doesn't run the vision tower at all."""
    recipe = recipe.model_copy(update={"answered_photographs": 0, "epochs": 1})
    kept = tmp_path / "features"
    without = train_adapter(base, TrainingRows(rows[:3], rows[3:4]), recipe, tmp_path / "without")
    first = train_adapter(base, TrainingRows(rows[:3], rows[3:4], feature_cache=kept), recipe, tmp_path / "first")
    assert len(list(kept.iterdir())) == 4

    def blind(*_: Any, **__: Any) -> Any:
        raise AssertionError("the vision tower was run")

    monkeypatch.setattr(type(base.model), "get_input_embeddings", blind)
    second = train_adapter(base, TrainingRows(rows[:3], rows[3:4], feature_cache=kept), recipe, tmp_path / "second")
    assert _bytes(without) == _bytes(first) == _bytes(second)
