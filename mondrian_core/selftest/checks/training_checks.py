"""Training: one step computed in three ways, and an interrupted run that continues."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.events import StageEvent, StageProgressed, ignore_events
from mondrian_core.files import file_sha256
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.lora.lora_adapter import ADAPTER_WEIGHTS_FILE
from mondrian_core.recipes import TrainRecipe
from mondrian_core.selftest.checks.context import CheckContext, CheckOutcome, relative_difference
from mondrian_core.selftest.checks.question import rows_to_train
from mondrian_core.selftest.steps import StepCause
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.trainer import TrainingRows, train_adapter
from mondrian_core.training.training_examples import TrainingExample, encode_training_rows, make_training_batch

RECIPE = TrainRecipe(rank=4, alpha=8.0, epochs=2, accumulation=1, learning_rate=1e-3, answered_photographs=0)
BACKWARD_PASSES = 4  # a step with its gradient costs about as much as so many forward passes
_STEPS, _INTERRUPTED_AFTER = 4, 2  # optimizer steps
_SEED = 5


@dataclass(frozen=True)
class StepFigures:
    """Loss, gradient norm, seconds and peak bytes of a training step on one row, and whether it was compiled."""

    loss: float
    norm: float
    seconds: float
    peak_bytes: int
    compiled: bool


@contextmanager
def attached_random_lora(context: CheckContext, recipe: TrainRecipe = RECIPE) -> Iterator[None]:
    """LoRA layers with random arrays, the same on every stream, attached inside the block."""
    lora_layers.attach_lora(context.base, recipe, recipe.seed)
    try:
        lora_layers.load_attached_parameters(context.base, random_arrays(context))
        context.base.model.train()
        yield
    finally:
        lora_layers.detach_lora(context.base)


def random_arrays(context: CheckContext, size: float = 0.02) -> Mapping[str, mx.array]:
    """Normally distributed arrays for the attached layers, in float32; `size` is the standard deviation."""
    rng = np.random.default_rng(_SEED)
    held = lora_layers.attached_parameters(context.base)
    return {name: mx.array(size * rng.standard_normal(held[name].shape, dtype=np.float32)) for name in sorted(held)}


def encoded_row(context: CheckContext, row: DatasetRow) -> TrainingExample:
    """The row, encoded for a training."""
    return encode_training_rows(context.base, [row], RECIPE, ignore_events, "self-test")[0]


def training_step(
    context: CheckContext, example: TrainingExample, *, compiled: bool, checkpointing: bool = False, runs: int = 1
) -> StepFigures:
    """One row's loss and gradient with the attached layers; the last of `runs` is measured.

    Args:
        context: base and stream.
        example: the row.
        compiled: compile the step.
        checkpointing: with gradient checkpointing.
        runs: how often it is computed; the first run prepares kernels.
    """
    step = GradientStep(context.base, compiled=compiled, threads=1, checkpointing=checkpointing)
    try:
        batch = make_training_batch(context.base, example, example.prompt.image_tokens, 1.0 / example.weight)
        trainable = context.base.model.trainable_parameters()
        loss, norm, seconds = math.nan, math.nan, 0.0
        for _ in range(runs):
            mx.reset_peak_memory()
            began = time.perf_counter()
            metrics, gradient = step.loss_and_grad(trainable, [batch])
            mx.eval(metrics, gradient)
            seconds = time.perf_counter() - began
            loss, norm = float(np.array(metrics).flat[0]), _norm(gradient)
        return StepFigures(loss, norm, seconds, int(mx.get_peak_memory()), step.compiled)
    finally:
        step.close()


def _norm(gradient: Any) -> float:
    squares = [mx.sum(mx.square(array.astype(mx.float32))) for _, array in tree_flatten(gradient)]
    return math.sqrt(float(np.array(mx.sum(mx.stack(squares)))))


def check_training_step(context: CheckContext) -> CheckOutcome:
    """The compiled, the eager and the checkpointed step agree."""
    example = encoded_row(context, rows_to_train(1, short=True)[0])
    context.require_time("a training step", forward_tokens=BACKWARD_PASSES * example.length)
    found: dict[str, StepFigures] = {}
    with attached_random_lora(context):
        for name, compiled, checkpointing in (
            ("eager", False, False),
            ("compiled", True, False),
            ("checkpointing", False, True),
        ):
            context.report(name)
            if found and found["eager"].seconds > context.seconds_left / 2:
                break
            found[name] = training_step(context, example, compiled=compiled, checkpointing=checkpointing)
    eager = found["eager"]
    allowed = context.allowed(example.prompt.load().embeddings.dtype, backward=True)
    figures: dict[str, Any] = {
        "tokens": example.length,
        "loss": eager.loss,
        "gradient_norm": eager.norm,
        "compiled": "compiled" in found and found["compiled"].compiled,
        "allowed_difference": allowed,
    }
    if not (math.isfinite(eager.loss) and math.isfinite(eager.norm)):
        return CheckOutcome(
            f"loss {eager.loss}, gradient norm {eager.norm}: not finite", figures, StepCause.WRONG_RESULT
        )
    for name, other in found.items():
        apart = max(relative_difference(eager.loss, other.loss), relative_difference(eager.norm, other.norm))
        figures[f"difference of {name}"] = apart
        if not apart <= allowed:
            sentence = (
                f"{name}: loss {other.loss:.6g}, gradient norm {other.norm:.6g}; "
                f"eager: {eager.loss:.6g}, {eager.norm:.6g}; allowed {allowed:.1g}"
            )
            return CheckOutcome(sentence, figures, StepCause.WRONG_RESULT)
    agreeing = [name for name, other in found.items() if other.compiled or name != "compiled"]
    how = f"{' and '.join(agreeing)} agree" if len(agreeing) > 1 else "no time for a second way"
    if "compiled" in found and not found["compiled"].compiled:
        how += "; MLX can't compile it, so it runs eagerly"
    return CheckOutcome(f"loss {eager.loss:.4f}, gradient norm {eager.norm:.4f}; {how}", figures)


def check_resume(context: CheckContext) -> CheckOutcome:
    """An interrupted training that continues ends with the same file as an uninterrupted one."""
    rows = TrainingRows(train=rows_to_train(2, short=True))
    tokens = encoded_row(context, rows.train[0]).length
    context.require_time("two short trainings", forward_tokens=2 * _STEPS * BACKWARD_PASSES * tokens)
    whole, cut = context.folder / "whole", context.folder / "cut"
    context.report("uninterrupted")
    first = train_adapter(context.base, rows, RECIPE, whole)

    def interrupt(event: StageEvent) -> None:
        if isinstance(event, StageProgressed) and event.stage == "train" and event.done == _INTERRUPTED_AFTER:
            raise KeyboardInterrupt

    context.report("interrupted")
    try:
        train_adapter(context.base, rows, RECIPE, cut, listen=interrupt)
    except KeyboardInterrupt:
        context.report("continued")
    second = train_adapter(context.base, rows, RECIPE, cut, resume=True)
    digests = [file_sha256(result.adapter / ADAPTER_WEIGHTS_FILE) for result in (first, second)]
    figures = {"steps": first.steps, "interrupted_after": _INTERRUPTED_AFTER, "loss": first.best_loss}
    if digests[0] != digests[1]:
        largest = _largest_difference(first.adapter / ADAPTER_WEIGHTS_FILE, second.adapter / ADAPTER_WEIGHTS_FILE)
        sentence = f"the resumed training's adapter differs by up to {largest:.2g}; it must be equal, bit for bit"
        return CheckOutcome(sentence, {**figures, "largest_difference": largest}, StepCause.WRONG_RESULT)
    return CheckOutcome(f"equal, bit for bit, after {first.steps} steps with an interruption", figures)


def _largest_difference(first: Any, second: Any) -> float:
    one, other = (cast(dict[str, mx.array], mx.load(str(path))) for path in (first, second))
    return max(float(np.abs(np.array(one[name]) - np.array(other[name])).max()) for name in one)
