"""Checkpoints: one file with adapter, optimizer, best adapter and progress, written completely or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mondrian_core.errors import BadInput
from mondrian_core.files import write_atomic
from mondrian_core.recipes import TrainRecipe

CHECKPOINT_FILE = "checkpoint.safetensors"
Tree = Any


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        signature: what must be unchanged when the run is resumed, by name.
        step: finished optimizer steps; row order and all random numbers follow from it and the seed.
        seconds: training time so far.
        best_epoch: epoch (from 1) with the best adapter so far; 0: none yet.
        best_loss: its loss.
        best_figure: the value it was chosen by, see `TrainRecipe.choose_by`.
        best_answers: its (photographs, valid, score_error) if validation photographs were answered.
        judged: epochs that are validated and compared.
        unimproved: epochs in a row that were not better.
        finished: True if the run ended by itself.
        epoch_loss: (weighted sum, weight) of the current epoch's training loss.
        start_loss: validation loss of the base without an adapter; None if the phase began with an adapter or has no
            validation.
        start_figure: the base's value by which the best epoch is chosen.
        set_aside: indices of held-out examples whose loss isn't finite even for the base.
    """

    signature: dict[str, str]
    step: int = 0
    seconds: float = 0.0
    judged: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best_figure: float = float("inf")
    best_answers: tuple[int, int, float] | None = None
    unimproved: int = 0
    finished: bool = False
    epoch_loss: tuple[float, float] = (0.0, 0.0)
    start_loss: float | None = None
    start_figure: float | None = None
    set_aside: tuple[int, ...] = ()


def save_checkpoint(
    folder: Path, progress: TrainingProgress, trainable: Tree, optimizer: Tree, best: Tree | None
) -> None:
    """Replace the run's checkpoint.

    Args:
        folder: the checkpoint's folder.
        progress: how far the run is.
        trainable: the adapter's arrays.
        optimizer: the optimizer's state.
        best: arrays of the best adapter so far; None before the first epoch ends.

    Raises:
        DiskFull: no space is left; the previous checkpoint is kept.
    """
    from safetensors.numpy import save

    trees = {"adapter": trainable, "optimizer": optimizer, **({} if best is None else {"best": best})}
    tensors = {f"{kind}/{name}": np.array(array) for kind, tree in trees.items() for name, array in tree_flatten(tree)}
    write_atomic(folder / CHECKPOINT_FILE, save(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def load_checkpoint(folder: Path) -> tuple[TrainingProgress, Tree, Tree, Tree | None] | None:
    """(progress, adapter, optimizer, best adapter) of an interrupted run, or None if there is none.

    Raises:
        BadInput: the file is damaged.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        tensors, metadata = cast(tuple[Any, Any], mx.load(str(path), return_metadata=True))
        values = json.loads(metadata["progress"])
        answers = values.get("best_answers")
        progress = TrainingProgress(
            **{
                **values,
                "epoch_loss": tuple(values["epoch_loss"]),
                "set_aside": tuple(values.get("set_aside", ())),
                "best_answers": None if answers is None else tuple(answers),
            }
        )
        parts = {kind: _tree(tensors, kind) for kind in ("adapter", "optimizer", "best")}
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The checkpoint {path} can't be read ({error}).", "Train without --resume.") from error
    return progress, parts["adapter"], parts["optimizer"], parts["best"] or None


def without_empty_branches(tree: Tree) -> Tree:
    """The tree without empty branches, as a file gives it back."""
    return tree_unflatten(tree_flatten(tree))


def _tree(tensors: dict[str, mx.array], kind: str) -> Tree:
    found = [(name.removeprefix(f"{kind}/"), array) for name, array in tensors.items() if name.startswith(f"{kind}/")]
    return tree_unflatten(found) if found else {}


def recipe_signature(recipe: TrainRecipe, *, preference: bool = False) -> str:
    """The settings that an interrupted run must keep, as JSON.

    Those of preference tuning may still change after the supervised phase, so they count for that phase alone.
    """
    values = recipe.model_dump(mode="json")
    return json.dumps(
        {name: values[name] for name in sorted(values) if preference or not name.startswith("preference_")}
    )


def check_run_signature(interrupted: dict[str, str], current: dict[str, str]) -> None:
    """Check that an interrupted run is the same training.

    Raises:
        BadInput: rows, recipe or base differ; names what does.
    """
    different = [name for name in sorted({*interrupted, *current}) if interrupted.get(name) != current.get(name)]
    if different:
        raise BadInput(
            f"The interrupted run can't be resumed: {', '.join(different)} changed since then.",
            "Give the same recipe, dataset and base, or train without --resume.",
        )
