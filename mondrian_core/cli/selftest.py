"""`mondrian selftest`, which `mondrian doctor --deep` runs too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core import accelerator_lock
from mondrian_core.cli.options import CommandOptions, NoWaitOption, settings_from_options, whole_number
from mondrian_core.cli.terminal_output import make_console, print_result
from mondrian_core.errors import BaseModelUnavailable
from mondrian_core.files import write_atomic
from mondrian_core.selftest.comparison import BOTH_STREAMS, PUBLISHED
from mondrian_core.selftest.report import PrivateWords, SelfTestReport
from mondrian_core.selftest.session import CONFIGURED, DEFAULT_MINUTES, SelfTestListener, SelfTestPlan, run_selftest
from mondrian_core.selftest.steps import StepResult, StepStatus
from mondrian_core.settings import Settings

_MARKS = {
    StepStatus.OK: "[green]ok  [/]",
    StepStatus.OFF: "[bold red]off [/]",
    StepStatus.SKIPPED: "[yellow]skip[/]",
}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SelfTestOptions(CommandOptions, NoWaitOption):
    """Options of `mondrian selftest`."""

    out: Annotated[
        Path | None, Parameter(help="file of the report (default: mondrian-selftest-DATE-TIME.json in this folder)")
    ] = None
    minutes: Annotated[
        int,
        Parameter(
            converter=whole_number,
            validator=validators.Number(gte=1, lte=60),
            show_default=True,
            help="time for all steps together",
        ),
    ] = DEFAULT_MINUTES


def selftest_command(*, options: SelfTestOptions = SelfTestOptions()) -> int:
    """Check what MLX computes on this machine, and how fast; exit status 1 when something is off."""
    settings = settings_from_options(options)
    target = SelfTestTarget(settings, required=options.base_model is not None)
    report, path = selftest_with_output(target, minutes=options.minutes, quiet=options.json, out=options.out)
    if options.json:
        print_result(True, json.loads(path.read_text(encoding="utf-8")), lambda console: None)
    return 1 if report.off else 0


class SelfTestTarget:
    """The configured base as it is on this machine; nothing is downloaded."""

    def __init__(self, settings: Settings, *, required: bool = False) -> None:
        """Look for the base.

        Raises:
            BaseModelUnavailable: it isn't on this machine, or is incomplete, and is `required`.
        """
        from mondrian_core.models.base_model import resolve_base_path

        self.settings, self.folder, self.why_absent = settings, "", ""
        try:
            self.folder = str(resolve_base_path(settings.base))
        except BaseModelUnavailable as error:
            if required:
                raise
            self.why_absent = f"{error.problem} {error.next_step}"

    @property
    def private_words(self) -> PrivateWords:
        """Places that the report must not name."""
        places = (self.settings.root, self.settings.adapters_root, self.settings.base, self.folder)
        return PrivateWords([str(place) for place in places])


def selftest_with_output(
    target: SelfTestTarget, *, minutes: int = DEFAULT_MINUTES, quiet: bool = False, out: Path | None = None
) -> tuple[SelfTestReport, Path]:
    """Run the self-test with a line per step, and write its report; gives the report and its file.

    Args:
        target: the base.
        minutes: time for all steps together.
        quiet: print nothing.
        out: file of the report; None: a new one in the current folder.
    """
    path = out or Path(f"mondrian-selftest-{datetime.now(UTC):%Y%m%d-%H%M%S}.json")
    plan = SelfTestPlan(base=target.settings.base, base_folder=target.folder or None, seconds=minutes * 60.0)
    console = make_console()
    waiting = "selftest", lambda text: None if quiet else console.print(text)
    with accelerator_lock.exclusive_work(*waiting), _lines(console, quiet) as listen:
        report = run_selftest(plan, listen)
    write_atomic(path, json.dumps(report.as_dict(target.private_words), indent=2) + "\n")
    if not quiet:
        _draw_verdict(console, report, path, target.why_absent)
    return report, path


@contextmanager
def _lines(console: Console, quiet: bool) -> Iterator[SelfTestListener]:
    """A line for each result; on a terminal the step that runs is shown below them."""
    if quiet:
        yield SelfTestListener()
        return
    with console.status("starting", spinner="dots") as status:
        yield SelfTestListener(
            on_run=lambda base, stream: _draw_heading(console, base, stream),
            on_progress=lambda title, text: status.update(f"{title}{f': {escape(text)}' if text else ''}"),
            on_result=lambda result: _draw_result(console, result),
        )


def _draw_heading(console: Console, base: str, stream: str) -> None:
    if not base:
        return
    name = "the configured base" if base == CONFIGURED else base
    where = "the GPU compared with the CPU" if stream == BOTH_STREAMS else f"on the {stream}"
    console.print(f"\n[bold]{name}[/], {where}")


def _draw_result(console: Console, result: StepResult) -> None:
    title = "  published" if result.stream.endswith(PUBLISHED) else result.title
    seconds = f"{result.seconds:.1f} s" if result.seconds else ""
    finding = escape(result.finding) + (f"\n[dim]{escape(result.detail)}[/]" if result.detail else "")
    if not console.is_terminal:
        console.print(f"{_MARKS[result.status]} {title:<13} {seconds:>7}  {finding}")
        return
    line = Table.grid(padding=(0, 1), expand=True)
    for width in (4, 13):
        line.add_column(width=width)
    line.add_column(width=7, justify="right", style="dim")
    line.add_column(ratio=1)
    line.add_row(_MARKS[result.status], title, seconds, finding)
    console.print(line)


def _draw_verdict(console: Console, report: SelfTestReport, path: Path, why_absent: str) -> None:
    if why_absent:
        console.print(f"\n[bold]the configured base[/]\n{_MARKS[StepStatus.SKIPPED]} {escape(why_absent)}")
    if not report.machine.get("gpu"):
        console.print("\nNo GPU: compared with the published figures only.")
    skipped = sum(result.status is StepStatus.SKIPPED for result in report.results)
    done = len(report.results) - skipped
    minutes, seconds = divmod(round(report.seconds), 60)
    also = f"{f', {skipped} skipped' if skipped else ''} ({minutes} min {seconds} s)."
    if report.off:
        console.print(f"\n[bold red]{len(report.off)} of {done} checks are off[/]{also}")
    else:
        console.print(f"\n[bold green]All {done} checks are fine[/]{also}")
    for cause in dict.fromkeys(result.cause for result in report.off):
        which = [result for result in report.off if result.cause == cause]
        names = dict.fromkeys(f"{each.title} ({each.base or 'MLX'}, {each.stream})" for each in which)
        console.print(f"  {', '.join(names)}: {cause}. {which[0].advice}", markup=False)
    console.print(f"Report to attach to a bug report, without names and paths: {path}", markup=False)
