"""`mondrian demo`: the whole loop on this machine, from nothing to a promoted adapter and its critiques.

It creates a sample workspace if there is none, starts Prefect's server and a worker, runs `retrain/scheduled`, shows
the result, and stops what it started. A second run trains the next version.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import httpx
from cyclopts import Parameter
from rich.console import Console

from deployments import demo_screen
from deployments.bootstrap import RunningPrefect, bring_up, stop_started_processes
from deployments.prefect_instance import set_prefect_home
from deployments.run_watcher import FlowRunStatus, follow_flow_run, start_deployment_run
from deployments.up import EXIT_INTERRUPTED, SCHEDULED, PrefectServerOptions
from mondrian_core.cli.options import WholeNumber, settings_from_options
from mondrian_core.errors import Broken, MondrianError, NothingToDo, PrefectUnavailable
from mondrian_core.files import read_json
from mondrian_core.recipes import DEMO_RECIPE
from mondrian_core.registry import Registry
from mondrian_core.settings import MINI_BASE_MODEL, Settings

ADVISOR = "ansel"
WITHOUT_TRAINING = ("NothingNew", "Skipped")  # states of a run that had nothing to do
NEW_CRITIQUES = 40  # per further run; with fewer, the gate "champion" is nearly always inconclusive


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DemoOptions(PrefectServerOptions):
    """Options of `mondrian demo`."""

    recipe: Annotated[
        Path, Parameter(show_default=True, help="settings of every stage: a TOML file, or the name of a bundled recipe")
    ] = Path(DEMO_RECIPE)
    photographs: Annotated[
        WholeNumber, Parameter(show_default=True, help="number of photographs with critiques in a new sample workspace")
    ] = 80


def demo_command(*, options: DemoOptions = DemoOptions()) -> int:
    """Train, evaluate and try out an adapter on this machine, starting from nothing; leave nothing running.

    Exit status 0 when the adapter was promoted, 1 when it was not, that of a stage when it failed.
    """
    console = Console(stderr=options.json, highlight=False, soft_wrap=not sys.stdout.isatty())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _demo(options, settings_from_options(options), console)
    except KeyboardInterrupt:
        console.print("\nInterrupted. Everything that this command started has been stopped.")
        return EXIT_INTERRUPTED


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _demo(options: DemoOptions, settings: Settings, console: Console) -> int:
    began = time.monotonic()
    settings = settings.model_copy(update={"base_model": settings.base_model or MINI_BASE_MODEL})
    # before anything is started: this refuses an invalid recipe
    parameters = demo_run_parameters(settings, options, _next_version_number(settings))
    demo_screen.print_demo_headline(console, settings)
    _ensure_sample_workspace(settings, options.photographs, console)
    with _temporary_prefect(settings, options.port, console) as running:
        ended = _run(running, parameters, console)
    run_folder = settings.run_folder(ended.run)
    if not (run_folder / "promote.json").exists():
        raise demo_run_error(ended, run_folder, settings.root / ".prefect")
    outcome = read_json(run_folder / "promote.json")
    demo_screen.print_demo_gates(console, read_json(run_folder / "evaluate.json"), outcome)
    if outcome["decision"] == "promoted":
        demo_screen.print_demo_critiques(console, settings, ADVISOR, run_folder)
    demo_screen.print_demo_paths(console, settings, ADVISOR, outcome, run_folder, time.monotonic() - began)
    if options.json:
        print(json.dumps({**outcome, "run_folder": str(run_folder)}))
    return 0 if outcome["decision"] == "promoted" else 1


def demo_run_error(ended: FlowRunStatus, run_folder: Path, logs: Path) -> MondrianError:
    """Why a run has no decision: nothing to do, the error of its stage, or anything else.

    Args:
        ended: the run's last status.
        run_folder: of the run.
        logs: folder of the logs of server and worker.
    """
    from tasks.stage_runner import stage_process_error  # imports Prefect, so only after set_prefect_home

    if ended.state in WITHOUT_TRAINING:
        return NothingToDo(f"{ended.state}: {ended.message}")
    for failure in run_folder.glob("*.error.json"):
        return stage_process_error(failure.name.partition(".")[0], read_json(failure)["exit_status"], run_folder)
    return Broken(f"{ended.state}: {ended.message}", f"Logs: {logs} and {run_folder}.")


def _ensure_sample_workspace(settings: Settings, photographs: int, console: Console) -> None:
    """Create a sample workspace, or add critiques to an existing one, as happens over time."""
    from mondrian_core.data.sample_workspace import add_sample_critiques, create_workspace, is_sample_workspace

    if settings.database.exists() and not is_sample_workspace(settings.root):
        console.print(f"Workspace {settings.root} exists and is used as it is.", markup=False)
        return
    if settings.database.exists():
        with demo_screen.demo_progress_bar(console, "photographs") as listen:
            total = add_sample_critiques(settings.root, NEW_CRITIQUES, listen)
        console.print(f"Added {NEW_CRITIQUES} critiques by {ADVISOR} since the last run: {total} in all.")
        return

    with demo_screen.demo_progress_bar(console, "photographs") as listen:
        created = create_workspace(settings.root, sample=True, photographs=photographs, listen=listen)
    counts = ", ".join(f"{count} {kind}" for kind, count in created.items())
    console.print(f"Created a sample workspace at {settings.root}: {counts}.", markup=False)


def _next_version_number(settings: Settings) -> int:
    """The number of the next version. It is the seed too, so that a second run trains a different adapter."""
    versions = [version.version for version in Registry(settings.adapters_root).versions(ADVISOR)]
    return max((int(name[1:]) for name in versions if name[1:].isdigit()), default=0) + 1


@contextmanager
def _temporary_prefect(settings: Settings, port: int | None, console: Console) -> Iterator[RunningPrefect]:
    """Server and worker for the duration of the demo. Those that `mondrian up` started are used and kept."""
    set_prefect_home(settings)
    running = bring_up(settings, port=port or settings.prefect_port, on_message=lambda line: console.print(f"  {line}"))
    try:
        yield running
    finally:
        stop_started_processes(running)


def demo_run_parameters(settings: Settings, options: DemoOptions, seed: int) -> dict[str, Any]:
    """Parameters of the run, with absolute paths: a worker that was already running may have other defaults."""
    from mondrian_core.recipes import load_recipe

    return {
        "advisor": ADVISOR,
        "workspace": str(settings.root),
        "adapters": str(settings.adapters_root),
        "base_model": settings.base,
        "seed": seed,
        "recipe": load_recipe(options.recipe).model_dump(mode="json"),
    }


def _run(running: RunningPrefect, parameters: dict[str, Any], console: Console) -> FlowRunStatus:
    console.print(f"running {SCHEDULED}, seed {parameters['seed']}")
    try:
        run = start_deployment_run(running.place, SCHEDULED, parameters)
        with demo_screen.demo_stage_progress(console) as show:

            def on_status(status: FlowRunStatus) -> None:
                _require_processes_alive(running)
                show(status)

            return follow_flow_run(running.place, run, on_status)
    except httpx.HTTPError as error:
        _require_processes_alive(running)
        raise PrefectUnavailable(
            f"The Prefect server stopped responding ({type(error).__name__}).",
            f"Its log: {running.place.home / 'server.log'}",
        ) from error


def _require_processes_alive(running: RunningPrefect) -> None:
    for process in running.processes:
        if not process.alive:
            raise PrefectUnavailable(f"The {process.name} ended during the run.", f"Its log: {process.log}")
