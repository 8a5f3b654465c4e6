"""A checkpoint is one file with adapter, optimizer, best adapter and progress: it is there whole or not at all."""

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
    """Where a run stands.

    Attributes:
        signature: what must not change between interruption and resumption, by name.
        step: optimizer steps done; the order of rows and every random number follow from it and the seed.
        seconds: training time so far.
        best_epoch: epoch (from 1) whose adapter is the best so far; 0: none yet.
        best_loss: its loss.
        best_figure: what it was chosen by, see `TrainRecipe.choose_by`.
        best_answers: its (photographs, valid, score_error) where validation photographs were answered.
        judged: epochs whose end (validation, choice) is done.
        unimproved: evaluations in a row without a better loss.
        finished: True when the run ended by itself.
        epoch_loss: (sum, weight) of the running epoch's training loss.
        start_loss: validation loss of the untouched base; None where the phase began with an adapter, or without one.
        start_figure: the same of what the best epoch is chosen by.
        set_aside: numbers of the held-out rows whose loss is not a number even under the untouched base.
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

    Raises:
        DiskFull: when no space is left; the checkpoint before it stays.
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
    """The tree without its empty branches, as it comes back out of a file."""
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


def check_run_signature(found: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse to go on with other rows, another recipe or another base.

    Raises:
        BadInput: naming what differs.
    """
    different = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if different:
        raise BadInput(
            f"The interrupted run can't be resumed: {', '.join(different)} changed since then.",
            "Give the same recipe, dataset and base, or train without --resume.",
        )
