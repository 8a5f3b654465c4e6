"""The stage that trains, and what it would take."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.events import EventListener, StageStarted, chain_listeners, ignore_events
from mondrian_core.settings import Settings
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import DatasetSummary, TrainSummary, read_stage_summary, write_stage_summary

if TYPE_CHECKING:
    from mondrian_core.data.dataset.version import DatasetVersion


def load_run_dataset(context: StageContext) -> DatasetVersion:
    """The dataset version that was named, else the one that this run made."""
    from mondrian_core.data.dataset.version import load_dataset_version

    return load_dataset_version(Path(context.dataset or read_stage_summary(context, "dataset", DatasetSummary).path))


@on_accelerator()
def train_stage(
    context: StageContext,
    listen: EventListener = ignore_events,
    *,
    resume: bool | None = None,
) -> TrainSummary:
    """Train a LoRA adapter; it lies in the run folder until it is registered.

    `evidence.lessons` says on what: the dataset's training split, or all of a small one when folds judge the recipe.
    With `resume` it goes on where the run was interrupted, or refuses when it is another training by now; with None, as
    for a stage that is tried again, it goes on if it can; with False it begins at the first step.
    """
    from mondrian_core.models.base_model import load_base
    from mondrian_core.stages import training_data
    from mondrian_core.training import TrainingRows, tensorboard, train_adapter

    version = load_run_dataset(context)
    taught = training_data.select_training_data(version, context.recipe)
    listen = training_data.listener_with_file_names(listen, version)
    listen(StageStarted("train", detail=taught.description))
    training_data.record_training_data(context.run_folder, version, taught.extent)
    with ExitStack() as stack, translate_foreign_errors(context.run_folder):
        if Settings().tensorboard_enabled:
            curves = stack.enter_context(
                tensorboard.tensorboard_listener(context.run_folder / tensorboard.TENSORBOARD_FOLDER)
            )
            listen = chain_listeners(listen, curves)
        base = load_base(context.base_model)
        result = train_adapter(
            base,
            TrainingRows(
                taught.rows,
                taught.selection_rows,
                pairs=taught.pairs,
                feature_cache=context.root / "runs" / "cache" / "features",
            ),
            context.recipe.train,
            context.run_folder,
            resume=resume,
            listen=listen,
        )
    training_data.record_training_data(context.run_folder, version, taught.extent, done=True)
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
    return write_stage_summary(context, "train", summary, listen)


@on_accelerator()
def estimate_stage(context: StageContext, listen: EventListener = ignore_events) -> dict[str, Any]:
    """What a training would take: rows, tokens, steps, and time and memory from one probed step; nothing is trained."""
    from mondrian_core.models.base_model import load_base
    from mondrian_core.stages import training_data
    from mondrian_core.training.training_estimate import estimate_training as probe

    taught = training_data.select_training_data(load_run_dataset(context), context.recipe)
    base = load_base(context.base_model)
    found = probe(base, taught.rows, taught.selection_rows, context.recipe.train, listen, taught.pairs)
    return {"trained_on": taught.description, **found.as_dict()}
