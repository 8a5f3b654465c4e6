"""The stages of the loop, each one call: link, dataset, train, evaluate, register, promote.

A stage takes a `Context`, reads what earlier stages of the same run left as `<run folder>/<stage>.json`, does its work
through one room of the core and leaves its own summary there. So the command line, `retrain` in one process, and a
Prefect task that runs a stage in a process of its own all do the same thing, and hand on references instead of rows.

context.py    what a stage is told               summaries.py  what it leaves
material.py   link, dataset; index, synthesize   learning.py   train, estimate
judging.py    evaluate                           keeping.py    register, promote
exclusive.py  one at a time on the accelerator   novelty.py    is there anything new to learn
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from mondrian_core.events import EventListener, StageFinished, ignore_events
from mondrian_core.stages.change_detection import (
    choose_recipe_by_size,
    record_retraining,
    require_changed_inputs,
    retraining_lock,
)
from mondrian_core.stages.context import StageContext, new_stage_context, with_seed
from mondrian_core.stages.dataset import dataset_stage, index_stage, indexed_photographs, link_stage, synthesize_stage
from mondrian_core.stages.evaluate import evaluate_stage
from mondrian_core.stages.promote import promote_stage, register_stage
from mondrian_core.stages.summaries import (
    DatasetSummary,
    EvaluateSummary,
    IndexSummary,
    LinkSummary,
    PromoteSummary,
    RegisterSummary,
    StageSummary,
    SynthesizeSummary,
    TrainSummary,
    error_as_dict,
    read_stage_summary,
)
from mondrian_core.stages.train import estimate_stage, train_stage

__all__ = [
    "STAGES",
    "STANDALONE_STAGES",
    "DatasetSummary",
    "EvaluateSummary",
    "IndexSummary",
    "LinkSummary",
    "PromoteSummary",
    "RegisterSummary",
    "StageContext",
    "StageSummary",
    "SynthesizeSummary",
    "TrainSummary",
    "check_run_prerequisites",
    "choose_recipe_by_size",
    "dataset_stage",
    "error_as_dict",
    "estimate_stage",
    "evaluate_stage",
    "index_stage",
    "indexed_photographs",
    "link_stage",
    "new_stage_context",
    "promote_stage",
    "read_stage_summary",
    "record_retraining",
    "register_stage",
    "require_changed_inputs",
    "retrain_adapter",
    "retraining_lock",
    "synthesize_stage",
    "train_stage",
    "with_seed",
]

STAGES: Mapping[str, Callable[..., StageSummary]] = {
    "link": link_stage,
    "dataset": dataset_stage,
    "train": train_stage,
    "evaluate": evaluate_stage,
    "register": register_stage,
    "promote": promote_stage,
}
# Not part of the loop: run on their own, by the same means.
STANDALONE_STAGES: Mapping[str, Callable[..., StageSummary]] = {"index": index_stage, "synthesize": synthesize_stage}


def check_run_prerequisites(context: StageContext) -> None:
    """Refuse a run that could only fail later: before it leaves a folder, and before minutes of other work.

    Raises:
        UnknownAdvisor, NoDatabase, BaseModelUnavailable: each says what to do.
        BadInput: the recipe wants a rollout and the registry is in an object store.
    """
    from mondrian_core.models.base_model import resolve_base_path

    if context.recipe.promote.rollout:
        context.registry.require_rollout_support()
    context.store().advisor(context.advisor)
    resolve_base_path(context.base_model)


def retrain_adapter(
    context: StageContext,
    listen: EventListener = ignore_events,
    *,
    suit: bool = False,
    force: bool = True,
    resume: bool = False,
) -> PromoteSummary:
    """The whole chain in this process: what the flow `retrain` does, without a server.

    Args:
        suit: choose the recipe by the number of critiques (`suited_to_size`).
        force: train also when there is nothing new.
        resume: a run that was interrupted goes on with the dataset and the recipe that it has.

    Raises:
        NothingNew: without `force`, when critiques, base, recipe and prompt are those of the last retraining.
    """
    check_run_prerequisites(context)
    context.save(context.run_folder / "context.json")
    began = time.monotonic()
    built = resume and (context.run_folder / "dataset.json").is_file()
    with retraining_lock(context):
        for name, stage in STAGES.items():
            if built and name in ("link", "dataset"):
                continue
            stage(context, listen)
            if name == "link":
                context = choose_recipe_by_size(context, listen) if suit else context
                if not (force or resume):
                    require_changed_inputs(context)
        record_retraining(context)
    outcome = read_stage_summary(context, "promote", PromoteSummary)
    listen(StageFinished("retrain", {"seconds": round(time.monotonic() - began, 1), **outcome.as_dict()}))
    return outcome
