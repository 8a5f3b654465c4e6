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

from mondrian_core import accelerator_lock
from mondrian_core.cli.options import CommandOptions, NoWaitOption, settings_from_options, whole_number
from mondrian_core.cli.terminal_output import make_console, print_result
from mondrian_core.files import write_atomic
from mondrian_core.selftest.report import PrivateWords, SelfTestReport
from mondrian_core.selftest.session import CONFIGURED, DEFAULT_MINUTES, SelfTestListener, SelfTestPlan, run_selftest
from mondrian_core.selftest.steps import StepResult, StepStatus
from mondrian_core.settings import Settings

_MARKS = {
    StepStatus.OK: "[green]ok  [/]",
    StepStatus.OFF: "[bold red]off [/]",
    StepStatus.SKIPPED: "[yellow]-   [/]",
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
    report, path = selftest_with_output(settings, minutes=options.minutes, quiet=options.json, out=options.out)
    if options.json:
        print_result(True, json.loads(path.read_text(encoding="utf-8")), lambda console: None)
    return 1 if report.off else 0


def selftest_with_output(
    settings: Settings, *, minutes: int = DEFAULT_MINUTES, quiet: bool = False, out: Path | None = None
) -> tuple[SelfTestReport, Path]:
    """Run the self-test with a line per step, and write its report; gives the report and its file.

    Args:
        settings: name the base.
        minutes: time for all steps together.
        quiet: print nothing.
        out: file of the report; None: a new one in the current folder.
    """
    from mondrian_core.models.base_model import local_base_path

    path = out or Path(f"mondrian-selftest-{datetime.now(UTC):%Y%m%d-%H%M%S}.json")
    folder = local_base_path(settings.base)
    plan = SelfTestPlan(base=settings.base, base_folder=str(folder) if folder else None, seconds=minutes * 60.0)
    console = make_console()
    waiting = "selftest", lambda text: None if quiet else console.print(text)
    with accelerator_lock.exclusive_work(*waiting), _lines(console, quiet) as listen:
        report = run_selftest(plan, listen)
    private = PrivateWords([str(settings.root), str(settings.adapters_root), settings.base, plan.base_folder or ""])
    write_atomic(path, json.dumps(report.as_dict(private), indent=2) + "\n")
    if not quiet:
        if folder is None:
            console.print(
                f"\n{_MARKS[StepStatus.SKIPPED]}{escape(settings.base)} is not on this machine; nothing was "
                "downloaded. After the first training or `mondrian analyze` run this again."
            )
        _draw_verdict(console, report, path)
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
    if base:
        console.print(f"\n[bold]{'the configured base' if base == CONFIGURED else base}[/] on the {stream}")


def _draw_result(console: Console, result: StepResult) -> None:
    seconds = f"{result.seconds:5.1f} s" if result.seconds else "       "
    where = result.title if result.stream in ("CPU", "GPU") else "  " + result.stream.partition(" and ")[2]
    console.print(f"{_MARKS[result.status]}{where:<14} {seconds}  {escape(result.finding)}")
    if result.detail:
        console.print(f"{'':27}{escape(result.detail)}")


def _draw_verdict(console: Console, report: SelfTestReport, path: Path) -> None:
    done = [result for result in report.results if result.status is not StepStatus.SKIPPED]
    skipped = len(report.results) - len(done)
    if not report.machine.get("gpu"):
        console.print("\nNo GPU: compared with the published table only.")
    minutes, seconds = divmod(round(report.seconds), 60)
    also = f", {skipped} skipped" if skipped else ""
    if report.off:
        console.print(
            f"\n[bold red]{len(report.off)} of {len(done)} checks are off[/]{also} ({minutes}:{seconds:02d})."
        )
    else:
        console.print(f"\n[bold green]All {len(done)} checks are fine[/]{also} ({minutes}:{seconds:02d}).")
    for advice in dict.fromkeys(result.advice for result in report.off):
        which = [result for result in report.off if result.advice == advice]
        names = ", ".join(
            dict.fromkeys(f"{result.title} ({result.base or 'MLX'}, {result.stream})" for result in which)
        )
        console.print(f"  {names}: {which[0].cause}. {advice}", markup=False)
    console.print(
        f"Report: {path} (no names, paths or values of the environment: attach it to a bug report)", markup=False
    )
