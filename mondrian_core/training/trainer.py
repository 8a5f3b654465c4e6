"""A whole training: from the advisor's critiques, then (where the recipe asks for it) from pairs of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from mondrian_core.dataset_types import CORRECTION, DatasetRow, PreferencePair
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.files import write_atomic
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora.lora_adapter import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE
from mondrian_core.models.vision_feature_cache import VisionFeatureCache
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import loss_curve, training_loop
from mondrian_core.training.dpo import PREFERENCE_STAGE, PreferenceExample, dpo_objective, encode_preference_pairs
from mondrian_core.training.dpo_references import arrays_digest, load_or_compute_references, with_reference_likelihoods
from mondrian_core.training.objective import PreferenceResult
from mondrian_core.training.optimizer import with_default_learning_rate
from mondrian_core.training.ranks import ALONE, Ranks
from mondrian_core.training.training_log import read_training_log
from mondrian_core.training.training_loop import TrainingResult, recipe_signature, run_training_phase

START_ADAPTER_FOLDER = "start"
_SHARE_OF_RATE = 0.1


@dataclass(frozen=True)
class PreferencePairSplit:
    """Pairs to learn from, and pairs of other photographs that choose the epoch (none: the last epoch is taken)."""

    train: Sequence[PreferencePair] = ()
    validation: Sequence[PreferencePair] = ()


NO_PREFERENCE_PAIRS = PreferencePairSplit()


def train_adapter(
    base: BaseVLM,
    rows: Sequence[DatasetRow],
    validation: Sequence[DatasetRow],
    recipe: TrainRecipe,
    out: Path,
    *,
    pairs: PreferencePairSplit = NO_PREFERENCE_PAIRS,
    resume: bool | None = False,
    features: Path | None = None,
    listen: EventListener = ignore_events,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """As `loop.train`; then the adapter is tuned on the pairs, if the recipe has epochs for that.

    With fewer pairs than the recipe asks for it says so, and the adapter is that of the first phase. Otherwise that one
    is left in out/preference/start.

    Raises:
        As `loop.train`.
    """
    first = training_loop.train_supervised(
        base, rows, validation, recipe, out, resume=resume, features=features, listen=listen, ranks=ranks
    )
    if not recipe.preference_epochs:
        return first
    recipe = with_default_learning_rate(recipe, base.hidden_size)
    kept = VisionFeatureCache(features) if features else None
    examples = encode_preference_pairs(base, pairs.train, recipe, listen, "pairs", kept)
    if len(examples) < recipe.preference_pairs:
        listen(
            StageNotice(
                PREFERENCE_STAGE,
                f"There are {len(examples)} pairs, preference_pairs asks for "
                f"{recipe.preference_pairs}: the adapter stays as it was trained.",
            )
        )
        return first
    held_out = encode_preference_pairs(base, pairs.validation, recipe, listen, "validation pairs", kept)
    asked = list(validation[: recipe.answered_photographs])
    second = _tune_on_preferences(base, examples, held_out, asked, recipe, out, first, resume, listen, ranks)
    return _combined_result(first, second, examples, held_out, listen)


def _tune_on_preferences(
    base: BaseVLM,
    examples: list[PreferenceExample],
    held_out: list[PreferenceExample],
    asked: list[DatasetRow],
    recipe: TrainRecipe,
    out: Path,
    first: TrainingResult,
    resume: bool | None,
    listen: EventListener,
    ranks: Ranks,
) -> TrainingResult:
    folder, start = out / PREFERENCE_STAGE, _arrays(first.adapter, ranks)
    if ranks.first:
        for name in (ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE):
            write_atomic(folder / START_ADAPTER_FOLDER / name, (first.adapter / name).read_bytes())
    signature = {
        "recipe": recipe_signature(recipe, preference=True),
        "base": base.fingerprint,
        "trained adapter": arrays_digest(start),
        "pairs": _digest(examples),
        "validation pairs": _digest(held_out),
    }
    ranks.same(signature)
    found = ranks.from_first(
        lambda: load_or_compute_references(base, [*examples, *held_out], recipe, folder, start, listen)
    )
    rate = recipe.preference_learning_rate or _SHARE_OF_RATE * (recipe.learning_rate or 0.0)
    tuned = recipe.model_copy(update={"epochs": recipe.preference_epochs, "learning_rate": rate})
    done = run_training_phase(
        dpo_objective(tuned),
        base,
        with_reference_likelihoods(examples, found),
        with_reference_likelihoods(held_out, found),
        asked,
        tuned,
        out,
        signature,
        resume,
        listen,
        start=start,
        ranks=ranks,
    )
    if ranks.first:
        loss_curve.draw_loss_curve(
            read_training_log(done.log), {"": first.best_epoch, PREFERENCE_STAGE: done.best_epoch}, done.curve
        )
    return done


def _arrays(adapter: Path, ranks: Ranks) -> dict[str, mx.array]:
    """The first phase's adapter, on every rank."""
    from safetensors.numpy import load

    data = ranks.file_from_first(adapter / ADAPTER_WEIGHTS_FILE)
    if data is None:
        raise BadInput(f"The adapter {adapter} of the first phase is gone.", "Train again.")
    return {name: mx.array(array) for name, array in load(data).items()}


def _digest(examples: Sequence[PreferenceExample]) -> str:
    return hashlib.sha256(repr([(each.key, each.weights.tolist()) for each in examples]).encode()).hexdigest()


def _combined_result(
    first: TrainingResult,
    second: TrainingResult,
    examples: Sequence[PreferenceExample],
    held_out: Sequence[PreferenceExample],
    listen: EventListener,
) -> TrainingResult:
    """One result of both phases; epoch and loss are the first one's."""
    lines = [
        line
        for line in read_training_log(second.log)
        if line.get("phase") == PREFERENCE_STAGE and line["kind"] == "epoch"
    ]
    judged = {line["epoch"]: line for line in lines if "validation_accuracy" in line}
    at, before = judged.get(second.best_epoch, {}), judged.get(0, {})
    if not second.best_epoch:
        listen(
            StageNotice(PREFERENCE_STAGE, "No epoch was better than the adapter as it was trained; that one is kept.")
        )
    preferred = PreferenceResult(
        pairs=len(examples),
        corrections=sum(each.kind == CORRECTION for each in examples),
        validation_pairs=len(held_out),
        best_epoch=second.best_epoch,
        steps=second.steps,
        loss=second.best_loss,
        accuracy=_share(at.get("validation_accuracy"), len(held_out)),
        margin=at.get("validation_margin"),
        start_accuracy=_share(before.get("validation_accuracy"), len(held_out)),
        start_margin=before.get("validation_margin"),
    )
    return replace(
        first,
        steps=first.steps + second.steps,
        seconds=first.seconds + second.seconds,
        best_answers=second.best_answers or first.best_answers,
        preference=preferred,
    )


def _share(value: float | None, count: int) -> float | None:
    """The share of `count` pairs (a tie is half of one) without what adding float32 parts left of rounding."""
    return None if value is None else round(value * 2 * count) / (2 * count)
