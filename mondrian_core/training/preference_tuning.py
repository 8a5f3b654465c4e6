"""The second phase of a training: the adapter is tuned on pairs of answers (DPO) in the same loop."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from mondrian_core.dataset_types import ACCEPTED_CROP, CORRECTION, RECOMMENDATION, DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.files import write_atomic
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora.lora_adapter import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import loss_curve
from mondrian_core.training.checkpoints import recipe_signature
from mondrian_core.training.dpo import PREFERENCE_STAGE, PreferenceExample, dpo_objective
from mondrian_core.training.dpo_references import arrays_digest, load_or_compute_references, with_reference_likelihoods
from mondrian_core.training.objective import PreferenceResult
from mondrian_core.training.training_log import read_training_log
from mondrian_core.training.training_loop import run_training_phase
from mondrian_core.training.training_phase import TrainingPhase, TrainingResult

START_ADAPTER_FOLDER = "start"
_SHARE_OF_RATE = 0.1  # default learning rate of this phase, as a share of the supervised phase's


@dataclass(frozen=True, eq=False, kw_only=True)
class PreferenceTuning:
    """What preference tuning learns from.

    Attributes:
        recipe: settings; the learning rate of the supervised phase is set.
        pairs: encoded pairs to learn from.
        held_out: encoded pairs of other photographs that choose the epoch.
        answered_rows: validation rows that are also answered after each epoch.
        out: folder of the run.
    """

    recipe: TrainRecipe
    pairs: Sequence[PreferenceExample]
    held_out: Sequence[PreferenceExample]
    answered_rows: Sequence[DatasetRow]
    out: Path


def tune_on_preferences(
    base: BaseVLM, tuning: PreferenceTuning, first: TrainingResult, resume: bool | None, listen: EventListener
) -> TrainingResult:
    """Tune the supervised phase's adapter; it is copied to out/preference/start first.

    Args:
        base: the frozen base; unchanged afterwards.
        tuning: what to learn from.
        first: result of the supervised phase.
        resume: as in `run_training_phase`.
        listen: receives progress and notices.
    """
    recipe, folder, start = tuning.recipe, tuning.out / PREFERENCE_STAGE, _read_arrays(first.adapter)
    for name in (ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE):
        write_atomic(folder / START_ADAPTER_FOLDER / name, (first.adapter / name).read_bytes())
    signature = {
        "recipe": recipe_signature(recipe, preference=True),
        "base": base.fingerprint,
        "trained adapter": arrays_digest(start),
        "pairs": _digest(tuning.pairs),
        "validation pairs": _digest(tuning.held_out),
    }
    references = load_or_compute_references(base, [*tuning.pairs, *tuning.held_out], recipe, folder, start, listen)
    rate = recipe.preference_learning_rate or _SHARE_OF_RATE * (recipe.learning_rate or 0.0)
    tuned = recipe.model_copy(update={"epochs": recipe.preference_epochs, "learning_rate": rate})
    phase = TrainingPhase(
        objective=dpo_objective(tuned),
        recipe=tuned,
        examples=with_reference_likelihoods(tuning.pairs, references),
        held_out=with_reference_likelihoods(tuning.held_out, references),
        answered_rows=tuning.answered_rows,
        out=tuning.out,
        signature=signature,
        start=start,
    )
    second = run_training_phase(base, phase, resume, listen)
    best_epochs = {"": first.best_epoch, PREFERENCE_STAGE: second.best_epoch}
    loss_curve.draw_loss_curve(read_training_log(second.log), best_epochs, second.curve)
    return _combined_result(first, second, tuning, listen)


def _read_arrays(adapter: Path) -> dict[str, mx.array]:
    """The supervised phase's adapter.

    Raises:
        BadInput: its file is gone.
    """
    from safetensors.numpy import load

    path = adapter / ADAPTER_WEIGHTS_FILE
    if not path.exists():
        raise BadInput(f"The adapter of the supervised training is missing from {adapter}.", "Train again.")
    return {name: mx.array(array) for name, array in load(path.read_bytes()).items()}


def _digest(examples: Sequence[PreferenceExample]) -> str:
    facts = [(example.key, example.weights.tolist()) for example in examples]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _combined_result(
    first: TrainingResult, second: TrainingResult, tuning: PreferenceTuning, listen: EventListener
) -> TrainingResult:
    """One result of both phases; epoch and loss are those of the supervised one."""
    epochs = {
        line["epoch"]: line
        for line in read_training_log(second.log)
        if line.get("phase") == PREFERENCE_STAGE and line["kind"] == "epoch" and "validation_accuracy" in line
    }
    best, start = epochs.get(second.best_epoch, {}), epochs.get(0, {})
    if not second.best_epoch:
        listen(StageNotice(PREFERENCE_STAGE, "No epoch was better than the supervised adapter, which is kept."))
    count, kinds = len(tuning.held_out), Counter(example.kind for example in tuning.pairs)
    preference = PreferenceResult(
        pairs=len(tuning.pairs),
        corrections=kinds[CORRECTION],
        recommendations=kinds[RECOMMENDATION],
        crops=kinds[ACCEPTED_CROP],
        validation_pairs=count,
        best_epoch=second.best_epoch,
        steps=second.steps,
        loss=second.best_loss,
        accuracy=_share(best.get("validation_accuracy"), count),
        margin=best.get("validation_margin"),
        start_accuracy=_share(start.get("validation_accuracy"), count),
        start_margin=start.get("validation_margin"),
    )
    return replace(
        first,
        steps=first.steps + second.steps,
        seconds=first.seconds + second.seconds,
        best_answers=second.best_answers or first.best_answers,
        preference=preference,
    )


def _share(value: float | None, count: int) -> float | None:
    """A share of `count` pairs, where a tie counts as half a pair, without the rounding errors of float32 sums."""
    return None if value is None else round(value * 2 * count) / (2 * count)
