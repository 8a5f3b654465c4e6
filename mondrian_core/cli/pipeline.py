"""The commands of the loop: link, dataset, train, evaluate, retrain."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from mondrian_core import stages
from mondrian_core.cli.options import context_from_options, has_recipe_options
from mondrian_core.cli.terminal_output import print_result, rich_gate_table, show_progress
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener
from mondrian_core.files import read_json
from mondrian_core.stages import StageContext, TrainSummary


def link_command(options: Namespace) -> int:
    """Join critiques with photographs and say why the rest was left out."""
    context = context_from_options(options)
    with show_progress(options.json) as listen:
        linked = stages.link_stage(context, listen)
    manifest = read_json(Path(linked.manifest))
    if options.csv:
        from mondrian_core.data.linking.link import LinkManifest

        LinkManifest.from_dict(manifest).write_csv(options.csv)

    def draw(console: Console) -> None:
        console.print(Markdown(linked.table))
        console.print(f"Manifest: {linked.manifest}")

    print_result(options.json, {**linked.as_dict(), "records": manifest}, draw)
    return 0 if linked.used else 1


def dataset_command(options: Namespace) -> int:
    """Write the dataset version of the linked critiques."""
    context = context_from_options(options)
    with show_progress(options.json) as listen:
        built = link_and_build_dataset(context, listen)
    extra: dict[str, Any] = {}
    if options.export:
        from mondrian_core.data.dataset.builder import load_dataset_version
        from mondrian_core.data.dataset.export import export_dataset

        form, folder = options.export
        extra["exported"] = [
            str(path) for path in export_dataset(load_dataset_version(Path(built.path)), form, Path(folder).resolve())
        ]
    shown = None
    if options.preview is not None:
        from mondrian_core.cli.dataset_preview import load_row_preview, print_row_preview

        shown = load_row_preview(context, Path(built.path), options.preview)
        extra["preview"] = shown.as_dict()

    def draw(console: Console) -> None:
        console.print(f"Dataset {built.digest[:12]} at {built.path}")
        for split, rows in built.rows.items():
            console.print(f"  {split}: {built.photographs.get(split, 0)} photographs, {rows} rows")
        console.print(f"  variants to look at: {built.contact_sheet}")
        for path in extra.get("exported", ()):
            console.print(f"  exported: {path}")
        if shown is not None:
            print_row_preview(console, shown)

    print_result(options.json, {**built.as_dict(), **extra}, draw)
    return 0


def link_and_build_dataset(context: StageContext, listen: EventListener) -> stages.DatasetSummary:
    """Link and build in this run."""
    stages.link_stage(context, listen)
    return stages.dataset_stage(context, listen)


def train_command(options: Namespace) -> int:
    """Train an adapter; it becomes a version only after its evaluation."""
    context = _training_context(options)
    with show_progress(options.json) as listen:
        if not context.dataset and not (options.resume and (context.run_folder / "dataset.json").exists()):
            link_and_build_dataset(context, listen)
        if options.dry_run:
            return _dry_run(options, context, listen)
        context.save(context.run_folder / "context.json")
        trained = stages.train_stage(context, listen, resume=options.resume)
    return _print_training(options, context, trained)


def _print_training(options: Namespace, context: StageContext, trained: TrainSummary) -> int:
    def draw(console: Console) -> None:
        console.print(f"Adapter: {trained.adapter}")
        told = trained.trained_on or {}
        if told.get("extent") == "all":
            console.print(
                f"  trained on all {told['photographs']} photographs: folds judge the recipe, none is left "
                "to measure this adapter"
            )
        console.print(f"  {trained.steps} steps in {trained.seconds:.0f} s; {trained.chosen}")
        if trained.answers:
            console.print(
                "  validation: {valid} of {photographs} answers in form, squared error of the scores "
                "{score_error:.2f}".format(**trained.answers)
            )
        if trained.preference:
            console.print(_preference_tuning_line(trained.preference))
        console.print(f"  loss curve: {trained.curve}")
        console.print(f"Next: mondrian evaluate --advisor {context.advisor} --adapter {trained.adapter}")

    print_result(options.json, trained.as_dict(), draw)
    return 0


def _preference_tuning_line(told: Mapping[str, Any]) -> str:
    """What preference tuning came to, in a line."""
    after = f"epoch {told['best_epoch']}" if told["best_epoch"] else "no epoch: the adapter stays as it was trained"
    validated = (
        ""
        if told["accuracy"] is None
        else f"; of {told['validation_pairs']} validation pairs {told['accuracy']:.0%} the right way round "
        f"(before: {told['start_accuracy']:.0%})"
    )
    return f"  tuned on {told['pairs']} pairs ({told['corrections']} corrections), {after}{validated}"


def _training_context(options: Namespace) -> StageContext:
    if options.resume and not options.out:
        raise BadInput("--resume needs the run to go on with.", "Name its folder with --out, such as runs/<run>.")
    context = context_from_options(options)
    if not options.out:
        return context
    out = Path(options.out).resolve()
    if out.parent != context.root / "runs":
        raise BadInput(f"{out} is no folder under {context.root / 'runs'}.", "Choose --out below the workspace's runs.")
    return replace(context, run=out.name)


def _run_to_resume(options: Namespace) -> StageContext:
    """The context of a run of this workspace, with the recipe that it began with."""
    given = context_from_options(options)
    file = given.root / "runs" / Path(options.resume).name / "context.json"
    try:
        found = StageContext.load(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{options.resume} is not a run that can be resumed: {file} can't be read.",
            "Name a folder of the workspace's runs/, or its name.",
        ) from error
    if found.advisor != given.advisor:
        raise BadInput(f"The run {found.run} is one of '{found.advisor}'.", f"Give --advisor {found.advisor}.")
    return replace(found, workspace=given.workspace, adapters=given.adapters, actor=given.actor)


def _dry_run(options: Namespace, context: StageContext, listen: EventListener) -> int:
    estimate = stages.estimate_stage(context, listen)

    def draw(console: Console) -> None:
        for name, value in estimate.items():
            console.print(f"  {name}: {value}")

    print_result(options.json, estimate, draw)
    return 0 if estimate.get("fits", True) else 1


def retrain_command(options: Namespace) -> int:
    """Link, build, train, evaluate, register, promote: exit status 0 when the new version was promoted."""
    context = context_from_options(options) if options.resume is None else _run_to_resume(options)
    with show_progress(options.json) as listen:
        outcome = stages.retrain_adapter(
            context,
            listen,
            suit=not has_recipe_options(options),
            force=options.force,
            resume=options.resume is not None,
        )
    judged = stages.read_stage_summary(context, "evaluate", stages.EvaluateSummary)

    def draw(console: Console) -> None:
        console.print(rich_gate_table(judged.gates))
        console.print(f"{outcome.version}: {outcome.decision}. {outcome.sentence}")
        if outcome.command:
            console.print(f"Next: {outcome.command}")
        console.print(f"Report: {judged.html}")

    print_result(options.json, {**outcome.as_dict(), "run": context.run, "evaluation": judged.as_dict()}, draw)
    return 0 if outcome.decision == "promoted" else 1
