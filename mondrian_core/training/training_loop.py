"""The training loop: epochs over encoded rows, one optimizer step per few rows, nothing lost when it is interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput, RankLost, TrainingDiverged
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.vision_feature_cache import VisionFeatureCache
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import loss_curve
from mondrian_core.training.checkpoints import (
    TrainingProgress,
    check_run_signature,
    load_checkpoint,
    save_checkpoint,
    without_empty_branches,
)
from mondrian_core.training.generative_validation import GenerativeValidation, together, validate_by_generation
from mondrian_core.training.gradient_step import GradientStep, weighted_loss
from mondrian_core.training.memory import needs_gradient_checkpointing
from mondrian_core.training.objective import SUPERVISED_STAGE, PreferenceResult, TrainingObjective
from mondrian_core.training.optimizer import (
    apply_optimizer_step,
    make_optimizer,
    scheduled_learning_rate,
    with_default_learning_rate,
)
from mondrian_core.training.ranks import ALONE, Ranks
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch, training_rows_digest
from mondrian_core.training.training_log import TrainingLog

ADAPTER_FOLDER = "adapter"
_CHECKPOINT_SECONDS = 20.0
Tree = Any


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training left behind.

    Attributes:
        adapter: folder with the best adapter (mlx-vlm's format).
        best_epoch: epoch it comes from, counted from 1.
        best_loss: its validation loss, or its training loss when there was nothing to validate on; nats per token.
        best_answers: what it answered about validation photographs; None where none were asked.
        start_loss: validation loss of the untouched base; None without validation.
        worse_than_base: True when no epoch was better than the untouched base, by what the epoch is chosen by.
        steps: optimizer steps.
        seconds: training time over all interruptions.
        log: training_log.jsonl.
        curve: loss_curve.png.
        preference: what the phase after it came to; None where there was none.
    """

    adapter: Path
    best_epoch: int
    best_loss: float
    best_answers: GenerativeValidation | None
    steps: int
    seconds: float
    log: Path
    curve: Path
    preference: PreferenceResult | None = None
    start_loss: float | None = None
    worse_than_base: bool = False


def train_supervised(
    base: BaseVLM,
    rows: Sequence[DatasetRow],
    validation: Sequence[DatasetRow],
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool | None = False,
    features: Path | None = None,
    listen: EventListener = ignore_events,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Train an adapter on `rows`, choose the best epoch by `validation`, and leave it in out/adapter.

    Without validation rows every epoch is run and the last one is taken. The base is unchanged afterwards. With
    `resume` a run that was interrupted goes on from its last checkpoint and ends with the same adapter, bit for bit;
    with None it does so where rows, recipe and base are still the same, and begins anew where they are not.
    In the folder `features` what the vision tower saw is kept, so that the next training needn't look again.
    With several `ranks` each process calls this with the same rows, in `ranks.taking_part()`; only the first one writes
    to `out`.

    Raises:
        BadRecipe: target modules that are no linear layers of the language model.
        BadInput: no rows, a row that is too long, a resumption with other rows, recipe or base, or ranks with others.
        TrainingDiverged: when the loss or a gradient stops being a number; the last checkpoint stays.
        DiskFull: when no space is left; the last checkpoint stays.
        RankLost: when another rank went away; the steps so far are kept.
    """
    if not rows:
        raise BadInput("There are no rows to train on.", "Run `mondrian link` to see why records were left out.")
    lora_layers.resolve_target_modules(base, recipe.target_modules)  # before minutes of encoding
    recipe = with_default_learning_rate(recipe, base.hidden_size)
    signature = {
        "recipe": recipe_signature(recipe),
        "base": base.fingerprint,
        "rows": training_rows_digest(rows),
        "validation rows": training_rows_digest(validation),
    }
    ranks.same(signature)
    kept = VisionFeatureCache(features) if features else None
    examples = encode_training_rows(base, rows, recipe, listen, "training", kept)
    held_out = encode_training_rows(base, validation, recipe, listen, "validation", kept)
    asked = list(validation[: recipe.answered_photographs])
    try:
        return run_training_phase(
            TrainingObjective(stage=SUPERVISED_STAGE, loss=weighted_loss, make_batch=make_training_batch),
            base,
            examples,
            held_out,
            asked,
            recipe,
            out,
            signature,
            resume,
            listen,
            ranks=ranks,
        )
    finally:
        if kept:
            with suppress(FileNotFoundError):  # another process clears the same folder
                kept.prune()


def recipe_signature(recipe: TrainRecipe, *, preference: bool = False) -> str:
    """What of a recipe a run must keep to: the settings of the later phase may change after the first one."""
    values = recipe.model_dump(mode="json")
    return json.dumps(
        {name: values[name] for name in sorted(values) if preference or not name.startswith("preference_")}
    )


def run_training_phase(
    objective: TrainingObjective,
    base: BaseVLM,
    examples: Sequence[Any],
    held_out: Sequence[Any],
    asked: list[DatasetRow],
    recipe: TrainRecipe,
    out: Path,
    signature: dict[str, str],
    resume: bool | None,
    listen: EventListener,
    start: dict[str, mx.array] | None = None,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Run one phase, from these arrays or (None) from an adapter that changes nothing; see `train`."""
    lora_layers.attach_lora(base, recipe, recipe.seed)
    if start is not None:
        lora_layers.load_attached_parameters(base, start)
    base.model.train()
    step = GradientStep(base, loss=objective.loss)
    step.checkpointing = needs_gradient_checkpointing(base, [*examples, *held_out], recipe, step.threads)
    if step.checkpointing:
        listen(StageNotice(objective.stage, "Layers are computed again for the gradient, to save memory."))
    try:
        run = _TrainingRun(objective, step, base, examples, held_out, asked, recipe, out, signature, listen, ranks)
        run.start(resume)
        run.run()
        return run.result()
    finally:
        step.close()
        lora_layers.detach_lora(base)


class _TrainingRun:
    """The state of one training. `_sound` is what a checkpoint may hold: it changes whole, between two steps."""

    def __init__(
        self,
        objective: TrainingObjective,
        step: GradientStep,
        base: BaseVLM,
        examples: Sequence[Any],
        held_out: Sequence[Any],
        asked: list[DatasetRow],
        recipe: TrainRecipe,
        out: Path,
        signature: dict[str, str],
        listen: EventListener,
        ranks: Ranks,
    ) -> None:
        self._step, self._base, self._examples, self._held_out, self._asked = step, base, examples, held_out, asked
        self._objective, self._recipe, self._out, self._listen, self._ranks = objective, recipe, out, listen, ranks
        self._folder = out / objective.phase  # of its checkpoint
        self._image_tokens = max(example.prompt.image_tokens for example in [*examples, *held_out])
        self._per_epoch = math.ceil(len(examples) / recipe.accumulation)
        self._total = self._per_epoch * recipe.epochs
        trainable = without_empty_branches(base.model.trainable_parameters())
        self._optimizer = make_optimizer(recipe, trainable)
        self._state = _TrainingState(TrainingProgress(signature=signature), trainable, self._optimizer.state, None)
        self._began = time.perf_counter()
        self._log: TrainingLog

    # --- the course of a run ------------------------------------------------------------------------------------------

    def start(self, resume: bool | None) -> None:
        """Start anew, or take up an interrupted run (None: if it is the same training)."""
        found = self._checkpoint(required=resume) if resume is not False else None
        if found is not None and found[0].step:
            self._state = _TrainingState(*found)
            self._listen(StageNotice(self._objective.stage, f"Resumed after step {found[0].step} of {self._total}."))
        self._log = TrainingLog(
            self._out,
            self._state.progress if self._state.progress.step else None,
            self._objective.phase,
            writes=self._ranks.first,
            listen=self._listen,
        )
        self._began = time.perf_counter() - self._state.progress.seconds
        if not self._state.progress.step:
            self._save_checkpoint()
            if self._held_out:
                self._validate_start()

    def _checkpoint(self, *, required: bool | None) -> tuple[TrainingProgress, Tree, Tree, Tree | None] | None:
        """What an interrupted run left; None without one, and where another training left it and none is `required`."""
        try:
            found = load_checkpoint(self._folder, self._ranks)
            if found is not None:
                check_run_signature(found[0].signature, self._state.progress.signature)
        except BadInput as error:
            if required:
                raise
            self._listen(StageNotice(self._objective.stage, f"{error.problem} It begins at the first step."))
            return None
        return found

    def run(self) -> None:
        """Run what is left; on an interruption keep the steps that are done."""
        kept = time.perf_counter()
        try:
            while True:
                progress = self._state.progress
                ended = progress.step // self._per_epoch > progress.judged
                if ended:
                    self._end_epoch()
                elif progress.finished or progress.step >= self._total:
                    return
                else:
                    self._advance()
                if ended or time.perf_counter() - kept > _CHECKPOINT_SECONDS:
                    self._save_checkpoint()
                    kept = time.perf_counter()
        except (KeyboardInterrupt, RankLost):
            self._save_checkpoint()
            raise

    def result(self) -> TrainingResult:
        """Write the best adapter and the curve."""
        sound = self._state
        folder, picture = self._out / ADAPTER_FOLDER, self._out / loss_curve.LOSS_CURVE_FILE
        if self._ranks.first:
            lora_layers.save_attached_adapter(self._base, folder, dict(tree_flatten(sound.best)))
            loss_curve.draw_loss_curve(self._log.lines, {self._objective.phase: sound.progress.best_epoch}, picture)
        progress = sound.progress
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
        sound = self._state
        if self._ranks.first:
            save_checkpoint(self._folder, sound.progress, sound.trainable, sound.optimizer, sound.best)

    # --- one optimizer step -------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        progress, recipe, trainable = self._state.progress, self._recipe, self._state.trainable
        chosen = self._chosen(progress.step)
        weight = sum(example.weight for example in chosen)
        shared = self._ranks.share(list(enumerate(chosen)))
        batches = [
            self._objective.make_batch(self._base, example, self._image_tokens, 1.0 / weight) for _, example in shared
        ]
        if recipe.dropout > 0:
            for (number, _), batch in zip(shared, batches, strict=True):
                batch["seed"] = _combined_seed(recipe.seed, progress.step, number)
        mine = self._step.loss_and_grad(trainable, batches) if batches else self._nothing(trainable)
        figures, gathered = self._ranks.gradient(*mine)
        rate = scheduled_learning_rate(progress.step, self._total, recipe)
        self._optimizer.state = self._state.optimizer
        updated, state, norm = apply_optimizer_step(self._optimizer, trainable, gathered, rate, recipe.clip_norm)
        mx.eval(updated, state, figures, norm)
        self._accept(updated, state, np.array(figures), float(np.array(norm)), rate, weight)

    def _nothing(self, trainable: Tree) -> tuple[mx.array, Tree]:
        """Figures and gradient of a rank that has no row in this step."""
        return mx.zeros(1 + len(self._objective.metrics)), tree_map(mx.zeros_like, trainable)

    def _chosen(self, step: int) -> list[Any]:
        """The rows of an optimizer step: every epoch uses every row, in an order drawn from the seed."""
        epoch, within = divmod(step, self._per_epoch)
        order = np.random.default_rng([self._recipe.seed, epoch]).permutation(len(self._examples))
        size = self._recipe.accumulation
        return [self._examples[i] for i in order[within * size : (within + 1) * size]]

    def _accept(self, updated: Tree, state: Tree, figures: np.ndarray, norm: float, rate: float, weight: float) -> None:
        before, loss = self._state.progress, float(figures.flat[0])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"The training stopped being a number at step {before.step + 1} (loss {loss}, gradient norm {norm}).",
                f"Lower the learning rate ({self._recipe.learning_rate:g}) and train again; "
                "the last checkpoint is kept.",
            )
        gathered = (before.epoch_loss[0] + loss * weight, before.epoch_loss[1] + weight)
        seconds = time.perf_counter() - self._began
        progress = replace(before, step=before.step + 1, seconds=seconds, epoch_loss=gathered)
        epoch = before.step // self._per_epoch + 1
        self._log.add(
            kind="step",
            step=progress.step,
            epoch=epoch,
            loss=loss,
            **self._named_metrics(figures),
            gradient_norm=norm,
            learning_rate=rate,
            seconds=round(seconds, 3),
        )
        self._state = _TrainingState(progress, updated, state, self._state.best)
        left = int(seconds / progress.step * (self._total - progress.step))
        text = f"epoch {epoch}/{self._recipe.epochs}, loss {loss:.3f}, {left // 60}:{left % 60:02d} left"
        self._listen(StageProgressed(self._objective.stage, progress.step, self._total, text))

    # --- epochs -------------------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        self._state = self._sync_ranks(self._state)
        before = self._state.progress
        epoch = before.judged + 1
        train_loss = before.epoch_loss[0] / before.epoch_loss[1]
        figures = self._validate(f"after epoch {epoch}")
        answers = self._answers()
        judged = None if figures is None else float(figures.flat[0])
        usable = judged is not None and math.isfinite(judged)
        loss = judged if judged is not None and usable else train_loss
        figure = math.inf if judged is not None and not usable else self._selection_metric(loss, answers)
        better = judged is None or figure < before.best_figure or self._state.best is None
        unimproved = 0 if better else before.unimproved + 1
        progress = replace(
            before,
            judged=epoch,
            best_epoch=epoch if better else before.best_epoch,
            best_loss=loss if better else before.best_loss,
            best_figure=figure if better else before.best_figure,
            best_answers=_values(answers) if better else before.best_answers,
            unimproved=unimproved,
            finished=unimproved >= self._recipe.patience or before.step >= self._total,
            epoch_loss=(0.0, 0.0),
            seconds=time.perf_counter() - self._began,
        )
        self._log.add(
            kind="epoch",
            step=before.step,
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=judged,
            **self._named_metrics(figures, "validation_"),
            **_log_fields(answers),
        )
        best = self._state.trainable if better else self._state.best
        self._state = _TrainingState(progress, self._state.trainable, self._state.optimizer, best)
        if better and self._is_worse_than_base(figure):
            self._listen(
                StageNotice(
                    self._objective.stage,
                    f"Epoch {epoch} is worse than the untouched base: "
                    f"{self._chosen_by(answers)} {figure:.4g}, the base's {before.start_figure:.4g}. "
                    "It is kept only while no later epoch is better.",
                )
            )

    def _is_worse_than_base(self, figure: float) -> bool:
        """True where the phase began with the untouched base, and that was no worse than this."""
        start = self._state.progress.start_figure
        return start is not None and figure >= start

    def _chosen_by(self, answers: GenerativeValidation | None) -> str:
        by_answers = answers is not None and self._recipe.choose_by == "score_error"
        return "squared error of the scores" if by_answers else "validation loss"

    def _sync_ranks(self, sound: _TrainingState) -> _TrainingState:
        """Other chips round otherwise: at the end of an epoch all ranks go on with the arrays of the first."""
        levelled = self._ranks.tree_from_first({"adapter": sound.trainable, "optimizer": sound.optimizer})
        return replace(sound, trainable=levelled["adapter"], optimizer=levelled["optimizer"])

    def _validate_start(self) -> None:
        """Validate and answer before the first step; rows without a loss even there are set aside for the whole run."""
        figures, answers = self._validate("before the first step", set_aside=True), self._answers()
        loss = None if figures is None else float(figures.flat[0])
        self._log.add(
            kind="epoch",
            step=0,
            epoch=0,
            train_loss=None,
            validation_loss=loss,
            **self._named_metrics(figures, "validation_"),
            **_log_fields(answers),
        )
        if loss is None or not math.isfinite(loss):
            return
        sound, figure = self._state, self._selection_metric(loss, answers)
        if self._objective.may_keep_start:
            progress = replace(sound.progress, best_loss=loss, best_figure=figure, best_answers=_values(answers))
            self._state = _TrainingState(progress, sound.trainable, sound.optimizer, sound.trainable)
        else:
            self._state = replace(sound, progress=replace(sound.progress, start_loss=loss, start_figure=figure))

    def _selection_metric(self, loss: float, answers: GenerativeValidation | None) -> float:
        """What the best epoch is chosen by."""
        return answers.score_error if answers and self._recipe.choose_by == "score_error" else loss

    def _named_metrics(self, figures: np.ndarray | None, prefix: str = "") -> dict[str, float]:
        """What the objective gives besides the loss, for the log."""
        if figures is None:
            return {}
        return {
            prefix + name: float(value) for name, value in zip(self._objective.metrics, figures.flat[1:], strict=True)
        }

    def _validate(self, when: str, *, set_aside: bool = False) -> np.ndarray | None:
        """Weighted loss over the held-out rows (nats per token), or what the objective gives, the loss first.

        None where no row is left to judge by. Rows whose loss is not a number are named, and the loss is then not a
        number either, unless they are `set_aside`.
        """
        judging = [number for number in range(len(self._held_out)) if number not in self._state.progress.set_aside]
        if not judging:
            return None
        figures, broken = self._losses_of(judging)
        if not broken:
            return figures
        photographs = ", ".join(dict.fromkeys(self._held_out[number].photo_id for number in broken))
        told = f"The validation loss of {photographs} is not a number {when}"
        if not set_aside:
            self._listen(
                StageNotice(
                    self._objective.stage,
                    f"{told}: this epoch can't be judged, and is not taken for better than one that can.",
                )
            )
            return figures
        self._listen(StageNotice(self._objective.stage, f"{told}: it is left out of the validation."))
        progress = replace(self._state.progress, set_aside=(*self._state.progress.set_aside, *broken))
        self._state = replace(self._state, progress=progress)
        return self._validate(when, set_aside=True)

    def _losses_of(self, judging: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """(figures over these held-out rows, the numbers of those whose own figures are not finite)."""
        weights = {number: self._held_out[number].weight for number in judging}
        weight = sum(weights.values())
        if not math.isfinite(weight):
            return np.full(1 + len(self._objective.metrics), math.nan), [
                number for number, own in weights.items() if not math.isfinite(own)
            ]
        shared = self._ranks.share(list(judging))
        self._base.model.eval()
        try:
            batches = [
                self._objective.make_batch(self._base, self._held_out[number], self._image_tokens, 1.0 / weight)
                for number in shared
            ]
            found = self._step.row_losses(self._state.trainable, batches) if batches else []
            own = np.asarray(sum(found, np.float64(0))) if found else np.zeros(1 + len(self._objective.metrics))
            figures = np.asarray(self._ranks.sums(own))
            if math.isfinite(float(figures.flat[0])):
                return figures, []
            broken = np.zeros(len(self._held_out))
            broken[[number for number, each in zip(shared, found, strict=True) if not np.isfinite(each).all()]] = 1.0
            return figures, [int(number) for number in np.flatnonzero(self._ranks.sums(broken))]
        finally:
            self._base.model.train()

    def _answers(self) -> GenerativeValidation | None:
        """What the adapter answers about the photographs that are asked about; None where there are none."""
        if not self._asked:
            return None
        changed = self._state.progress.step or self._objective.may_keep_start
        weights = dict(tree_flatten(self._state.trainable)) if changed else None
        asked = self._ranks.share(self._asked)
        found = validate_by_generation(self._base, weights, asked, self._recipe, self._listen) if asked else None
        return together(found, self._ranks)


@dataclass(frozen=True, eq=False)
class _TrainingState:
    """A moment between two steps: everything in it belongs together."""

    progress: TrainingProgress
    trainable: Tree
    optimizer: Tree
    best: Tree | None


def _values(answers: GenerativeValidation | None) -> tuple[int, int, float] | None:
    return None if answers is None else (answers.photographs, answers.valid, answers.score_error)


def _log_fields(answers: GenerativeValidation | None) -> dict[str, Any]:
    return {} if answers is None else {f"answers_{name}": value for name, value in vars(answers).items()}


def _combined_seed(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
