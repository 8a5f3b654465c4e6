"""The stages of a retraining, one module and one function each: link, dataset, train, evaluate, register, promote.

A stage takes a `StageContext`, reads the summaries of earlier stages from `<run folder>/<stage>.json`, calls one
package of the core and writes its own summary. The command line, `retrain_adapter` in one process and the Prefect
tasks all run the same functions, and pass references between stages instead of rows.

`index` and `synthesize` are stages that run on their own. context.py: the input; summaries.py: the results;
accelerator_lock.py: one stage at a time; change_detection.py: whether a retraining has new inputs;
training_data.py and evaluation_data.py: the data of both; promotion_decision.py: the decision as a pure function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from mondrian_core.events import EventListener, StageFinished, ignore_events
from mondrian_core.stages.change_detection import (
    choose_recipe_by_size,
    require_changed_inputs,
    retraining_lock,
)
from mondrian_core.stages.context import StageContext, new_stage_context, with_seed
from mondrian_core.stages.dataset import dataset_stage
from mondrian_core.stages.evaluate import evaluate_stage
from mondrian_core.stages.index import index_stage, indexed_photographs
from mondrian_core.stages.link import link_stage
from mondrian_core.stages.promote import promote_stage
from mondrian_core.stages.register import register_stage
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
from mondrian_core.stages.synthesize import synthesize_stage
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
# Not part of a retraining.
STANDALONE_STAGES: Mapping[str, Callable[..., StageSummary]] = {"index": index_stage, "synthesize": synthesize_stage}


def check_run_prerequisites(context: StageContext, listen: EventListener = ignore_events) -> None:
    """Check what a run needs, before it creates a folder or spends minutes on its first stages; fetch its base model.

    Raises:
        UnknownAdvisor, NoDatabase, BaseModelUnavailable: each names the next step.
        BadInput: the registry can only be read.
    """
    from mondrian_core.models.base_download import fetch_base

    context.registry.require_writable()
    context.advisor_prompt()
    fetch_base(context.base_model, listen)


def retrain_adapter(
    context: StageContext,
    listen: EventListener = ignore_events,
    *,
    suit: bool = False,
    force: bool = True,
    resume: bool = False,
) -> PromoteSummary:
    """Run the whole chain in this process, as the flow `retrain` does with a server.

    Args:
        context: the run.
        listen: receives events.
        suit: choose the recipe by the number of critiques (`choose_recipe_by_size`).
        force: train even when a version was trained on the same inputs.
        resume: continue an interrupted run with its dataset and recipe.

    Raises:
        NothingNewToTrain: without `force`, when a version was trained on the same inputs.
    """
    check_run_prerequisites(context, listen)
    context.save(context.run_folder / "context.json")
    began = time.monotonic()
    already_built = resume and (context.run_folder / "dataset.json").is_file()
    with retraining_lock(context):
        for name, stage in STAGES.items():
            if already_built and name in ("link", "dataset"):
                continue
            stage(context, listen)
            if name == "link":
                context = choose_recipe_by_size(context, listen) if suit else context
                if not (force or resume):
                    require_changed_inputs(context, listen)
    outcome = read_stage_summary(context, "promote", PromoteSummary)
    listen(StageFinished("retrain", {"seconds": round(time.monotonic() - began, 1), **outcome.as_dict()}))
    return outcome
