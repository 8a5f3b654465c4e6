"""`mondrian train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from mondrian_core import stages
from mondrian_core.cli.dataset import link_and_build_dataset
from mondrian_core.cli.options import AdvisorOptions, FoldsOption, NoWaitOption, RecipeOptions, context_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener
from mondrian_core.stages import StageContext, TrainSummary


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions(AdvisorOptions, RecipeOptions, FoldsOption, NoWaitOption):
    """Options of `mondrian train`."""

    dataset: Annotated[
        Path | None, Parameter(help="folder of a dataset version (default: build one from the database)")
    ] = None
    out: Annotated[Path | None, Parameter(help="run folder (default: runs/TIME-ADVISOR in the workspace)")] = None
    resume: Annotated[bool, Parameter(help="resume the run in --out")] = False
    dry_run: Annotated[bool, Parameter(help="print the training plan without training")] = False


def train_command(*, options: TrainOptions) -> int:
    """Train an adapter; it becomes a version only after its evaluation.

    Exit status 1 when no critique is usable, or with --dry-run when the training doesn't fit into memory.
    """
    context = _training_context(options)
    with show_progress(options.json) as listen:
        if not context.dataset and not (options.resume and (context.run_folder / "dataset.json").exists()):
            link_and_build_dataset(context, listen)
        if options.dry_run:
            return _dry_run(options, context, listen)
        context.save(context.run_folder / "context.json")
        trained = stages.train_stage(context, listen, resume=options.resume)
    return _print_training(options, context, trained)


def _print_training(options: TrainOptions, context: StageContext, trained: TrainSummary) -> int:
    def draw(console: Console) -> None:
        console.print(f"Adapter: {trained.adapter}")
        trained_on = trained.trained_on or {}
        if trained_on.get("extent") == "all":
            console.print(
                f"  trained on all {trained_on['photographs']} photographs: cross-validation estimates the recipe's "
                "performance; no held-out photographs are left for this adapter"
            )
        console.print(f"  {trained.steps} steps in {trained.seconds:.0f} s; {trained.chosen}")
        if trained.answers:
            console.print(
                "  validation: {valid} of {photographs} answers have the required form, mean squared error of "
                "the scores {score_error:.2f}".format(**trained.answers)
            )
        if trained.preference:
            console.print(_preference_tuning_line(trained.preference_pairs, trained.preference))
        console.print(f"  loss curve: {trained.curve}")
        console.print(f"Next: mondrian evaluate --advisor {context.advisor} --adapter {trained.adapter}")

    print_result(options.json, trained.as_dict(), draw)
    return 0


def _preference_tuning_line(pairs: str, tuned: Mapping[str, Any]) -> str:
    """The result of preference tuning, in one line; `pairs` says from what."""
    after = f"epoch {tuned['best_epoch']}" if tuned["best_epoch"] else "no epoch: the adapter is unchanged"
    validated = (
        ""
        if tuned["accuracy"] is None
        else f"; of {tuned['validation_pairs']} validation pairs {tuned['accuracy']:.0%} ranked correctly "
        f"(before: {tuned['start_accuracy']:.0%})"
    )
    return f"  tuned on {pairs}, {after}{validated}"


def _training_context(options: TrainOptions) -> StageContext:
    if options.resume and not options.out:
        raise BadInput("--resume needs the run to resume.", "Give its folder with --out, such as runs/RUN.")
    context = context_from_options(options, options.advisor)
    if not options.out:
        return context
    out = Path(options.out).resolve()
    if out.parent != context.root / "runs":
        raise BadInput(
            f"{out} is not a folder in {context.root / 'runs'}.", "Choose --out in the workspace's runs folder."
        )
    return replace(context, run=out.name)


def _dry_run(options: TrainOptions, context: StageContext, listen: EventListener) -> int:
    estimate = stages.estimate_stage(context, listen)

    def draw(console: Console) -> None:
        for name, value in estimate.items():
            console.print(f"  {name}: {value}")

    print_result(options.json, estimate, draw)
    return 0 if estimate.get("fits", True) else 1
