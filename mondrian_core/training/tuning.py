"""A whole training: from the advisor's critiques, then (where the recipe asks for it) from pairs of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from mondrian_core.errors import BadInput
from mondrian_core.events import Listener, Noticed, ignore
from mondrian_core.files import write_atomic
from mondrian_core.models.adapter_files import CONFIGURATION, WEIGHTS
from mondrian_core.models.base import Base
from mondrian_core.models.features import VisionFeatures
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rows import CORRECTION, Pair, Row
from mondrian_core.training import curve, loop
from mondrian_core.training.loop import TrainingResult, recipe_text, run_phase
from mondrian_core.training.objective import Preferred
from mondrian_core.training.optimizer import settled
from mondrian_core.training.preference import PREFERENCE, PairExample, encode_pairs, preferring
from mondrian_core.training.ranks import ALONE, Ranks
from mondrian_core.training.references import digest_of, references, with_references
from mondrian_core.training.run_log import read_lines

START = "start"
_SHARE_OF_RATE = 0.1


@dataclass(frozen=True)
class Pairs:
    """Pairs to learn from, and pairs of other photographs that choose the epoch (none: the last epoch is taken)."""

    train: Sequence[Pair] = ()
    validation: Sequence[Pair] = ()


NO_PAIRS = Pairs()


def train(
    base: Base,
    rows: Sequence[Row],
    validation: Sequence[Row],
    recipe: TrainRecipe,
    out: Path,
    *,
    pairs: Pairs = NO_PAIRS,
    resume: bool | None = False,
    features: Path | None = None,
    listen: Listener = ignore,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """As `loop.train`; then the adapter is tuned on the pairs, if the recipe has epochs for that.

    With fewer pairs than the recipe asks for it says so, and the adapter is that of the first phase. Otherwise that one
    is left in out/preference/start.

    Raises:
        As `loop.train`.
    """
    first = loop.train(
        base, rows, validation, recipe, out, resume=resume, features=features, listen=listen, ranks=ranks
    )
    if not recipe.preference_epochs:
        return first
    recipe = settled(recipe, base.width)
    kept = VisionFeatures(features) if features else None
    examples = encode_pairs(base, pairs.train, recipe, listen, "pairs", kept)
    if len(examples) < recipe.preference_pairs:
        listen(
            Noticed(
                PREFERENCE,
                f"There are {len(examples)} pairs, preference_pairs asks for "
                f"{recipe.preference_pairs}: the adapter stays as it was trained.",
            )
        )
        return first
    held_out = encode_pairs(base, pairs.validation, recipe, listen, "validation pairs", kept)
    asked = list(validation[: recipe.answered_photographs])
    second = _prefer(base, examples, held_out, asked, recipe, out, first, resume, listen, ranks)
    return _together(first, second, examples, held_out, listen)


def _prefer(
    base: Base,
    examples: list[PairExample],
    held_out: list[PairExample],
    asked: list[Row],
    recipe: TrainRecipe,
    out: Path,
    first: TrainingResult,
    resume: bool | None,
    listen: Listener,
    ranks: Ranks,
) -> TrainingResult:
    folder, start = out / PREFERENCE, _arrays(first.adapter, ranks)
    if ranks.first:
        for name in (WEIGHTS, CONFIGURATION):
            write_atomic(folder / START / name, (first.adapter / name).read_bytes())
    signature = {
        "recipe": recipe_text(recipe, preference=True),
        "base": base.fingerprint,
        "trained adapter": digest_of(start),
        "pairs": _digest(examples),
        "validation pairs": _digest(held_out),
    }
    ranks.same(signature)
    found = ranks.from_first(lambda: references(base, [*examples, *held_out], recipe, folder, start, listen))
    rate = recipe.preference_learning_rate or _SHARE_OF_RATE * (recipe.learning_rate or 0.0)
    tuned = recipe.model_copy(update={"epochs": recipe.preference_epochs, "learning_rate": rate})
    done = run_phase(
        preferring(tuned),
        base,
        with_references(examples, found),
        with_references(held_out, found),
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
        curve.draw(read_lines(done.log), {"": first.best_epoch, PREFERENCE: done.best_epoch}, done.curve)
    return done


def _arrays(adapter: Path, ranks: Ranks) -> dict[str, mx.array]:
    """The first phase's adapter, on every rank."""
    from safetensors.numpy import load

    data = ranks.file_from_first(adapter / WEIGHTS)
    if data is None:
        raise BadInput(f"The adapter {adapter} of the first phase is gone.", "Train again.")
    return {name: mx.array(array) for name, array in load(data).items()}


def _digest(examples: Sequence[PairExample]) -> str:
    return hashlib.sha256(repr([(each.key, each.weights.tolist()) for each in examples]).encode()).hexdigest()


def _together(
    first: TrainingResult,
    second: TrainingResult,
    examples: Sequence[PairExample],
    held_out: Sequence[PairExample],
    listen: Listener,
) -> TrainingResult:
    """One result of both phases; epoch and loss are the first one's."""
    lines = [line for line in read_lines(second.log) if line.get("phase") == PREFERENCE and line["kind"] == "epoch"]
    judged = {line["epoch"]: line for line in lines if "validation_accuracy" in line}
    at, before = judged.get(second.best_epoch, {}), judged.get(0, {})
    if not second.best_epoch:
        listen(Noticed(PREFERENCE, "No epoch was better than the adapter as it was trained; that one is kept."))
    preferred = Preferred(
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
