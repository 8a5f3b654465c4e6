"""A whole training: supervised on the advisor's critiques, then preference tuning (DPO) if the recipe asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.dataset_types import DatasetRow, PreferencePair
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.vision_feature_cache import VisionFeatureCache
from mondrian_core.prompts import asked_answer_form
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.checkpoints import recipe_signature
from mondrian_core.training.dpo import PREFERENCE_STAGE, encode_preference_pairs
from mondrian_core.training.gradient_step import weighted_loss
from mondrian_core.training.objective import SUPERVISED_STAGE, TrainingObjective
from mondrian_core.training.optimizer import with_default_learning_rate
from mondrian_core.training.preference_tuning import PreferenceTuning, tune_on_preferences
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch, training_rows_digest
from mondrian_core.training.training_loop import run_training_phase
from mondrian_core.training.training_phase import TrainingPhase, TrainingResult


@dataclass(frozen=True)
class PreferencePairSplit:
    """Pairs to learn from, and pairs of other photographs that choose the epoch (none: the last epoch is taken)."""

    train: Sequence[PreferencePair] = ()
    validation: Sequence[PreferencePair] = ()


NO_PREFERENCE_PAIRS = PreferencePairSplit()


@dataclass(frozen=True)
class TrainingRows:
    """What an adapter is trained on.

    Attributes:
        train: rows to train on.
        validation: rows of other photographs that choose the best epoch; none: the last epoch is taken.
        pairs: pairs of answers for preference tuning.
        feature_cache: folder that keeps the photographs' vision features for the next training; None keeps none.
    """

    train: Sequence[DatasetRow]
    validation: Sequence[DatasetRow] = ()
    pairs: PreferencePairSplit = NO_PREFERENCE_PAIRS
    feature_cache: Path | None = None


def train_adapter(
    base: BaseVLM,
    rows: TrainingRows,
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool | None = False,
    listen: EventListener = ignore_events,
) -> TrainingResult:
    """Train a LoRA adapter and write the best one to out/adapter; the base is unchanged afterwards.

    After the supervised phase the adapter is tuned on the pairs, if the recipe has epochs for that and there are as
    many pairs as it asks for. The adapter of the supervised phase is then kept in out/preference/start.

    Args:
        base: the frozen base.
        rows: what to train on, and what to choose the epoch by.
        recipe: settings of the training.
        out: folder of the run.
        resume: True continues an interrupted run from its last checkpoint and ends with the same adapter, bit for bit;
            None does so if rows, recipe and base are unchanged and starts over otherwise; False starts over.
        listen: receives progress and notices.

    Raises:
        BadRecipe: a target module is not a linear layer of the language model.
        BadInput: no rows, a row that is too long, or a run to resume that had other rows, recipe or base.
        TrainingDiverged: the loss or a gradient is not finite; the last checkpoint is kept.
        DiskFull: no space is left; the last checkpoint is kept.
    """
    if not rows.train:
        raise BadInput("There are no rows to train on.", "Run `mondrian link` to see why records were left out.")
    lora_layers.resolve_target_modules(base, recipe.target_modules)  # fails before minutes of encoding
    recipe = with_default_learning_rate(recipe, base.hidden_size)
    cache = VisionFeatureCache(rows.feature_cache) if rows.feature_cache else None
    try:
        phase = _supervised_phase(base, rows, recipe, out, cache, listen)
        result = run_training_phase(base, phase, resume, listen)
        tuning = _preference_tuning(base, rows, recipe, out, cache, listen) if recipe.preference_epochs else None
        tuned = tune_on_preferences(base, tuning, result, resume, listen) if tuning else result
        lora_layers.record_answer_form(tuned.adapter, asked_answer_form(rows.train[0].messages))
        return tuned
    finally:
        if cache:
            with suppress(FileNotFoundError):  # another process may clear the same folder
                cache.prune()


def _supervised_phase(
    base: BaseVLM,
    rows: TrainingRows,
    recipe: TrainRecipe,
    out: Path,
    cache: VisionFeatureCache | None,
    listen: EventListener,
) -> TrainingPhase:
    return TrainingPhase(
        objective=TrainingObjective(stage=SUPERVISED_STAGE, loss=weighted_loss, make_batch=make_training_batch),
        recipe=recipe,
        examples=encode_training_rows(base, rows.train, recipe, listen, "training", cache),
        held_out=encode_training_rows(base, rows.validation, recipe, listen, "validation", cache),
        answered_rows=rows.validation[: recipe.answered_photographs],
        out=out,
        signature={
            "recipe": recipe_signature(recipe),
            "base": base.fingerprint,
            "rows": training_rows_digest(rows.train),
            "validation rows": training_rows_digest(rows.validation),
        },
    )


def _preference_tuning(
    base: BaseVLM,
    rows: TrainingRows,
    recipe: TrainRecipe,
    out: Path,
    cache: VisionFeatureCache | None,
    listen: EventListener,
) -> PreferenceTuning | None:
    """What preference tuning learns from; None, with a notice, when there are fewer pairs than the recipe asks for."""
    pairs = encode_preference_pairs(base, rows.pairs.train, recipe, listen, "pairs", cache)
    if len(pairs) < recipe.preference_pairs:
        message = (
            f"There are {len(pairs)} pairs; preference_pairs asks for {recipe.preference_pairs}. "
            "The adapter of the supervised training is kept."
        )
        listen(StageNotice(PREFERENCE_STAGE, message))
        return None
    return PreferenceTuning(
        recipe=recipe,
        pairs=pairs,
        held_out=encode_preference_pairs(base, rows.pairs.validation, recipe, listen, "validation pairs", cache),
        answered_rows=rows.validation[: recipe.answered_photographs],
        out=out,
    )
