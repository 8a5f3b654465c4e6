"""`mondrian runs`: list, show and compare the runs of a workspace."""

from __future__ import annotations

import sys
import webbrowser
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mondrian_core.cli.options import CommandOptions, OptionalAdvisorOptions, settings_from_options
from mondrian_core.cli.terminal_output import VERDICT_STYLE, display_number, print_result
from mondrian_core.errors import Broken, NothingToDo
from mondrian_core.runs import REPORT, RunCatalogue, RunRecord, compare_runs
from mondrian_core.shared_storage import fetch_published_runs
from mondrian_core.shared_storage.publication import open_shared

_FACTS = ("advisor", "state", "recipe", "started_at", "photographs", "steps", "seed", "verdict", "sentence", "version")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ShowRunOptions(CommandOptions):
    """Options of `mondrian runs show`."""

    open: Annotated[bool, Parameter(help="open the evaluation report in the browser")] = False


def _catalogue(options: CommandOptions) -> RunCatalogue:
    """The runs of the workspace, with those that other machines have published (MONDRIAN_SHARED)."""
    settings = settings_from_options(options)
    root = settings.require_workspace()
    if (storage := open_shared(settings.shared_root)) is not None:
        try:
            problems = fetch_published_runs(storage, root)[1]
        except Broken as error:
            problems = [str(error)]
        for problem in problems:
            print(f"Not every published run could be fetched. {problem}", file=sys.stderr)
    return RunCatalogue(root)


def list_runs_command(*, options: OptionalAdvisorOptions = OptionalAdvisorOptions()) -> int:  # noqa: B008  (frozen)
    """List the runs of the workspace, the latest first; exit status 1 when there is none."""
    found = [run for run in _catalogue(options).runs() if options.advisor in (None, run.advisor)]

    def draw(console: Console) -> None:
        if not found:
            console.print("No runs yet. Start one with `mondrian retrain --advisor A`.")
            return
        table = Table(Column("run", no_wrap=True), "state", "verdict", "error", "version", box=None, pad_edge=False)
        for run in found:
            table.add_row(*map(_cell, _row(run)))
        console.print(table)

    print_result(options.json, [run.as_dict() for run in found], draw)
    return 0 if found else 1


def _row(run: RunRecord) -> tuple[Any, ...]:
    return (run.name, run.state, run.verdict, run.candidate_error, run.version)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return display_number(value)
    style = VERDICT_STYLE.get(value) if isinstance(value, str) else None
    text = "" if value is None else escape(str(value))
    return f"[{style}]{text}[/]" if style else text


def show_run_command(
    run: Annotated[str, Parameter(help="name of a run")],
    /,
    *,
    options: ShowRunOptions = ShowRunOptions(),
) -> int:
    """Show one run, and where its report is.

    Raises:
        NothingToDo: with --open, when it has no report.
    """
    catalogue = _catalogue(options)
    record, report = catalogue.run(run), catalogue.file(run, REPORT)
    if options.open and report is None:
        raise NothingToDo(f"The run {run} has no report.", "It appears once its evaluation has ended.")

    def draw(console: Console) -> None:
        for name in _FACTS:
            if (value := getattr(record, name)) not in (None, ""):
                console.print(f"{name.replace('_', ' ')}: {_cell(value)}")
        if record.candidate_error is not None:
            console.print(
                f"score error: {_cell(record.candidate_error)}, base {_cell(record.base_error)} (points squared)"
            )
        if record.resume_command:
            console.print(f"To continue it: {record.resume_command}", markup=False)
        if report is not None:
            console.print(f"report: {report}", markup=False)

    if options.open and report is not None:
        webbrowser.open(report.as_uri())
    print_result(options.json, {**record.as_dict(), "report": str(report) if report else None}, draw)
    return 0


def compare_runs_command(
    runs: Annotated[tuple[str, ...], Parameter(help="names of two to eight runs")],
    /,
    *,
    options: CommandOptions = CommandOptions(),  # noqa: B008  (frozen)
) -> int:
    """Compare runs: the settings that differ, and their figures."""
    catalogue = _catalogue(options)
    compared = compare_runs([catalogue.run(name) for name in runs])

    def draw(console: Console) -> None:
        for title, key in (("Figures", "figures"), ("Settings that differ", "settings")):
            table = Table("", *compared["runs"], title=title, title_justify="left")
            for row in compared[key]:
                table.add_row(escape(row["what"]), *map(_cell, row["values"]))
            console.print(table)

    print_result(options.json, compared, draw)
    return 0
