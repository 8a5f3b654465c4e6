"""Server, worker and deployments on one machine: brought up and taken down. `up`, `demo` and the tests all use this.

Everything may be repeated: what runs already is kept, what is missing is added. Which processes were started is written
to `WORKSPACE/.prefect/up.json`, and only those are ever stopped.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout

from deployments import prefect_setup
from deployments.prefect_instance import POOL, ROOT, PrefectInstance, choose_port
from mondrian_core.errors import PortInUse, PrefectUnavailable
from mondrian_core.files import read_json, require_free_space, write_json
from mondrian_core.prefect_server import (
    PrefectServerIdentity,
    auth_string_path,
    create_prefect_home,
    ensure_prefect_password,
    fetch_server_identity,
    prefect_home,
    prefect_record_path,
    read_auth_string,
)
from mondrian_core.settings import Settings
from tasks import liveness, processes
from tasks.processes import ManagedProcess

SERVER, WORKER = "prefect server", "prefect worker"
SERVER_TIMEOUT_SECONDS = 180.0  # three seconds on an idle machine; a busy one must not fail for it
WORKER_NAME = "mondrian"

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class RunningPrefect:
    """What runs now. `started` are the processes of this call; what ran before it is not in there."""

    place: PrefectInstance
    processes: tuple[ManagedProcess, ...]
    started: tuple[ManagedProcess, ...]


def ignore_message(line: str) -> None:
    """Tell nobody."""


def bring_up(
    settings: Settings,
    *,
    port: int | None = None,
    usual_port: int | None = None,
    on_message: OnMessage = ignore_message,
) -> RunningPrefect:
    """Server, pool, limits, automation, deployments and worker, all of them there when this returns.

    Raises:
        NoWorkspace: when there is no workspace to work for.
        DiskFull: when too little space is left for server and logs.
        PortInUse: when `port` is given and taken.
        PrefectUnavailable: when server or worker don't start; what this call started is stopped again.
    """
    settings.require_workspace()
    require_free_space(settings.root)
    home = create_prefect_home(settings)
    started: list[ManagedProcess] = []
    try:
        with FileLock(home / "up.lock", timeout=120):
            ensure_prefect_password(settings)
            place = _ensure_server(settings, port, usual_port, started, on_message)
            on_message("deploying what prefect.yaml describes")
            prefect_setup.set_up_prefect(place)
            _end_runs(settings, on_message, "Its process is gone: this machine or its worker stopped while it ran.")
            _ensure_worker(place, started, on_message)
            return RunningPrefect(place, tuple(_recorded(settings)), tuple(started))
    except Timeout:
        raise PrefectUnavailable("Another command is starting Prefect here.", "Wait for it and try again.") from None
    except BaseException:
        _stop(settings, started)
        raise


def _ensure_server(
    settings: Settings, port: int | None, usual: int | None, started: list[ManagedProcess], on_message: OnMessage
) -> PrefectInstance:
    _stop_processes_with_old_password(settings)
    known = _recorded(settings)
    address = _recorded_port(settings)
    if address is not None and any(process.name == SERVER and process.alive for process in known):
        place = PrefectInstance(settings, address)
        _wait_until_healthy(place, next(process for process in known if process.name == SERVER))
        if port not in (None, address):
            raise PrefectUnavailable(
                f"The Prefect server of this workspace runs at {place.ui} already.",
                "Leave --port away to use it, or stop it with `make down` first.",
            )
        on_message(f"the server at {place.ui} is already there")
        return place
    left = [process for process in known if process.alive]  # a worker, with what it runs, waits for the old address
    place = PrefectInstance(settings, _reusable_port(address, port, left) or choose_port(port, usual=usual))
    where = f"{place.ui}{', where its worker waits for it' if left else ''}"
    on_message(f"starting the Prefect server at {where}; its UI asks for the password in {auth_string_path(settings)}")
    command = [sys.executable, "-m", "deployments.server", "--port", str(place.port)]
    server = processes.start_process(
        SERVER, command, environment=place.environment(), folder=ROOT, log=place.home / "server.log"
    )
    started.append(server)
    _record(place, [*left, server])
    _wait_until_healthy(place, server)
    return place


def _reusable_port(address: int | None, wanted: int | None, left: list[ManagedProcess]) -> int | None:
    """The port of the server that is gone, when something that it served may live on; None: any other will do.

    Raises:
        PrefectUnavailable: a living worker waits at that port and it can't be had.
    """
    if address is None or (not left and wanted not in (None, address)):
        return None
    try:
        if wanted in (None, address):
            return choose_port(address)
    except PortInUse:
        pass
    if not left:
        return None
    raise PrefectUnavailable(
        f"The Prefect server is gone, and its worker waits for it at port {address}, which can't be used.",
        f"Free port {address}, or give up what the worker runs with `make down`, and run `make up` again.",
    )


def _stop_processes_with_old_password(settings: Settings) -> None:
    """Server and worker of an earlier version, whose server asks for none, or from before the password was removed."""
    if _read_record(settings).get("password_sha256") != _digest(settings):
        for process in _recorded(settings):
            processes.stop_process(process)


def _wait_until_healthy(place: PrefectInstance, server: ManagedProcess) -> None:
    until = time.monotonic() + SERVER_TIMEOUT_SECONDS
    expected = PrefectServerIdentity(
        place.settings.workspace_id, server.pid
    )  # another one may have got the port meanwhile
    while time.monotonic() < until and server.alive:
        if fetch_server_identity(place.ui) == expected:
            return
        time.sleep(0.2)
    require_free_space(place.home)
    raise PrefectUnavailable(
        f"The Prefect server did not start: {_last_line(server.log)}",
        f"Its log is {server.log}; `mondrian doctor` checks the rest.",
    )


def _ensure_worker(place: PrefectInstance, started: list[ManagedProcess], on_message: OnMessage) -> None:
    known = _recorded(place.settings)
    if any(process.name == WORKER and process.alive for process in known):
        on_message("the worker is already there")
        return
    on_message("starting the worker")
    name = WORKER_NAME
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    worker = processes.start_process(
        WORKER, command, environment=place.environment(), folder=ROOT, log=place.home / "worker.log"
    )
    started.append(worker)
    _record(place, [process for process in known if process.alive and process.name != WORKER] + [worker])
    prefect_setup.wait_for_worker(place, name)


def stop_started_processes(running: RunningPrefect) -> list[str]:
    """Stop what that call of `bring_up` started; what had been there before runs on."""
    return _stop(running.place.settings, list(running.started))


def take_down(settings: Settings, on_message: OnMessage = ignore_message) -> list[str]:
    """Stop exactly what was started here, the worker before the server; the names of what ran."""
    return _stop(settings, _recorded(settings), on_message, everything=True)


def _stop(
    settings: Settings,
    chosen: list[ManagedProcess],
    on_message: OnMessage = ignore_message,
    *,
    everything: bool = False,
) -> list[str]:
    """The worker first, then the runs it held are called crashed, then the server.

    `everything`: runs that outlived their worker are stopped too.
    """
    with processes.ignore_signals():
        return _stop_in_order(settings, chosen, on_message, everything)


def _stop_in_order(
    settings: Settings, chosen: list[ManagedProcess], on_message: OnMessage, everything: bool
) -> list[str]:
    stopped = []
    for process in sorted(chosen, key=lambda process: process.name == SERVER):
        if process.name == SERVER and everything:
            _stop_runs(settings, on_message)
        if process.name == SERVER and process.alive and not _is_worker_alive(settings):
            _end_runs(settings, on_message, "The worker was stopped while it ran.", worker_stopped=True)
        on_message(f"stopping the {process.name}")
        if processes.stop_process(process):
            stopped.append(process.name)
    left = [process for process in _recorded(settings) if process.alive]
    port = _recorded_port(settings)
    if left and port is not None:
        _record(PrefectInstance(settings, port), left)
    else:
        prefect_record_path(settings).unlink(missing_ok=True)
    return stopped


def _is_worker_alive(settings: Settings) -> bool:
    return any(process.name == WORKER and process.alive for process in _recorded(settings))


def _end_runs(settings: Settings, on_message: OnMessage, reason: str, *, worker_stopped: bool = False) -> None:
    """Say of runs whose process is gone that they ended."""
    port = _recorded_port(settings)
    if port is None:
        return
    try:
        stopped = worker_stopped or not _is_worker_alive(settings)
        for name in prefect_setup.end_dead_runs(PrefectInstance(settings, port), reason, worker_stopped=stopped):
            on_message(f"the run {name} was not finished")
    except (httpx.HTTPError, PrefectUnavailable) as error:
        on_message(f"the server could not be asked about unfinished runs ({type(error).__name__})")


def _stop_runs(settings: Settings, on_message: OnMessage) -> None:
    """Stop runs whose worker was killed and left them alone."""
    for process in liveness.live_run_processes(prefect_home(settings)):
        on_message(f"stopping the {process.name}")
        processes.stop_process(process)


def _record(place: PrefectInstance, running: list[ManagedProcess]) -> None:
    write_json(
        prefect_record_path(place.settings),
        {
            "api_url": place.api,
            "ui_url": place.ui,
            "port": place.port,
            "password_sha256": _digest(place.settings),
            "processes": [asdict(process) for process in running],
        },
    )


def _digest(settings: Settings) -> str:
    """Tells one password of a server from another without disclosing it."""
    return hashlib.sha256((read_auth_string(settings) or "").encode()).hexdigest()


def _read_record(settings: Settings) -> dict[str, Any]:
    try:
        record = read_json(prefect_record_path(settings))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _recorded(settings: Settings) -> list[ManagedProcess]:
    found = (ManagedProcess.from_record(values) for values in _read_record(settings).get("processes") or [])
    return [process for process in found if process is not None]


def _recorded_port(settings: Settings) -> int | None:
    port = _read_record(settings).get("port")
    return port if isinstance(port, int) else None


def _last_line(log: str) -> str:
    lines = [line.strip() for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"
