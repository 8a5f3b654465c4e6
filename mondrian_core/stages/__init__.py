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

from mondrian_core.events import Finished, Listener, ignore
from mondrian_core.stages.context import Context, new_context, with_seed
from mondrian_core.stages.judging import evaluate
from mondrian_core.stages.keeping import promote, register
from mondrian_core.stages.learning import estimate, train
from mondrian_core.stages.material import dataset, index, indexed_photographs, link, synthesize
from mondrian_core.stages.novelty import remember, require_something_new, retraining_lock, suited_to_size
from mondrian_core.stages.summaries import (
    DatasetSummary,
    EvaluateSummary,
    IndexSummary,
    LinkSummary,
    PromoteSummary,
    RegisterSummary,
    Summary,
    SynthesizeSummary,
    TrainSummary,
    failure_of,
    summary_of,
)

__all__ = [
    "APART",
    "STAGES",
    "Context",
    "DatasetSummary",
    "EvaluateSummary",
    "IndexSummary",
    "LinkSummary",
    "PromoteSummary",
    "RegisterSummary",
    "Summary",
    "SynthesizeSummary",
    "TrainSummary",
    "check",
    "dataset",
    "estimate",
    "evaluate",
    "failure_of",
    "index",
    "indexed_photographs",
    "link",
    "new_context",
    "promote",
    "register",
    "remember",
    "require_something_new",
    "retrain",
    "retraining_lock",
    "suited_to_size",
    "summary_of",
    "synthesize",
    "train",
    "with_seed",
]

STAGES: Mapping[str, Callable[..., Summary]] = {
    "link": link,
    "dataset": dataset,
    "train": train,
    "evaluate": evaluate,
    "register": register,
    "promote": promote,
}
# Not part of the loop: run on their own, by the same means.
APART: Mapping[str, Callable[..., Summary]] = {"index": index, "synthesize": synthesize}


def check(context: Context) -> None:
    """Refuse a run that could only fail later: before it leaves a folder, and before minutes of other work.

    Raises:
        UnknownAdvisor, NoDatabase, BaseModelUnavailable: each says what to do.
        BadInput: the recipe wants a rollout and the registry is in an object store.
    """
    from mondrian_core.models.base import resolve

    if context.recipe.promote.rollout:
        context.registry.require_room_for_rollouts()
    context.store().voice(context.advisor)
    resolve(context.base_model)


def retrain(
    context: Context, listen: Listener = ignore, *, suit: bool = False, force: bool = True, resume: bool = False
) -> PromoteSummary:
    """The whole chain in this process: what the flow `retrain` does, without a server.

    Args:
        suit: choose the recipe by the number of critiques (`suited_to_size`).
        force: train also when there is nothing new.
        resume: a run that was interrupted goes on with the dataset and the recipe that it has.

    Raises:
        NothingNew: without `force`, when critiques, base, recipe and prompt are those of the last retraining.
    """
    check(context)
    context.save(context.run_folder / "context.json")
    began = time.monotonic()
    built = resume and (context.run_folder / "dataset.json").is_file()
    with retraining_lock(context):
        for name, stage in STAGES.items():
            if built and name in ("link", "dataset"):
                continue
            stage(context, listen)
            if name == "link":
                context = suited_to_size(context, listen) if suit else context
                if not (force or resume):
                    require_something_new(context)
        remember(context)
    outcome = summary_of(context, "promote", PromoteSummary)
    listen(Finished("retrain", {"seconds": round(time.monotonic() - began, 1), **outcome.as_dict()}))
    return outcome
