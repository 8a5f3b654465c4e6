"""`mondrian init` and `mondrian doctor`."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.options import settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress


def init_command(options: Namespace) -> int:
    """Make a workspace; with --sample, one with rendered photographs and an advisor's critiques.

    An empty one that was asked for where a workspace is already stays as it is: like `git init`, the command may be
    repeated.
    """
    from mondrian_core.data.sample_workspace import create_workspace

    settings = settings_from_options(options)
    if settings.database.is_file() and not options.sample:
        print_result(
            options.json,
            {"workspace": str(settings.root), "existed": True},
            lambda console: console.print(
                f"Workspace {settings.root} exists already; nothing was changed. Next: mondrian doctor"
            ),
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
            console.print("Next: mondrian link --advisor ansel, or the whole chain: mondrian retrain --advisor ansel")
        else:
            console.print("Next: put photographs under source/, rows into mondrian.db, then: mondrian doctor")

    print_result(options.json, {"workspace": str(settings.root), **made}, draw)
    return 0


def doctor_command(options: Namespace) -> int:
    """Check machine, base model, database, Prefect server and worker; exit status 1 when something is wrong."""
    from mondrian_core.doctor import run_doctor_checks

    checks = run_doctor_checks(settings_from_options(options), options.api)

    def draw(console: Console) -> None:
        for check in checks:
            mark = {True: "[green]ok  [/]", False: "[bold red]no  [/]", None: "[yellow]?   [/]"}[check.ok]
            console.print(f"{mark} {check.name}: {escape(check.finding)}")
            if check.next_step and check.ok is not True:
                console.print(f"       {escape(check.next_step)}")

    print_result(options.json, [check.as_dict() for check in checks], draw)
    return 1 if any(check.ok is False for check in checks) else 0
