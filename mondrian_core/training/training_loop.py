"""The training loop: epochs over encoded examples, checkpoints, validation, choice of the best epoch.

An optimizer step sums the gradients of a few examples. An interrupted run keeps every finished step; resumed, it ends
with the same adapter, bit for bit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mondrian_core.errors import BadInput, TrainingDiverged
from mondrian_core.events import CheckpointSaved, EventListener, StageNotice, StageProgressed
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.model_memory import loaded_model_size
from mondrian_core.training import loss_curve
from mondrian_core.training.checkpoints import (
    TrainingProgress,
    check_run_signature,
    load_checkpoint,
    save_checkpoint,
    without_empty_branches,
)
from mondrian_core.training.generative_validation import GenerativeValidation, validate_by_generation
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.memory import plan_on_this_machine, training_load
from mondrian_core.training.optimizer import apply_optimizer_step, make_optimizer, scheduled_learning_rate
from mondrian_core.training.training_log import TrainingLog
from mondrian_core.training.training_phase import TrainingPhase, TrainingResult
from mondrian_core.training.validation_loss import ValidationLoss

ADAPTER_FOLDER = "adapter"
_CHECKPOINT_SECONDS = 20.0
Tree = Any


def run_training_phase(
    base: BaseVLM, phase: TrainingPhase, resume: bool | None, listen: EventListener
) -> TrainingResult:
    """Attach LoRA layers to the base, run one phase, detach them again.

    Args:
        base: the frozen base; unchanged afterwards.
        phase: what to train.
        resume: True continues an interrupted run, None does so if it is the same training, False starts over.
        listen: receives progress and notices.

    Raises:
        BadInput: `resume` is True and the interrupted run was another training.
        TrainingDiverged: the loss or the gradient is not finite; the last checkpoint is kept.
        DiskFull: no space is left; the last checkpoint is kept.
        NotEnoughMemory: it would not fit into memory; nothing is trained.
    """
    recipe = phase.recipe
    load = training_load(phase.examples, phase.held_out, len(phase.answered_rows))
    plan = plan_on_this_machine(loaded_model_size(base), recipe, load)
    lora_layers.attach_lora(base, recipe, recipe.seed)
    if phase.start is not None:
        lora_layers.load_attached_parameters(base, phase.start)
    base.model.train()
    step = GradientStep(base, loss=phase.objective.loss, threads=plan.rows_at_once, checkpointing=plan.checkpointing)
    if plan.checkpointing:
        listen(StageNotice(phase.objective.stage, "Gradient checkpointing is on, to save memory."))
    try:
        run = _TrainingRun(base, phase, step, listen)
        run.start(resume)
        run.run()
        return run.result()
    finally:
        step.close()
        lora_layers.detach_lora(base)


@dataclass(frozen=True, eq=False)
class _TrainingState:
    """Consistent snapshot after an optimizer step; the unit of checkpointing."""

    progress: TrainingProgress
    trainable: Tree
    optimizer: Tree
    best: Tree | None


class _TrainingRun:
    """The course of one phase. `_state` is replaced as a whole between two steps, so it is always consistent."""

    def __init__(self, base: BaseVLM, phase: TrainingPhase, step: GradientStep, listen: EventListener) -> None:
        self._base, self._phase, self._step, self._listen = base, phase, step, listen
        self._objective, self._recipe = phase.objective, phase.recipe
        self._checkpoint_folder = phase.out / phase.objective.phase
        self._image_tokens = max(example.prompt.image_tokens for example in [*phase.examples, *phase.held_out])
        self._validation_loss = ValidationLoss(base, step, phase.objective, phase.held_out, self._image_tokens)
        self._per_epoch = math.ceil(len(phase.examples) / phase.recipe.accumulation)
        self._total = self._per_epoch * phase.recipe.epochs
        trainable = without_empty_branches(base.model.trainable_parameters())
        self._optimizer = make_optimizer(phase.recipe, trainable)
        progress = TrainingProgress(signature=phase.signature)
        self._state = _TrainingState(progress, trainable, self._optimizer.state, None)
        self._began = time.perf_counter()
        self._log: TrainingLog

    # --- the course of a run ------------------------------------------------------------------------------------------

    def start(self, resume: bool | None) -> None:
        """Start over, or continue an interrupted run (None: if it is the same training)."""
        checkpoint = self._load_checkpoint(required=resume) if resume is not False else None
        if checkpoint is not None and checkpoint[0].step:
            self._state = _TrainingState(*checkpoint)
            self._notice(f"Resumed after step {checkpoint[0].step} of {self._total}.")
        progress = self._state.progress
        self._log = TrainingLog(
            self._phase.out, progress if progress.step else None, self._objective.phase, listen=self._listen
        )
        self._began = time.perf_counter() - progress.seconds
        if not progress.step:
            self._save_checkpoint()
            if self._phase.held_out:
                self._validate_start()

    def _load_checkpoint(self, *, required: bool | None) -> tuple[TrainingProgress, Tree, Tree, Tree | None] | None:
        """The interrupted run's checkpoint; None without one, or if it is another training's and not `required`."""
        try:
            checkpoint = load_checkpoint(self._checkpoint_folder)
            if checkpoint is not None:
                check_run_signature(checkpoint[0].signature, self._phase.signature)
        except BadInput as error:
            if required:
                raise
            self._notice(f"{error.problem} Training starts at the first step.")
            return None
        return checkpoint

    def run(self) -> None:
        """Run the remaining steps; an interruption keeps the finished ones."""
        saved_at = time.perf_counter()
        try:
            while True:
                progress = self._state.progress
                epoch_ended = progress.step // self._per_epoch > progress.judged
                if epoch_ended:
                    self._end_epoch()
                elif progress.finished or progress.step >= self._total:
                    return
                else:
                    self._advance()
                if epoch_ended or time.perf_counter() - saved_at > _CHECKPOINT_SECONDS:
                    self._save_checkpoint()
                    saved_at = time.perf_counter()
        except KeyboardInterrupt:
            self._save_checkpoint()
            raise

    def result(self) -> TrainingResult:
        """Write the best adapter and the loss curve."""
        progress = self._state.progress
        folder, picture = self._phase.out / ADAPTER_FOLDER, self._phase.out / loss_curve.LOSS_CURVE_FILE
        lora_layers.save_attached_adapter(self._base, folder, dict(tree_flatten(self._state.best)))
        loss_curve.draw_loss_curve(self._log.lines, {self._objective.phase: progress.best_epoch}, picture)
        answers = GenerativeValidation(*progress.best_answers) if progress.best_answers else None
        return TrainingResult(
            adapter=folder,
            best_epoch=progress.best_epoch,
            best_loss=progress.best_loss,
            best_answers=answers,
            steps=progress.step,
            seconds=progress.seconds,
            log=self._log.path,
            curve=picture,
            start_loss=progress.start_loss,
            worse_than_base=self._is_worse_than_base(progress.best_figure),
        )

    def _save_checkpoint(self) -> None:
        state = self._state
        save_checkpoint(self._checkpoint_folder, state.progress, state.trainable, state.optimizer, state.best)
        self._listen(CheckpointSaved(self._objective.stage, state.progress.step))

    def _notice(self, message: str) -> None:
        self._listen(StageNotice(self._objective.stage, message))

    # --- one optimizer step -------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take one optimizer step."""
        progress, recipe, trainable = self._state.progress, self._recipe, self._state.trainable
        chosen = self._examples_of_step(progress.step)
        weight = sum(example.weight for example in chosen)
        batches = [
            self._objective.make_batch(self._base, example, self._image_tokens, 1.0 / weight) for example in chosen
        ]
        if recipe.dropout > 0:
            for number, batch in enumerate(batches):
                batch["seed"] = _combined_seed(recipe.seed, progress.step, number)
        metrics, gradient = self._step.loss_and_grad(trainable, batches)
        rate = scheduled_learning_rate(progress.step, self._total, recipe)
        self._optimizer.state = self._state.optimizer
        updated, optimizer, norm = apply_optimizer_step(self._optimizer, trainable, gradient, rate, recipe.clip_norm)
        mx.eval(updated, optimizer, metrics, norm)
        step = self._logged_step(np.array(metrics), float(np.array(norm)), rate, weight)
        self._state = _TrainingState(step, updated, optimizer, self._state.best)
        left = int(step.seconds / step.step * (self._total - step.step))
        epoch, loss = progress.step // self._per_epoch + 1, float(np.array(metrics).flat[0])
        text = f"epoch {epoch}/{recipe.epochs}, loss {loss:.3f}, {left // 60}:{left % 60:02d} left"
        self._listen(StageProgressed(self._objective.stage, step.step, self._total, text))

    def _examples_of_step(self, step: int) -> list[Any]:
        """The examples of an optimizer step: each epoch uses every example, in an order drawn from the seed."""
        epoch, within = divmod(step, self._per_epoch)
        examples, size = self._phase.examples, self._recipe.accumulation
        order = np.random.default_rng([self._recipe.seed, epoch]).permutation(len(examples))
        return [examples[i] for i in order[within * size : (within + 1) * size]]

    def _logged_step(self, metrics: np.ndarray, norm: float, rate: float, weight: float) -> TrainingProgress:
        """The progress after a step, which is written to the log.

        Raises:
            TrainingDiverged: loss or gradient norm is not finite.
        """
        before, loss = self._state.progress, float(metrics.flat[0])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"Training diverged at step {before.step + 1}: loss is {loss}, gradient norm is {norm}.",
                f"Lower the learning rate ({self._recipe.learning_rate:g}) and train again; "
                "the last checkpoint is kept.",
            )
        progress = replace(
            before,
            step=before.step + 1,
            seconds=time.perf_counter() - self._began,
            epoch_loss=(before.epoch_loss[0] + loss * weight, before.epoch_loss[1] + weight),
        )
        self._log.add(
            kind="step",
            step=progress.step,
            epoch=before.step // self._per_epoch + 1,
            loss=loss,
            **self._named_metrics(metrics),
            gradient_norm=norm,
            learning_rate=rate,
            seconds=round(progress.seconds, 3),
        )
        return progress

    # --- epochs -------------------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        """Validate, and keep the adapter if it is the best so far."""
        before = self._state.progress
        epoch = before.judged + 1
        train_loss = before.epoch_loss[0] / before.epoch_loss[1]
        metrics = self._validate(f"after epoch {epoch}")
        answers = self._answers()
        validation_loss = None if metrics is None else float(metrics.flat[0])
        usable = validation_loss is not None and math.isfinite(validation_loss)
        loss = validation_loss if validation_loss is not None and usable else train_loss
        figure = math.inf if validation_loss is not None and not usable else self._selection_metric(loss, answers)
        better = validation_loss is None or figure < before.best_figure or self._state.best is None
        unimproved = 0 if better else before.unimproved + 1
        progress = replace(
            before,
            judged=epoch,
            unimproved=unimproved,
            finished=unimproved >= self._recipe.patience or before.step >= self._total,
            epoch_loss=(0.0, 0.0),
            seconds=time.perf_counter() - self._began,
        )
        if better:
            progress = replace(
                progress, best_epoch=epoch, best_loss=loss, best_figure=figure, best_answers=_as_tuple(answers)
            )
        self._log_epoch(epoch, train_loss, metrics, answers)
        best = self._state.trainable if better else self._state.best
        self._state = replace(self._state, progress=progress, best=best)
        if better and self._is_worse_than_base(figure):
            self._notice(
                f"Epoch {epoch} is worse than the base without an adapter: {self._selection_name(answers)} "
                f"{figure:.4g}, the base's {before.start_figure:.4g}. It is kept only until a later epoch is better."
            )

    def _log_epoch(
        self, epoch: int, train_loss: float | None, metrics: np.ndarray | None, answers: GenerativeValidation | None
    ) -> None:
        self._log.add(
            kind="epoch",
            step=self._state.progress.step,
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=None if metrics is None else float(metrics.flat[0]),
            **self._named_metrics(metrics, "validation_"),
            **_log_fields(answers),
        )

    def _is_worse_than_base(self, figure: float) -> bool:
        """True when the phase began with the base alone and that was at least as good as this."""
        start = self._state.progress.start_figure
        return start is not None and figure >= start

    def _selection_name(self, answers: GenerativeValidation | None) -> str:
        by_answers = answers is not None and self._recipe.choose_by == "score_error"
        return "squared error of the scores" if by_answers else "validation loss"

    def _selection_metric(self, loss: float, answers: GenerativeValidation | None) -> float:
        """The value by which the best epoch is chosen; smaller is better."""
        return answers.score_error if answers and self._recipe.choose_by == "score_error" else loss

    def _named_metrics(self, metrics: np.ndarray | None, prefix: str = "") -> dict[str, float]:
        """The objective's metrics besides the loss, (F,) with the loss first, by name for the log."""
        if metrics is None:
            return {}
        names = self._objective.metrics
        return {prefix + name: float(value) for name, value in zip(names, metrics.flat[1:], strict=True)}

    # --- validation ---------------------------------------------------------------------------------------------------

    def _validate_start(self) -> None:
        """Validate before the first step; examples without a finite loss even then are set aside for the whole run."""
        metrics, answers = self._validate("before the first step", set_aside=True), self._answers()
        loss = None if metrics is None else float(metrics.flat[0])
        self._log_epoch(0, None, metrics, answers)
        if loss is None or not math.isfinite(loss):
            return
        state, figure = self._state, self._selection_metric(loss, answers)
        if self._objective.may_keep_start:
            progress = replace(state.progress, best_loss=loss, best_figure=figure, best_answers=_as_tuple(answers))
            self._state = replace(state, progress=progress, best=state.trainable)
        else:
            self._state = replace(state, progress=replace(state.progress, start_loss=loss, start_figure=figure))

    def _validate(self, moment: str, *, set_aside: bool = False) -> np.ndarray | None:
        """Metrics over the held-out examples, the loss (nats per token) first; None when no example is left.

        Examples whose loss is not finite are named. The result is then not finite either, unless they are `set_aside`.
        """
        judged = [i for i in range(len(self._phase.held_out)) if i not in self._state.progress.set_aside]
        if not judged:
            return None
        metrics, not_finite = self._validation_loss.measure(self._state.trainable, judged)
        if not not_finite:
            return metrics
        photographs = ", ".join(dict.fromkeys(self._phase.held_out[i].photo_id for i in not_finite))
        message = f"The validation loss of {photographs} is not finite {moment}"
        if not set_aside:
            self._notice(f"{message}: this epoch can't be compared and counts as worse than the others.")
            return metrics
        self._notice(f"{message}: it is left out of the validation.")
        progress = replace(self._state.progress, set_aside=(*self._state.progress.set_aside, *not_finite))
        self._state = replace(self._state, progress=progress)
        return self._validate(moment, set_aside=True)

    def _answers(self) -> GenerativeValidation | None:
        """Validation by generation; None when the phase answers no photographs."""
        if not self._phase.answered_rows:
            return None
        changed = self._state.progress.step or self._objective.may_keep_start
        weights = dict(tree_flatten(self._state.trainable)) if changed else None
        return validate_by_generation(self._base, weights, self._phase.answered_rows, self._recipe, self._listen)


def _as_tuple(answers: GenerativeValidation | None) -> tuple[int, int, float] | None:
    return None if answers is None else (answers.photographs, answers.valid, answers.score_error)


def _log_fields(answers: GenerativeValidation | None) -> dict[str, Any]:
    return {} if answers is None else {f"answers_{name}": value for name, value in vars(answers).items()}


def _combined_seed(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
