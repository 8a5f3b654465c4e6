"""Loss and gradient: the library's own, compiled or not, in pieces or not, padded or not."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.events import ignore_events
from mondrian_core.models import gradient_pass
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import gradient_step as steps
from mondrian_core.training.optimizer import (
    apply_optimizer_step,
    make_optimizer,
    scheduled_learning_rate,
    with_default_learning_rate,
)
from mondrian_core.training.training_examples import TrainingExample, encode_training_rows, make_training_batch
from tests.training.conftest import make_row

pytestmark = pytest.mark.mini


@pytest.fixture
def attached(base: BaseVLM) -> Any:
    """LoRA layers with B not zero, so that every gradient is there."""
    lora_layers.attach_lora(base, TrainRecipe(), 0)
    key = mx.random.key(7)
    base.model.update(
        tree_map(lambda a: a + 0.02 * mx.random.normal(a.shape, key=key), base.model.trainable_parameters())
    )
    yield base
    lora_layers.detach_lora(base)


def _gradient(
    base: BaseVLM, example: TrainingExample, *, compiled: bool = False, image_tokens: int = 0
) -> tuple[float, Any]:
    batch = make_training_batch(base, example, image_tokens or example.prompt.image_tokens, 1.0 / example.weight)
    step = steps.GradientStep(base, compiled=compiled)
    loss, gradient = step.loss_and_grad(base.model.trainable_parameters(), [batch])
    step.close()
    return float(np.array(loss)), {name: np.array(array) for name, array in tree_flatten(gradient)}


def _close(one: tuple[float, Any], other: tuple[float, Any], tolerance: float = 2e-6) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for name, array in one[1].items():
        np.testing.assert_allclose(array, other[1][name], atol=tolerance, rtol=1e-3)


def test_loss_and_gradient_match_mlx_vlm(attached: BaseVLM) -> None:
    """Against mlx-vlm's own forward pass with every logit and a mask: loss to 1e-5, gradients to 2e-6."""
    row = make_row(4)
    example = encode_training_rows(attached, [row], TrainRecipe(score_weight=1.0), ignore_events, "")[0]
    ids = mx.array([[*example.prompt.ids, *example.answer[:-1]]])
    asked = [message for message in row.messages if message["role"] != "assistant"]
    text = attached.processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    picture = attached.processor(text=[text], images=[row.image])
    pixels, grid = mx.array(picture["pixel_values"]), mx.array(picture["image_grid_thw"])

    def plain(trainable: Any) -> mx.array:
        attached.model.update(trainable)
        raw = attached.model(ids, pixels, image_grid_thw=grid).logits[0, len(example.prompt.ids) - 1 :]
        return mx.mean(steps.cross_entropy(raw, mx.array(example.answer)))

    held = attached.model.trainable_parameters()
    loss, gradient = mx.value_and_grad(plain)(held)
    theirs = (float(np.array(loss)), {name: np.array(array) for name, array in tree_flatten(gradient)})
    attached.model.update(held)
    _close(_gradient(attached, example), theirs)


def test_compiled_and_eager_steps_agree(attached: BaseVLM) -> None:
    example = encode_training_rows(attached, [make_row(5)], TrainRecipe(), ignore_events, "")[0]
    _close(_gradient(attached, example, compiled=True), _gradient(attached, example))


def test_image_padding_does_not_change_loss(attached: BaseVLM) -> None:
    example = encode_training_rows(attached, [make_row(5)], TrainRecipe(), ignore_events, "")[0]
    wide = example.prompt.image_tokens + 9
    _close(_gradient(attached, example, image_tokens=wide), _gradient(attached, example))


@pytest.mark.parametrize("compiled", [False, True])
def test_chunked_output_head_agrees(attached: BaseVLM, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training each piece gives losses and their slopes at once; also where the answer is no multiple of a piece."""
    attached.model.train()
    example = encode_training_rows(attached, [make_row(6)], TrainRecipe(), ignore_events, "")[0]
    whole = _gradient(attached, example)
    monkeypatch.setattr(steps, "_LOGITS_AT_ONCE", 1)
    monkeypatch.setattr(steps, "_SMALLEST_PIECE", 24)
    _close(_gradient(attached, example, compiled=compiled), whole)
    attached.model.eval()


def test_validation_computes_no_slopes(attached: BaseVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    example = encode_training_rows(attached, [make_row(6)], TrainRecipe(), ignore_events, "")[0]
    batch = make_training_batch(attached, example, example.prompt.image_tokens, 1.0)
    whole = float(np.array(steps.weighted_loss(attached, batch)))
    monkeypatch.setattr(steps, "_LOGITS_AT_ONCE", 1)
    monkeypatch.setattr(mx, "vjp", None)
    assert float(np.array(steps.weighted_loss(attached, batch))) == pytest.approx(whole, rel=1e-6)


def test_step_falls_back_to_eager(attached: BaseVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    example = encode_training_rows(attached, [make_row(6)], TrainRecipe(), ignore_events, "")[0]

    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(mx, "compile", lambda *_, **__: no_compiler)
    found = _gradient(attached, example, compiled=True)
    monkeypatch.undo()
    _close(found, _gradient(attached, example))


def test_accumulation_is_one_weighted_batch(attached: BaseVLM) -> None:
    """Summed over rows of different lengths and weights: the gradient of the token-weighted mean over all of them."""
    rows: list[DatasetRow] = [make_row(1, words=1, weight=0.25), make_row(2, words=4, weight=1.0)]
    examples = encode_training_rows(attached, rows, TrainRecipe(), ignore_events, "")
    trainable = attached.model.trainable_parameters()
    total = sum(example.weight for example in examples)
    batches = [make_training_batch(attached, example, 16, 1.0 / total) for example in examples]
    _, gathered = steps.GradientStep(attached, compiled=False, threads=1).loss_and_grad(trainable, batches)

    def together(parameters: Any) -> mx.array:
        attached.model.update(parameters)
        losses = [
            steps.weighted_loss(attached, make_training_batch(attached, example, 16, 1.0)) for example in examples
        ]
        return sum(losses, mx.array(0.0)) / total

    expected = dict(tree_flatten(mx.grad(together)(trainable)))
    attached.model.update(trainable)
    for name, array in tree_flatten(gathered):
        np.testing.assert_allclose(np.array(array), np.array(expected[name]), atol=2e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("compiled", [False, True])
def test_checkpointing_does_not_change_gradient(
    attached: BaseVLM, dropout: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with dropout: a layer that runs again draws what it drew before. Compared without the wrapper."""
    attached.model.train()
    for _, module in attached.model.named_modules():
        if hasattr(module, "lora_a"):
            module.dropout._p_1 = 1.0 - dropout
    example = encode_training_rows(attached, [make_row(5)], TrainRecipe(), ignore_events, "")[0]
    batch = make_training_batch(attached, example, example.prompt.image_tokens, 1.0 / example.weight)
    if dropout:
        batch["seed"] = 11

    def found() -> tuple[float, Any]:
        step = steps.GradientStep(attached, compiled=compiled, checkpointing=True)
        loss, gradient = step.loss_and_grad(attached.model.trainable_parameters(), [batch])
        assert step.compiled == compiled
        step.close()
        return float(np.array(loss)), {name: np.array(array) for name, array in tree_flatten(gradient)}

    saving = found()
    monkeypatch.setattr(mx, "checkpoint", lambda function: function)
    _close(saving, found())
    attached.model.eval()


@pytest.mark.parametrize("compiled", [False, True])
def test_segments_do_not_change_gradient(attached: BaseVLM, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wide base computes again, against the layers as a narrow base runs them."""
    attached.model.train()
    example = encode_training_rows(attached, [make_row(5)], TrainRecipe(), ignore_events, "")[0]
    plain = _gradient(attached, example)
    monkeypatch.setattr(gradient_pass, "SEGMENTS_FROM_WIDTH", 0)
    _close(_gradient(attached, example, compiled=compiled), plain)
    attached.model.eval()


def test_segments_keep_less_memory(attached: BaseVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least a quarter less at the peak, and least with whole layers computed again."""
    attached.model.train()
    example = encode_training_rows(attached, [make_row(5, words=6)], TrainRecipe(), ignore_events, "")[0]
    batch = make_training_batch(attached, example, example.prompt.image_tokens, 1.0 / example.weight)
    peaks = {}
    for name, from_width, checkpointing in (("plain", 1 << 30, False), ("segments", 0, False), ("layers", 0, True)):
        monkeypatch.setattr(gradient_pass, "SEGMENTS_FROM_WIDTH", from_width)
        step = steps.GradientStep(attached, compiled=False, threads=1, checkpointing=checkpointing)
        mx.eval(batch)
        mx.reset_peak_memory()
        held = mx.get_active_memory()
        step.loss_and_grad(attached.model.trainable_parameters(), [batch])
        peaks[name] = mx.get_peak_memory() - held
    attached.model.eval()
    assert peaks["layers"] < peaks["segments"] < 0.75 * peaks["plain"]


def test_closing_leaves_no_thread_behind(attached: BaseVLM) -> None:
    """A thread of mlx that outlives the interpreter aborts the process."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("threads can't be listed on this system")
    examples = encode_training_rows(
        attached, [make_row(number) for number in range(2)], TrainRecipe(), ignore_events, ""
    )
    batches = [make_training_batch(attached, example, 16, 1.0) for example in examples]
    for _ in range(5):
        step = steps.GradientStep(attached, compiled=False, threads=2)
        step.loss_and_grad(attached.model.trainable_parameters(), batches)
        native = [thread.native_id for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
        assert len(native) == 2
        step.close()
        assert not [each for each in native if (tasks / str(each)).exists()]


def test_threading_does_not_change_gradients(attached: BaseVLM) -> None:
    """Bit for bit, with dropout: each row has a seed of its own."""
    attached.model.train()
    for _, module in attached.model.named_modules():
        if hasattr(module, "lora_a"):
            module.dropout._p_1 = 0.8
    examples = encode_training_rows(
        attached, [make_row(number) for number in range(4)], TrainRecipe(), ignore_events, ""
    )
    batches = [
        {**make_training_batch(attached, example, 16, 1.0), "seed": 40 + i} for i, example in enumerate(examples)
    ]
    found = []
    for threads in (2, 2, 3):
        step = steps.GradientStep(attached, compiled=False, threads=threads)
        loss, gradient = step.loss_and_grad(attached.model.trainable_parameters(), batches)
        found.append([np.array(loss), *(np.array(array) for _, array in tree_flatten(gradient))])
        step.close()
    assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(*found, strict=True))


def test_gradient_norm_is_independent_of_tree_order() -> None:
    """A tree from a checkpoint comes in another order than a fresh one."""
    names, draw = "abcdefgh", np.random.default_rng(3)
    gradient = {
        name: mx.array(draw.normal(scale=10.0**at, size=50).astype(np.float32)) for at, name in enumerate(names, -4)
    }
    norms = set()
    for _ in range(20):
        order = draw.permutation(list(names))
        shuffled = {str(name): gradient[name] for name in order}
        optimizer = make_optimizer(with_default_learning_rate(TrainRecipe(), 256), shuffled)
        norms.add(float(np.array(apply_optimizer_step(optimizer, shuffled, shuffled, 1e-3, 1.0)[2])))
    assert len(norms) == 1


def test_global_norm_is_clipped() -> None:
    trainable = {"a": mx.array([0.0, 0.0]), "b": mx.array([0.0])}
    gradient = {"a": mx.array([3.0, 0.0]), "b": mx.array([4.0])}
    optimizer = make_optimizer(with_default_learning_rate(TrainRecipe(), 256), trainable)
    before = dict(tree_flatten(optimizer.state))
    _, state, norm = apply_optimizer_step(optimizer, trainable, gradient, 1e-3, 1.0)
    assert float(np.array(norm)) == pytest.approx(5.0)
    moments = dict(tree_flatten(state))
    # AdamW's first moment is (1 - beta1) x clipped gradient
    np.testing.assert_allclose(np.array(moments["a.m"]), [0.1 * 3 / 5, 0.0], rtol=1e-5)
    assert not np.array(before["a.m"]).any()


def test_learning_rate_schedule() -> None:
    recipe = TrainRecipe(learning_rate=1.0, warmup_fraction=0.1, final_rate_fraction=0.2)
    rates = [scheduled_learning_rate(step, 100, recipe) for step in range(100)]
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert max(rates) == pytest.approx(1.0) and rates[-1] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert scheduled_learning_rate(0, 1, recipe) == pytest.approx(1.0)
