"""The train stage: train a LoRA adapter, or estimate what a training would take."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from mondrian_core.errors import MondrianError, translate_foreign_errors
from mondrian_core.events import EventListener, StageNotice, StageStarted, chain_listeners, ignore_events
from mondrian_core.settings import Settings
from mondrian_core.shared_storage import CheckpointPublisher, SharedStorage, restore_checkpoint
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.dataset import open_run_dataset
from mondrian_core.stages.summaries import TrainSummary, write_stage_summary


@on_accelerator
def train_stage(
    context: StageContext,
    listen: EventListener = ignore_events,
    *,
    resume: bool | None = None,
) -> TrainSummary:
    """Train a LoRA adapter; it stays in the run folder until it is registered.

    Training data: the training split, or all photographs of a small dataset (`training_data.select_training_data`).

    Args:
        context: the run.
        listen: receives events.
        resume: True: continue from the last checkpoint, an error when its inputs differ; None: continue when
            possible; False: start at the first step.
    """
    from mondrian_core.models.base_model import load_base
    from mondrian_core.stages import training_data
    from mondrian_core.training import TrainingRows, tensorboard, train_adapter

    version = open_run_dataset(context)
    selected = training_data.select_training_data(version, context.recipe)
    listen = training_data.listener_with_file_names(listen, version)
    listen(StageStarted("train", detail=selected.description))
    training_data.record_training_data(context.run_folder, version, selected.extent)
    with ExitStack() as stack, translate_foreign_errors(context.run_folder):
        # a training on a dataset that was named belongs to no retraining that another machine could continue
        if context.dataset is None and (storage := context.shared_storage()) is not None:
            if resume is not False:
                _restore(storage, context, listen)
            publisher = stack.enter_context(CheckpointPublisher(storage, context.run_folder, listen))
            listen = chain_listeners(listen, publisher)
        if Settings().tensorboard_enabled:
            curves = stack.enter_context(
                tensorboard.tensorboard_listener(context.run_folder / tensorboard.TENSORBOARD_FOLDER)
            )
            listen = chain_listeners(listen, curves)
        base = load_base(context.base_model)
        result = train_adapter(
            base,
            TrainingRows(
                selected.rows,
                selected.selection_rows,
                pairs=selected.pairs,
                feature_cache=context.root / "runs" / "cache" / "features",
            ),
            context.recipe.train,
            context.run_folder,
            resume=resume,
            listen=listen,
        )
    training_data.record_training_data(context.run_folder, version, selected.extent, done=True)
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
        trained_on=selected.as_dict(),
        base=base.identity.record(context.base_model),
        start_loss=result.start_loss,
        worse_than_base=result.worse_than_base,
    )
    return write_stage_summary(context, "train", summary, listen)


def _restore(storage: SharedStorage, context: StageContext, listen: EventListener) -> None:
    """Take over the checkpoint of another machine, if it is ahead of the one here."""
    try:
        position = restore_checkpoint(storage, context.run_folder)
    except (MondrianError, OSError) as error:
        listen(StageNotice("train", f"No published checkpoint can be used: {error}"))
        return
    if position is not None:
        listen(StageNotice("train", f"The checkpoint after step {position[0]} came from {storage.store.url}."))


@on_accelerator
def estimate_stage(context: StageContext, listen: EventListener = ignore_events) -> dict[str, Any]:
    """Estimate a training from a probe of a few layers: rows, tokens, steps, seconds and bytes. Nothing is trained."""
    from mondrian_core.models.base_model import load_base
    from mondrian_core.stages import training_data
    from mondrian_core.training.training_estimate import estimate_training

    selected = training_data.select_training_data(open_run_dataset(context), context.recipe)
    base = load_base(context.base_model, weights=False)  # the probe reads what it computes with
    estimate = estimate_training(
        base, selected.rows, selected.selection_rows, context.recipe.train, listen, selected.pairs
    )
    return {"trained_on": selected.description, **estimate.as_dict()}
