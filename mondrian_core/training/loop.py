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

from mondrian_core.errors import BadInput, RankLost, TrainingDiverged
from mondrian_core.events import Advanced, Listener, Noticed, ignore
from mondrian_core.models import adapters
from mondrian_core.models.base import Base
from mondrian_core.models.features import VisionFeatures
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rows import Row
from mondrian_core.training import curve
from mondrian_core.training.answering import Answered, answer_validation, together
from mondrian_core.training.checkpoints import Progress, check_signature, load_checkpoint, pruned, save_checkpoint
from mondrian_core.training.examples import batch_of, digest_of, encode_rows
from mondrian_core.training.memory import wants_checkpointing
from mondrian_core.training.objective import SUPERVISED, Objective, Preferred
from mondrian_core.training.optimizer import apply_step, learning_rate, make_optimizer, settled
from mondrian_core.training.ranks import ALONE, Ranks
from mondrian_core.training.run_log import RunLog
from mondrian_core.training.step import GradientStep, weighted_loss

ADAPTER = "adapter"
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
    best_answers: Answered | None
    steps: int
    seconds: float
    log: Path
    curve: Path
    preference: Preferred | None = None
    start_loss: float | None = None
    worse_than_base: bool = False


def train(
    base: Base,
    rows: Sequence[Row],
    validation: Sequence[Row],
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool | None = False,
    features: Path | None = None,
    listen: Listener = ignore,
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
    adapters.targets(base, recipe.target_modules)  # before minutes of encoding
    recipe = settled(recipe, base.width)
    signature = {
        "recipe": recipe_text(recipe),
        "base": base.fingerprint,
        "rows": digest_of(rows),
        "validation rows": digest_of(validation),
    }
    ranks.same(signature)
    kept = VisionFeatures(features) if features else None
    examples = encode_rows(base, rows, recipe, listen, "training", kept)
    held_out = encode_rows(base, validation, recipe, listen, "validation", kept)
    asked = list(validation[: recipe.answered_photographs])
    try:
        return run_phase(
            Objective(stage=SUPERVISED, loss=weighted_loss, batch_of=batch_of),
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


def recipe_text(recipe: TrainRecipe, *, preference: bool = False) -> str:
    """What of a recipe a run must keep to: the settings of the later phase may change after the first one."""
    values = recipe.model_dump(mode="json")
    return json.dumps(
        {name: values[name] for name in sorted(values) if preference or not name.startswith("preference_")}
    )


def run_phase(
    objective: Objective,
    base: Base,
    examples: Sequence[Any],
    held_out: Sequence[Any],
    asked: list[Row],
    recipe: TrainRecipe,
    out: Path,
    signature: dict[str, str],
    resume: bool | None,
    listen: Listener,
    start: dict[str, mx.array] | None = None,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Run one phase, from these arrays or (None) from an adapter that changes nothing; see `train`."""
    adapters.attach(base, recipe, recipe.seed)
    if start is not None:
        adapters.put(base, start)
    base.model.train()
    step = GradientStep(base, loss=objective.loss)
    step.checkpointing = wants_checkpointing(base, [*examples, *held_out], recipe, step.threads)
    if step.checkpointing:
        listen(Noticed(objective.stage, "Layers are computed again for the gradient, to save memory."))
    try:
        run = _Run(objective, step, base, examples, held_out, asked, recipe, out, signature, listen, ranks)
        run.begin(resume)
        run.go()
        return run.finish()
    finally:
        step.close()
        adapters.detach(base)


class _Run:
    """The state of one training. `_sound` is what a checkpoint may hold: it changes whole, between two steps."""

    def __init__(
        self,
        objective: Objective,
        step: GradientStep,
        base: Base,
        examples: Sequence[Any],
        held_out: Sequence[Any],
        asked: list[Row],
        recipe: TrainRecipe,
        out: Path,
        signature: dict[str, str],
        listen: Listener,
        ranks: Ranks,
    ) -> None:
        self._step, self._base, self._examples, self._held_out, self._asked = step, base, examples, held_out, asked
        self._objective, self._recipe, self._out, self._listen, self._ranks = objective, recipe, out, listen, ranks
        self._folder = out / objective.phase  # of its checkpoint
        self._image_tokens = max(example.prompt.image_tokens for example in [*examples, *held_out])
        self._per_epoch = math.ceil(len(examples) / recipe.accumulation)
        self._total = self._per_epoch * recipe.epochs
        trainable = pruned(base.model.trainable_parameters())
        self._optimizer = make_optimizer(recipe, trainable)
        self._sound = _Sound(Progress(signature=signature), trainable, self._optimizer.state, None)
        self._began = time.perf_counter()
        self._log: RunLog

    # --- the course of a run ------------------------------------------------------------------------------------------

    def begin(self, resume: bool | None) -> None:
        """Start anew, or take up an interrupted run (None: if it is the same training)."""
        found = self._checkpoint(required=resume) if resume is not False else None
        if found is not None and found[0].step:
            self._sound = _Sound(*found)
            self._listen(Noticed(self._objective.stage, f"Resumed after step {found[0].step} of {self._total}."))
        self._log = RunLog(
            self._out,
            self._sound.progress if self._sound.progress.step else None,
            self._objective.phase,
            writes=self._ranks.first,
            listen=self._listen,
        )
        self._began = time.perf_counter() - self._sound.progress.seconds
        if not self._sound.progress.step:
            self._keep()
            if self._held_out:
                self._judge_start()

    def _checkpoint(self, *, required: bool | None) -> tuple[Progress, Tree, Tree, Tree | None] | None:
        """What an interrupted run left; None without one, and where another training left it and none is `required`."""
        try:
            found = load_checkpoint(self._folder, self._ranks)
            if found is not None:
                check_signature(found[0].signature, self._sound.progress.signature)
        except BadInput as error:
            if required:
                raise
            self._listen(Noticed(self._objective.stage, f"{error.problem} It begins at the first step."))
            return None
        return found

    def go(self) -> None:
        """Run what is left; on an interruption keep the steps that are done."""
        kept = time.perf_counter()
        try:
            while True:
                progress = self._sound.progress
                ended = progress.step // self._per_epoch > progress.judged
                if ended:
                    self._end_epoch()
                elif progress.finished or progress.step >= self._total:
                    return
                else:
                    self._advance()
                if ended or time.perf_counter() - kept > _CHECKPOINT_SECONDS:
                    self._keep()
                    kept = time.perf_counter()
        except (KeyboardInterrupt, RankLost):
            self._keep()
            raise

    def finish(self) -> TrainingResult:
        """Write the best adapter and the curve."""
        sound = self._sound
        folder, picture = self._out / ADAPTER, self._out / curve.FILE
        if self._ranks.first:
            adapters.save(self._base, folder, dict(tree_flatten(sound.best)))
            curve.draw(self._log.lines, {self._objective.phase: sound.progress.best_epoch}, picture)
        progress = sound.progress
        answers = Answered(*progress.best_answers) if progress.best_answers else None
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

    def _keep(self) -> None:
        sound = self._sound
        if self._ranks.first:
            save_checkpoint(self._folder, sound.progress, sound.trainable, sound.optimizer, sound.best)

    # --- one optimizer step -------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        progress, recipe, trainable = self._sound.progress, self._recipe, self._sound.trainable
        chosen = self._chosen(progress.step)
        weight = sum(example.weight for example in chosen)
        shared = self._ranks.share(list(enumerate(chosen)))
        batches = [
            self._objective.batch_of(self._base, example, self._image_tokens, 1.0 / weight) for _, example in shared
        ]
        if recipe.dropout > 0:
            for (number, _), batch in zip(shared, batches, strict=True):
                batch["seed"] = _number(recipe.seed, progress.step, number)
        mine = self._step.gather(trainable, batches) if batches else self._nothing(trainable)
        figures, gathered = self._ranks.gradient(*mine)
        rate = learning_rate(progress.step, self._total, recipe)
        self._optimizer.state = self._sound.optimizer
        updated, state, norm = apply_step(self._optimizer, trainable, gathered, rate, recipe.clip_norm)
        mx.eval(updated, state, figures, norm)
        self._accept(updated, state, np.array(figures), float(np.array(norm)), rate, weight)

    def _nothing(self, trainable: Tree) -> tuple[mx.array, Tree]:
        """Figures and gradient of a rank that has no row in this step."""
        return mx.zeros(1 + len(self._objective.figures)), tree_map(mx.zeros_like, trainable)

    def _chosen(self, step: int) -> list[Any]:
        """The rows of an optimizer step: every epoch uses every row, in an order drawn from the seed."""
        epoch, within = divmod(step, self._per_epoch)
        order = np.random.default_rng([self._recipe.seed, epoch]).permutation(len(self._examples))
        size = self._recipe.accumulation
        return [self._examples[i] for i in order[within * size : (within + 1) * size]]

    def _accept(self, updated: Tree, state: Tree, figures: np.ndarray, norm: float, rate: float, weight: float) -> None:
        before, loss = self._sound.progress, float(figures.flat[0])
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
            **self._named(figures),
            gradient_norm=norm,
            learning_rate=rate,
            seconds=round(seconds, 3),
        )
        self._sound = _Sound(progress, updated, state, self._sound.best)
        left = int(seconds / progress.step * (self._total - progress.step))
        text = f"epoch {epoch}/{self._recipe.epochs}, loss {loss:.3f}, {left // 60}:{left % 60:02d} left"
        self._listen(Advanced(self._objective.stage, progress.step, self._total, text))

    # --- epochs -------------------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        self._sound = self._level(self._sound)
        before = self._sound.progress
        epoch = before.judged + 1
        train_loss = before.epoch_loss[0] / before.epoch_loss[1]
        figures = self._validate(f"after epoch {epoch}")
        answers = self._answers()
        judged = None if figures is None else float(figures.flat[0])
        usable = judged is not None and math.isfinite(judged)
        loss = judged if judged is not None and usable else train_loss
        figure = math.inf if judged is not None and not usable else self._figure(loss, answers)
        better = judged is None or figure < before.best_figure or self._sound.best is None
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
            **self._named(figures, "validation_"),
            **_logged(answers),
        )
        best = self._sound.trainable if better else self._sound.best
        self._sound = _Sound(progress, self._sound.trainable, self._sound.optimizer, best)
        if better and self._is_worse_than_base(figure):
            self._listen(
                Noticed(
                    self._objective.stage,
                    f"Epoch {epoch} is worse than the untouched base: "
                    f"{self._chosen_by(answers)} {figure:.4g}, the base's {before.start_figure:.4g}. "
                    "It is kept only while no later epoch is better.",
                )
            )

    def _is_worse_than_base(self, figure: float) -> bool:
        """True where the phase began with the untouched base, and that was no worse than this."""
        start = self._sound.progress.start_figure
        return start is not None and figure >= start

    def _chosen_by(self, answers: Answered | None) -> str:
        by_answers = answers is not None and self._recipe.choose_by == "score_error"
        return "squared error of the scores" if by_answers else "validation loss"

    def _level(self, sound: _Sound) -> _Sound:
        """Other chips round otherwise: at the end of an epoch all ranks go on with the arrays of the first."""
        levelled = self._ranks.tree_from_first({"adapter": sound.trainable, "optimizer": sound.optimizer})
        return replace(sound, trainable=levelled["adapter"], optimizer=levelled["optimizer"])

    def _judge_start(self) -> None:
        """Validate and answer before the first step; rows without a loss even there are set aside for the whole run."""
        figures, answers = self._validate("before the first step", set_aside=True), self._answers()
        loss = None if figures is None else float(figures.flat[0])
        self._log.add(
            kind="epoch",
            step=0,
            epoch=0,
            train_loss=None,
            validation_loss=loss,
            **self._named(figures, "validation_"),
            **_logged(answers),
        )
        if loss is None or not math.isfinite(loss):
            return
        sound, figure = self._sound, self._figure(loss, answers)
        if self._objective.keeps_start:
            progress = replace(sound.progress, best_loss=loss, best_figure=figure, best_answers=_values(answers))
            self._sound = _Sound(progress, sound.trainable, sound.optimizer, sound.trainable)
        else:
            self._sound = replace(sound, progress=replace(sound.progress, start_loss=loss, start_figure=figure))

    def _figure(self, loss: float, answers: Answered | None) -> float:
        """What the best epoch is chosen by."""
        return answers.score_error if answers and self._recipe.choose_by == "score_error" else loss

    def _named(self, figures: np.ndarray | None, prefix: str = "") -> dict[str, float]:
        """What the objective gives besides the loss, for the log."""
        if figures is None:
            return {}
        return {
            prefix + name: float(value) for name, value in zip(self._objective.figures, figures.flat[1:], strict=True)
        }

    def _validate(self, when: str, *, set_aside: bool = False) -> np.ndarray | None:
        """Weighted loss over the held-out rows (nats per token), or what the objective gives, the loss first.

        None where no row is left to judge by. Rows whose loss is not a number are named, and the loss is then not a
        number either, unless they are `set_aside`.
        """
        judging = [number for number in range(len(self._held_out)) if number not in self._sound.progress.set_aside]
        if not judging:
            return None
        figures, broken = self._losses_of(judging)
        if not broken:
            return figures
        photographs = ", ".join(dict.fromkeys(self._held_out[number].lineage for number in broken))
        told = f"The validation loss of {photographs} is not a number {when}"
        if not set_aside:
            self._listen(
                Noticed(
                    self._objective.stage,
                    f"{told}: this epoch can't be judged, and is not taken for better than one that can.",
                )
            )
            return figures
        self._listen(Noticed(self._objective.stage, f"{told}: it is left out of the validation."))
        progress = replace(self._sound.progress, set_aside=(*self._sound.progress.set_aside, *broken))
        self._sound = replace(self._sound, progress=progress)
        return self._validate(when, set_aside=True)

    def _losses_of(self, judging: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """(figures over these held-out rows, the numbers of those whose own figures are not finite)."""
        weights = {number: self._held_out[number].weight for number in judging}
        weight = sum(weights.values())
        if not math.isfinite(weight):
            return np.full(1 + len(self._objective.figures), math.nan), [
                number for number, own in weights.items() if not math.isfinite(own)
            ]
        shared = self._ranks.share(list(judging))
        self._base.model.eval()
        try:
            batches = [
                self._objective.batch_of(self._base, self._held_out[number], self._image_tokens, 1.0 / weight)
                for number in shared
            ]
            found = self._step.values(self._sound.trainable, batches) if batches else []
            own = np.asarray(sum(found, np.float64(0))) if found else np.zeros(1 + len(self._objective.figures))
            figures = np.asarray(self._ranks.sums(own))
            if math.isfinite(float(figures.flat[0])):
                return figures, []
            broken = np.zeros(len(self._held_out))
            broken[[number for number, each in zip(shared, found, strict=True) if not np.isfinite(each).all()]] = 1.0
            return figures, [int(number) for number in np.flatnonzero(self._ranks.sums(broken))]
        finally:
            self._base.model.train()

    def _answers(self) -> Answered | None:
        """What the adapter answers about the photographs that are asked about; None where there are none."""
        if not self._asked:
            return None
        changed = self._sound.progress.step or self._objective.keeps_start
        weights = dict(tree_flatten(self._sound.trainable)) if changed else None
        asked = self._ranks.share(self._asked)
        found = answer_validation(self._base, weights, asked, self._recipe, self._listen) if asked else None
        return together(found, self._ranks)


@dataclass(frozen=True, eq=False)
class _Sound:
    """A moment between two steps: everything in it belongs together."""

    progress: Progress
    trainable: Tree
    optimizer: Tree
    best: Tree | None


def _values(answers: Answered | None) -> tuple[int, int, float] | None:
    return None if answers is None else (answers.photographs, answers.valid, answers.score_error)


def _logged(answers: Answered | None) -> dict[str, Any]:
    return {} if answers is None else {f"answers_{name}": value for name, value in vars(answers).items()}


def _number(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
