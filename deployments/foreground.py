"""`mondrian foreground PART`: keep one part of Mondrian running for a supervisor such as launchd, systemd or Docker.

It starts the part as `mondrian up` does, or finds it running, and watches it: when the part ends, so does this command,
with status 1, and the supervisor starts it again. SIGTERM stops the part. When this command itself is killed, the part
runs on, and the next start of the command finds it, so a training survives that.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import httpx
from cyclopts import Parameter

from deployments import bootstrap
from deployments.prefect_instance import DEFAULT_PORT, set_prefect_home
from mondrian_core.cli.options import CommandOptions, WholeNumber, settings_from_options
from mondrian_core.errors import MondrianError, PrefectUnavailable
from mondrian_core.prefect_server import fetch_server_identity, prefect_home, read_join_record, recorded_api_url
from mondrian_core.settings import Settings
from tasks import processes
from tasks.processes import ManagedProcess

POLL_SECONDS = 1.0
MISSING_POLLS = 3  # a process that is being replaced is missing for a moment
FAILED_START_SECONDS = 20.0  # before the supervisor tries again: a port in use would keep the processor busy
FORGOTTEN = "forgotten"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ForegroundOptions(CommandOptions):
    """Options of `mondrian foreground`."""

    port: Annotated[WholeNumber | None, Parameter(help="port of the Prefect server (default: 4200, or a free one)")] = (
        None
    )
    service_port: Annotated[WholeNumber, Parameter(show_default=True, help="port of the service")] = 5100
    model_mode: Annotated[
        Literal["base", "fine_tuned", "ab_test"], Parameter(show_default=True, help="which model answers")
    ] = "fine_tuned"
    once: Annotated[bool, Parameter(help="start the part, leave it running, and return")] = False


def foreground_command(
    part: Annotated[Literal["server", "worker", "service"], Parameter(help="what to keep running")],
    /,
    *,
    options: ForegroundOptions = ForegroundOptions(),
) -> int:
    """Keep server, worker or service running until SIGTERM; exit status 1 when it ended."""
    settings = settings_from_options(options)
    set_prefect_home(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # a start that is interrupted stops what it has started
        signal.signal(number, signal.default_int_handler if options.once else lambda *_: stopping.set())
    missing = f"The workspace {settings.root} is missing; waiting until it is there again."
    if not _wait(settings.root.is_dir, stopping, missing):
        return 0
    needs_server = part == "worker" and read_join_record(settings) is None
    if needs_server and not _wait(lambda: _is_server_up(settings), stopping, "Waiting for the Prefect server."):
        return 0
    if options.once:
        _start(part, settings, options)
        return 0
    status = _start_in_child(stopping)
    if status == 0 and not stopping.is_set():
        status = _watch(part, settings, stopping)
    elif status:
        stopping.wait(FAILED_START_SECONDS)
    if stopping.is_set():
        _stop(part, settings)
        return 0
    return status


def _start(part: str, settings: Settings, options: ForegroundOptions) -> None:
    if part == "server":
        bootstrap.bring_up_server(settings, port=options.port, usual_port=DEFAULT_PORT, on_message=_say)
    elif part == "worker":
        try:
            bootstrap.bring_up(settings, on_message=_say)
        except httpx.HTTPError as error:
            raise PrefectUnavailable(
                f"The Prefect server stopped answering while the worker started ({type(error).__name__}).",
                "The next attempt waits for it.",
            ) from None
    else:
        from tasks.service import keep_service  # imports Prefect, so only after set_prefect_home
        from tasks.service_record import ServeOptions

        wanted = ServeOptions(port=options.service_port, model_mode=options.model_mode)
        _say(keep_service(settings, wanted))


def _start_in_child(stopping: threading.Event) -> int:
    """Start the part in a process that ends afterwards: this one needs no Prefect and little memory for months."""
    child = subprocess.Popen([sys.executable, "-m", "mondrian", *sys.argv[1:], "--once"])
    while child.poll() is None:
        if stopping.wait(0.2):
            child.terminate()
            child.wait()
    return child.returncode


def _watch(part: str, settings: Settings, stopping: threading.Event) -> int:
    """Wait until the part has ended, or this command is to stop; returns the exit status."""
    shown, missing = "", 0
    while not stopping.wait(POLL_SECONDS):
        found = _recorded(part, settings)
        alive = [process for process in found if process.alive]
        running = ", ".join(f"{process.name} {process.pid}" for process in alive)
        if not found and part == "service":  # somebody stopped it with serve/stop; a supervisor must not argue
            running = FORGOTTEN
        missing = missing + 1 if len(alive) < max(1, len(found)) and running != FORGOTTEN else 0
        if missing >= MISSING_POLLS:
            _say(f"The {part} has ended. Its logs: {prefect_home(settings) if part != 'service' else found[0].log}.")
            return 1
        if running not in ("", shown):
            shown = running
            stopped = "The service was stopped on purpose; `mondrian up` or serve/local starts it."
            _say(stopped if running == FORGOTTEN else f"Running: {running}.")
    return 0


def _recorded(part: str, settings: Settings) -> list[ManagedProcess]:
    """The processes of a part, as they were recorded when they started."""
    if part == "service":
        from tasks.service_record import recorded_service

        found = recorded_service(settings)
        return [] if found is None else [found[0]]
    wanted = bootstrap.SERVER if part == "server" else bootstrap.WORKER
    return [process for process in bootstrap.recorded_processes(settings) if process.name.startswith(wanted)]


def _stop(part: str, settings: Settings) -> None:
    for process in _recorded(part, settings):
        if process.alive:
            _say(f"Stopping {process.name} {process.pid}.")
            processes.stop_process(process, patience=30.0)


def _is_server_up(settings: Settings) -> bool:
    """True when the server of this workspace answers."""
    address = recorded_api_url(settings)
    found = fetch_server_identity(address.removesuffix("/api")) if address else None
    return found is not None and found.workspace == settings.workspace_id


def _wait(condition: Callable[[], bool], stopping: threading.Event, message: str) -> bool:
    """Wait for a condition, with one message; False when this command is to stop."""
    if condition():
        return True
    _say(message)
    while not stopping.wait(POLL_SECONDS):
        try:
            if condition():
                return True
        except (OSError, MondrianError):
            continue
    return False


def _say(line: str) -> None:
    print(line, flush=True)
