"""`mondrian init`, `mondrian doctor` and `mondrian prefect`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.options import CommandOptions, WholeNumber, settings_from_options, whole_number
from mondrian_core.cli.terminal_output import (
    print_next_step,
    print_result,
    show_progress,
    step_with_options,
)
from mondrian_core.next_steps import add_advisor_step, retrain_step
from mondrian_core.recipes import MAX_SEED
from mondrian_core.settings import Settings

if TYPE_CHECKING:
    from mondrian_core.base_checks import DoctorCheck


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InitOptions(CommandOptions):
    """Options of `mondrian init`."""

    sample: Annotated[bool, Parameter(help="fill it with rendered photographs and critiques")] = False
    photographs: Annotated[WholeNumber, Parameter(show_default=True, help="critiqued photographs in a sample")] = 80
    seed: Annotated[
        int,
        Parameter(
            converter=whole_number,
            validator=validators.Number(gte=0, lte=MAX_SEED),
            show_default=True,
            help="seed of the sample's photographs and critiques",
        ),
    ] = 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DoctorOptions(CommandOptions):
    """Options of `mondrian doctor`."""

    api: Annotated[
        str | None, Parameter(help="URL of the Prefect API (PREFECT_API_URL, or the server that `mondrian up` started)")
    ] = None
    deep: Annotated[bool, Parameter(help="also run `mondrian selftest`, which takes some minutes")] = False


def init_command(*, options: InitOptions = InitOptions()) -> int:
    """Create a workspace; with --sample, fill it with rendered photographs and an advisor's critiques.

    Like `git init`, the command may be repeated: without --sample an existing workspace isn't changed.
    """
    from mondrian_core.data.sample_workspace import ADVISOR, create_workspace

    settings = settings_from_options(options)
    if settings.database.is_file() and not options.sample:
        print_result(
            options.json,
            {"workspace": str(settings.root), "existed": True},
            lambda console: _draw_existing(console, options, settings),
        )
        return 0
    with show_progress(options.json) as listen:
        made = create_workspace(
            settings.root, sample=options.sample, seed=options.seed, photographs=options.photographs, listen=listen
        )

    def draw(console: Console) -> None:
        console.print(f"Workspace {settings.root}")
        for name, count in made.items():
            console.print(f"  {name}: {count}")
        if options.sample:
            print_next_step(
                console, options, f"{retrain_step(ADVISOR)} Or one stage: `mondrian link --advisor {ADVISOR}`."
            )
        else:
            print_next_step(console, options, add_advisor_step())

    print_result(options.json, {"workspace": str(settings.root), **made}, draw)
    return 0


def _draw_existing(console: Console, options: InitOptions, settings: Settings) -> None:
    console.print(f"Workspace {settings.root} exists already; nothing was changed.")
    print_next_step(console, options, "`mondrian doctor` shows what is there and what is missing.")


def doctor_command(*, options: DoctorOptions = DoctorOptions()) -> int:
    """Check machine, base model, database, Prefect server and worker; exit status 1 when something is wrong.

    With --deep the base model is hashed again, and the self-test follows.
    """
    from mondrian_core.doctor import run_doctor_checks

    settings = settings_from_options(options)
    checks = run_doctor_checks(settings, options.api, deep=options.deep)

    def draw(console: Console) -> None:
        for check in checks:
            mark = {True: "[green]ok  [/]", False: "[bold red]no  [/]", None: "[yellow]?   [/]"}[check.ok]
            console.print(f"{mark} {check.name}: {escape(check.finding)}")
            if check.next_step and check.ok is not True:
                console.print(f"       {step_with_options(options, check.next_step)}", markup=False)

    if options.deep and options.json:
        checks.append(_selftest_check(settings, quiet=True))
    print_result(options.json, [check.as_dict() for check in checks], draw)
    if options.deep and not options.json:
        print()
        checks.append(_selftest_check(settings, quiet=False))
    return 1 if any(check.ok is False for check in checks) else 0


def _selftest_check(settings: Settings, *, quiet: bool) -> DoctorCheck:
    from mondrian_core.base_checks import DoctorCheck
    from mondrian_core.cli.selftest import SelfTestTarget, selftest_with_output

    report, path = selftest_with_output(SelfTestTarget(settings), quiet=quiet)
    found = "; ".join(f"{each.title} ({each.base}, {each.stream}): {each.finding}" for each in report.off)
    return DoctorCheck("self-test", not report.off, found or f"fine; report: {path}", f"Attach {path} to a bug report.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PrefectOptions:
    """Options of `mondrian prefect`; everything else belongs to Prefect."""

    workspace: Annotated[Path | None, Parameter(help="workspace whose server is used (MONDRIAN_WORKSPACE)")] = None


def prefect_command(
    *words: Annotated[str, Parameter(help="as after `prefect`: deployment run 'retrain/scheduled' -p advisor=ansel")],
    options: PrefectOptions = PrefectOptions(),
) -> int:
    """Run `prefect` with these words and return its exit status.

    Address and password are passed in the environment: every user of the machine can read a command line.

    Raises:
        PrefectUnavailable: no server runs for this workspace.
    """
    from mondrian_core.prefect_server import prefect_client_environment

    settings = settings_from_options(CommandOptions(workspace=options.workspace))
    environment = prefect_client_environment(settings, os.environ)
    return subprocess.run([sys.executable, "-m", "prefect", *words], env=environment, check=False).returncode
