"""`mondrian retrain`: all stages in one process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from mondrian_core import stages
from mondrian_core.cli.options import (
    AdvisorOptions,
    FoldsOption,
    NoWaitOption,
    RecipeOptions,
    context_from_options,
    has_recipe_options,
)
from mondrian_core.cli.terminal_output import print_result, rich_gate_table, show_progress
from mondrian_core.errors import BadInput
from mondrian_core.events import chain_listeners
from mondrian_core.retraining_runs import progress_log_listener
from mondrian_core.shared_storage import PUBLICATION_MARKER, fetch_run
from mondrian_core.stages import StageContext


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RetrainOptions(AdvisorOptions, RecipeOptions, FoldsOption, NoWaitOption):
    """Options of `mondrian retrain`."""

    resume: Annotated[str | None, Parameter(metavar="RUN", help="resume the interrupted run of this name")] = None
    force: Annotated[bool, Parameter(help="train even when a version has the same inputs")] = False


def retrain_command(*, options: RetrainOptions) -> int:
    """Link, build, train, evaluate, register, promote; exit status 0 when the new version was promoted."""
    context = context_from_options(options, options.advisor) if options.resume is None else _run_to_resume(options)
    with show_progress(options.json) as listen:
        outcome = stages.retrain_adapter(
            context,
            chain_listeners(listen, progress_log_listener(context.run_folder)),
            suit=not has_recipe_options(options),
            force=options.force,
            resume=options.resume is not None,
        )
    evaluated = stages.read_stage_summary(context, "evaluate", stages.EvaluateSummary)

    def draw(console: Console) -> None:
        console.print(rich_gate_table(evaluated.gates))
        console.print(f"{outcome.version}: {outcome.decision}. {outcome.sentence}")
        if outcome.command:
            console.print(f"Next: {outcome.command}")
        console.print(f"Report: {evaluated.html}")

    print_result(options.json, {**outcome.as_dict(), "run": context.run, "evaluation": evaluated.as_dict()}, draw)
    return 0 if outcome.decision == "promoted" else 1


def _run_to_resume(options: RetrainOptions) -> StageContext:
    """The context of an earlier run of this workspace, with the recipe that it began with."""
    given = context_from_options(options, options.advisor)
    run = Path(str(options.resume)).name
    file = given.root / "runs" / run / "context.json"
    if (storage := given.shared_storage()) is not None:
        fetch_run(storage, given.root, run)
    try:
        earlier = StageContext.load(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{options.resume} is not a run that can be resumed: {file} can't be read.",
            "Give a folder of the workspace's runs/, or its name.",
        ) from error
    if earlier.advisor != given.advisor:
        raise BadInput(
            f"The run {earlier.run} belongs to advisor '{earlier.advisor}'.", f"Give --advisor {earlier.advisor}."
        )
    came = (file.parent / PUBLICATION_MARKER).is_file()  # from a machine that may keep the base in another folder
    return replace(
        earlier,
        workspace=given.workspace,
        adapters=given.adapters,
        actor=given.actor,
        base_model=given.base_model if came else earlier.base_model,
    )
