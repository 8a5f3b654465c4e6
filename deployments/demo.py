"""`make demo`: the whole loop on this machine, from nothing to a promoted adapter that is tried out.

It makes a sample workspace when there is none, starts Prefect's server and a worker, runs `retrain/scheduled`, shows
what came of it, and leaves nothing running. A second run makes the next version.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from rich.console import Console

from deployments import demo_screen
from deployments.bootstrap import RunningPrefect, bring_up, stop_started_processes
from deployments.prefect_instance import set_prefect_home
from deployments.run_watcher import FlowRunStatus, follow_flow_run, start_deployment_run
from deployments.up import add_deployment_options, deployment_settings
from mondrian_core.errors import MondrianError, PrefectUnavailable
from mondrian_core.files import read_json
from mondrian_core.registry import Registry
from mondrian_core.settings import MINI_BASE_MODEL, Settings

ADVISOR = "ansel"
SCHEDULED = "retrain/scheduled"
INTERRUPTED = 130
NEW_CRITIQUES = 40  # with fewer the gate "champion" could seldom tell that the next version is no worse


def main(arguments: list[str] | None = None) -> int:
    """Entry point: 0 when the loop promoted, 1 when it ended otherwise, 2 and 3 for errors, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m deployments.demo", description=__doc__)
    add_deployment_options(parser)
    parser.add_argument(
        "--recipe",
        type=Path,
        default=Path("demo"),
        help="settings of every stage: a TOML file or a shipped one's name (default demo)",
    )
    parser.add_argument(
        "--photographs",
        type=int,
        default=80,
        help="critiqued photographs of a new sample workspace (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _demo(options, deployment_settings(options), console)
    except MondrianError as error:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False)
        return error.exit_status
    except KeyboardInterrupt:
        console.print("\nInterrupted. Nothing that this command started is running any more.")
        return INTERRUPTED


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _demo(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    began = time.monotonic()
    settings = settings.model_copy(update={"base_model": settings.base_model or MINI_BASE_MODEL})
    given = demo_run_parameters(
        settings, options, _next_number(settings)
    )  # refuses a bad recipe before anything is started
    demo_screen.print_demo_headline(console, settings)
    _ensure_sample_workspace(settings, options.photographs, console)
    with _temporary_prefect(settings, options.port, console) as running:
        ended = _run(running, given, console)
    run_folder = settings.run_folder(ended.run)
    if not (run_folder / "promote.json").exists():
        console.print(f"\n{ended.state}: {ended.message}", style="red", markup=False)
        console.print(f"Logs: {settings.root / '.prefect'}, {run_folder}", markup=False)
        return 3
    outcome = read_json(run_folder / "promote.json")
    demo_screen.print_demo_gates(console, read_json(run_folder / "evaluate.json"), outcome)
    if outcome["decision"] == "promoted":
        demo_screen.print_demo_critiques(console, settings, ADVISOR, run_folder)
    demo_screen.print_demo_paths(console, settings, ADVISOR, outcome, run_folder, time.monotonic() - began)
    return 0 if outcome["decision"] == "promoted" else 1


def _ensure_sample_workspace(settings: Settings, photographs: int, console: Console) -> None:
    """A sample workspace where there is none yet; in one that is there, more critiques, as when time goes by."""
    from mondrian_core.data.sample_workspace import add_sample_critiques, create_workspace, is_sample_workspace

    if settings.database.exists() and not is_sample_workspace(settings.root):
        console.print(f"Workspace {settings.root} is there already; it is used as it is.", markup=False)
        return
    if settings.database.exists():
        with demo_screen.demo_progress_bar(console, "photographs") as listen:
            total = add_sample_critiques(settings.root, NEW_CRITIQUES, listen)
        console.print(f"Since the last run {ADVISOR} critiqued {NEW_CRITIQUES} more photographs: {total} now.")
        return

    with demo_screen.demo_progress_bar(console, "photographs") as listen:
        made = create_workspace(settings.root, sample=True, photographs=photographs, listen=listen)
    counted = ", ".join(f"{count} {kind}" for kind, count in made.items())
    console.print(f"Made a sample workspace at {settings.root}: {counted}.", markup=False)


def _next_number(settings: Settings) -> int:
    """Number of the version that will be made; it is the seed too, so a second run trains another adapter."""
    numbers = [
        int(each.version[1:])
        for each in Registry(settings.adapters_root).versions(ADVISOR)
        if each.version[1:].isdigit()
    ]
    return max(numbers, default=0) + 1


@contextmanager
def _temporary_prefect(settings: Settings, port: int | None, console: Console) -> Iterator[RunningPrefect]:
    """Server and worker for the time of the demo; those of `make up` are used when they are there."""
    set_prefect_home(settings)
    running = bring_up(settings, port=port or settings.prefect_port, tell=lambda line: console.print(f"  {line}"))
    try:
        yield running
    finally:
        stop_started_processes(running)


def demo_run_parameters(settings: Settings, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Parameters of the run; absolute, because a worker that was there before may have other defaults."""
    from mondrian_core.recipes import load_recipe

    return {
        "advisor": ADVISOR,
        "workspace": str(settings.root),
        "adapters": str(settings.adapters_root),
        "base_model": settings.base,
        "seed": seed,
        "recipe": load_recipe(options.recipe).model_dump(mode="json"),
    }


def _run(running: RunningPrefect, given: dict[str, Any], console: Console) -> FlowRunStatus:
    console.print(f"running {SCHEDULED}, seed {given['seed']}")
    try:
        run = start_deployment_run(running.place, SCHEDULED, given)
        with demo_screen.demo_stage_progress(console) as show:

            def look(seen: FlowRunStatus) -> None:
                _require_processes_alive(running)
                show(seen)

            return follow_flow_run(running.place, run, look)
    except httpx.HTTPError as error:
        _require_processes_alive(running)
        raise PrefectUnavailable(
            f"The Prefect server stopped answering ({type(error).__name__}).",
            f"Its log: {running.place.home / 'server.log'}",
        ) from error


def _require_processes_alive(running: RunningPrefect) -> None:
    for process in running.processes:
        if not process.alive:
            raise PrefectUnavailable(f"The {process.name} ended while the run went on.", f"Its log: {process.log}")


if __name__ == "__main__":
    sys.exit(main())
