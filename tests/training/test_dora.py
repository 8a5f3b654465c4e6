"""DoRA in training: it learns, resumes bit for bit, and the base stays, on plain and on packed weights."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.lora import lora_adapter, lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import TrainingRows, train_adapter
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.optimizer import apply_optimizer_step, make_optimizer
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch
from tests.models.lora.test_dora import pack
from tests.training.conftest import make_row
from tests.training.test_training_loop import _bytes, _Interrupter, _lines

pytestmark = pytest.mark.mini


@pytest.mark.parametrize("bits", [None, 4, pytest.param(8, marks=pytest.mark.soak)])
def test_dora_training_lowers_loss_and_keeps_base(base: BaseVLM, tmp_path: Path, bits: int | None) -> None:
    own = base if bits is None else load_base(str(pack(base, tmp_path / "base", bits)))
    before = {name: np.array(array) for name, array in tree_flatten(own.model.parameters())}
    recipe = TrainRecipe(epochs=8, accumulation=1, learning_rate=1e-2, warmup_fraction=0.0, dora=True)
    result = train_adapter(own, TrainingRows([make_row(1)]), recipe, tmp_path / "run")
    losses = [line["loss"] for line in _lines(tmp_path / "run") if line["kind"] == "step"]
    assert losses[-1] < 0.8 * losses[0]
    after = {name: np.array(array) for name, array in tree_flatten(own.model.parameters())}
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert lora_layers.validate_adapter_folder(own, result.adapter) == ()
    saved = lora_adapter.load_lora_adapter(result.adapter)
    own_lengths = np.concatenate([np.array(m) for m in saved.magnitude.values()])
    lora_layers.attach_lora(own, recipe, 0)
    try:
        first = np.concatenate(
            [np.array(lora_layers.attached_parameters(own)[f"{name}.m"]) for name in saved.magnitude]
        )
    finally:
        lora_layers.detach_lora(own)
    assert np.abs(own_lengths - first).max() > 1e-3  # the magnitudes are trained too


def test_dora_starts_at_the_base_loss(base: BaseVLM, tmp_path: Path) -> None:
    recipe = TrainRecipe(epochs=1, accumulation=1, answered_photographs=0)
    for name, dora in (("lora", False), ("dora", True)):
        train_adapter(
            base, TrainingRows([make_row(1)], [make_row(1)]), recipe.model_copy(update={"dora": dora}), tmp_path / name
        )
    lora, dora_lines = _lines(tmp_path / "lora"), _lines(tmp_path / "dora")
    assert dora_lines[0]["validation_loss"] == pytest.approx(lora[0]["validation_loss"], rel=1e-6)
    assert dora_lines[1]["loss"] == pytest.approx(lora[1]["loss"], rel=1e-6)
    assert dora_lines[-1]["validation_loss"] != lora[-1]["validation_loss"]


@pytest.mark.timeout(600)
def test_resumed_dora_training_is_bit_equal(
    base: BaseVLM, rows: list[DatasetRow], recipe: TrainRecipe, tmp_path: Path
) -> None:
    recipe = recipe.model_copy(update={"dora": True, "dropout": 0.1})
    whole = train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "cut", listen=_Interrupter(1))
    resumed = train_adapter(base, TrainingRows(rows[:2]), recipe, tmp_path / "cut", resume=True)
    assert _bytes(resumed) == _bytes(whole) and _lines(tmp_path / "cut") == _lines(tmp_path / "whole")


def test_dora_checkpointing_keeps_gradient(base: BaseVLM) -> None:
    """Checkpointing, threads and one compiled call agree about A, B and the magnitudes."""
    recipe = TrainRecipe(rank=4, dora=True)
    examples = encode_training_rows(base, [make_row(1), make_row(2)], recipe, lambda event: None, "rows")
    lora_layers.attach_lora(base, recipe, 0)
    base.model.train()
    try:
        batches = [make_training_batch(base, example, example.prompt.image_tokens, 0.01) for example in examples]
        trainable = base.model.trainable_parameters()
        found = []
        for checkpointing, threads in ((False, 1), (True, 1), (False, 2)):
            step = GradientStep(base, compiled=False, threads=threads, checkpointing=checkpointing)
            try:
                found.append(
                    {name: np.array(array) for name, array in tree_flatten(step.loss_and_grad(trainable, batches)[1])}
                )
            finally:
                step.close()
    finally:
        lora_layers.detach_lora(base)
    assert any(name.endswith(".m") and np.abs(array).max() > 1e-4 for name, array in found[0].items())
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, array in found[0].items():
            np.testing.assert_allclose(other[name], array, rtol=1e-4, atol=1e-6)


def test_weight_decay_leaves_magnitudes_alone() -> None:
    """Towards 0 would not be towards the base. A gradient of 0 shows the decay alone."""
    recipe = TrainRecipe(learning_rate=0.1, weight_decay=0.5)
    trainable = {"layer": {"lora_a": mx.full((3, 2), 2.0), "m": mx.full((4,), 2.0)}}
    still = {"layer": {name: mx.zeros_like(array) for name, array in trainable["layer"].items()}}
    updated, _, _ = apply_optimizer_step(make_optimizer(recipe, trainable), trainable, still, 0.1, 1.0)
    np.testing.assert_allclose(np.array(updated["layer"]["lora_a"]), 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(np.array(updated["layer"]["m"]), 2.0)


def test_run_records_dora(base: BaseVLM, tmp_path: Path) -> None:
    result = train_adapter(base, TrainingRows([make_row(1)]), TrainRecipe(epochs=1, dora=True, rslora=True), tmp_path)
    config = json.loads((result.adapter / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == "dora"
    assert config["lora_parameters"]["scale"] == pytest.approx(16 / 8**0.5, rel=1e-12)
