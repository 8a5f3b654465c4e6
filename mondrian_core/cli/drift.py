"""`mondrian drift`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mondrian_core.cli.options import OptionalAdvisorOptions, command_line_actor, settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result, step_with_options
from mondrian_core.drift import DriftMonitor
from mondrian_core.drift.report import DriftReport, drift_report, evidence_text, next_drift_steps
from mondrian_core.drift.signals import ALARM_EVIDENCE
from mondrian_core.errors import BadInput
from mondrian_core.registry import Registry
from mondrian_core.store import Store

_STYLE = {"alarm": "bold red", "watching": "green", "inconclusive": "yellow", "no_reference": "dim"}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DriftOptions(OptionalAdvisorOptions):
    """Options of `mondrian drift`."""

    accept: Annotated[
        bool, Parameter(help="the latest answers of --advisor are normal: watch for changes from here on")
    ] = False


def drift_command(*, options: DriftOptions = DriftOptions()) -> int:
    """Compare live answers with the champion's evaluation; exit status 1 when there is an alarm."""
    settings = settings_from_options(options)
    root = settings.require_workspace()
    if options.accept and options.advisor is None:
        raise BadInput("--accept needs the advisor whose answers are normal.", "Add --advisor A.")
    with Store(settings.database) as store:
        monitor = DriftMonitor(store, Registry(settings.adapters_root), root)
        if options.advisor is not None:
            store.advisor(options.advisor)
        if options.accept and options.advisor is not None:
            monitor.accept(options.advisor, command_line_actor())
        advisors = [options.advisor] if options.advisor else monitor.advisors()
        reports = [drift_report(advisor, monitor.update(advisor)) for advisor in advisors]

    def draw(console: Console) -> None:
        if not reports:
            console.print("This workspace has no advisor yet. Next: `mondrian start`.")
        for report in reports:
            _draw_report(console, report, options)

    print_result(options.json, [report.as_dict() for report in reports], draw)
    return 1 if any(report.alarms for report in reports) else 0


def _draw_report(console: Console, report: DriftReport, options: DriftOptions) -> None:
    style = _STYLE.get(report.status, "dim")
    console.print(f"[bold]{escape(report.advisor)}[/]  [{style}]{report.status.replace('_', ' ')}[/]")
    console.print(f"  {report.sentence}", markup=False)
    if report.watch is not None and report.watch.source:
        console.print(f"  Compared with {escape(report.watch.source)}; {escape(report.watch.begun_by)}.")
    if report.signals:
        table = Table(
            Column("signal", no_wrap=True),
            Column("state", no_wrap=True),
            Column("band", justify="right"),
            Column("live", justify="right"),
            Column("evidence", justify="right", no_wrap=True),
            Column("found in 100", justify="right"),
            box=None,
            pad_edge=False,
        )
        for each in report.signals:
            band = f"{display_number(each.band[0])} to {display_number(each.band[1])}" if each.band else ""
            shift = f"{display_number(each.detectable)} {each.signal.unit}" if each.detectable else ""
            table.add_row(
                each.signal.title,
                f"[{_STYLE[each.status]}]{each.status.replace('_', ' ')}[/]",
                band,
                display_number(each.live_mean),
                evidence_text(each.evidence) if each.status != "no_reference" else "",
                shift,
            )
        console.print(table)
        console.print(f"  An alarm is raised at an evidence of {ALARM_EVIDENCE:.0f}.")
    for each in report.alarms:
        console.print(f"  {each.signal.title}: {escape(each.sentence)}")
    for step in next_drift_steps(report):
        console.print(f"  {step_with_options(options, step)}", markup=False)
