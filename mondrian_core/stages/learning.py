"""The stage that trains, and what it would take."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import translated
from mondrian_core.events import Listener, Started, both, ignore
from mondrian_core.settings import Settings
from mondrian_core.stages.context import Context
from mondrian_core.stages.exclusive import on_accelerator
from mondrian_core.stages.summaries import DatasetSummary, TrainSummary, leave, summary_of

if TYPE_CHECKING:
    from mondrian_core.data.dataset import DatasetVersion
    from mondrian_core.training.ranks import Ranks


def dataset_of(context: Context) -> DatasetVersion:
    """The dataset version that was named, else the one that this run made."""
    from mondrian_core.data.dataset import load

    return load(Path(context.dataset or summary_of(context, "dataset", DatasetSummary).path))


@on_accelerator()
def train(
    context: Context, listen: Listener = ignore, *, resume: bool | None = None, ranks: Ranks | None = None
) -> TrainSummary:
    """Train a LoRA adapter; it lies in the run folder until it is registered.

    `evidence.lessons` says on what: the dataset's training split, or all of a small one when folds judge the recipe.
    With `resume` it goes on where the run was interrupted, or refuses when it is another training by now; with None, as
    for a stage that is tried again, it goes on if it can; with False it begins at the first step.
    With several `ranks` every process calls this, and the first one alone leaves a summary.
    """
    from mondrian_core import evidence
    from mondrian_core.models.base import load_base
    from mondrian_core.training import tensorboard
    from mondrian_core.training import train as train_adapter
    from mondrian_core.training.ranks import ALONE

    ranks = ranks or ALONE
    version = dataset_of(context)
    taught = evidence.lessons(version, context.recipe)
    listen = evidence.naming_photographs(listen, version)
    listen(Started("train", detail=taught.told))
    if ranks.first:
        evidence.note_training(context.run_folder, version, taught.extent)
    with ExitStack() as stack, translated(context.run_folder):
        if Settings().tensorboard_enabled and ranks.first:
            curves = stack.enter_context(tensorboard.following(context.run_folder / tensorboard.FOLDER))
            listen = both(listen, curves)
        base = load_base(context.base_model)
        result = train_adapter(
            base,
            taught.rows,
            taught.chosen_by,
            context.recipe.train,
            context.run_folder,
            pairs=taught.pairs,
            resume=resume,
            features=context.root / "runs" / "cache" / "features",
            listen=listen,
            ranks=ranks,
        )
    if ranks.first:
        evidence.note_training(context.run_folder, version, taught.extent, done=True)
    summary = TrainSummary(
        adapter=str(result.adapter),
        curve=str(result.curve),
        log=str(result.log),
        steps=result.steps,
        best_epoch=result.best_epoch,
        best_loss=result.best_loss,
        seconds=result.seconds,
        answers=asdict(result.best_answers) if result.best_answers else None,
        preference=asdict(result.preference) if result.preference else None,
        trained_on=taught.as_dict(),
        base=base.identity.record(context.base_model),
        start_loss=result.start_loss,
        worse_than_base=result.worse_than_base,
    )
    return leave(context, "train", summary, listen) if ranks.first else summary


@on_accelerator()
def estimate(context: Context, listen: Listener = ignore) -> dict[str, Any]:
    """What a training would take: rows, tokens, steps, and time and memory from one probed step; nothing is trained."""
    from mondrian_core import evidence
    from mondrian_core.models.base import load_base
    from mondrian_core.training.estimate import estimate as probe

    taught = evidence.lessons(dataset_of(context), context.recipe)
    base = load_base(context.base_model)
    found = probe(base, taught.rows, taught.chosen_by, context.recipe.train, listen, taught.pairs)
    return {"trained_on": taught.told, **found.as_dict()}
