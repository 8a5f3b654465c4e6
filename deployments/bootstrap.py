"""Start and stop Prefect's server and workers on one machine. `up`, `down`, `join`, `demo` and the tests use it.

Every call may be repeated: running processes are kept and missing ones started. `WORKSPACE/.prefect/up.json` records
the processes that were started, and only those are ever stopped.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout

from deployments import dead_runs, machines, prefect_setup
from deployments.machines import Machine, WorkerPlan, machine_name, plan_workers
from deployments.prefect_instance import POOL, ROOT, PrefectInstance, choose_port
from deployments.prepared_deploy import PreparedDeploy
from mondrian_core import ports
from mondrian_core.errors import PortInUse, PrefectUnavailable
from mondrian_core.files import read_json, require_free_space, write_json
from mondrian_core.prefect_server import (
    JoinRecord,
    PrefectServerIdentity,
    auth_string_path,
    create_prefect_home,
    ensure_prefect_password,
    fetch_server_identity,
    prefect_home,
    prefect_record_path,
    read_auth_string,
    read_join_record,
)
from mondrian_core.settings import Settings
from mondrian_core.shared_training import read_shared_id, require_shared_folder
from tasks import liveness, processes
from tasks.processes import ManagedProcess

SERVER, WORKER = "prefect server", "prefect worker"
SERVER_TIMEOUT_SECONDS = 180.0  # it takes three seconds on an idle machine
PORT_RELEASE_SECONDS = 30.0  # on a busy machine the sockets of a killed server are closed after it counts as ended

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class RunningPrefect:
    """The running server and worker. `started` holds only the processes that this call started."""

    place: PrefectInstance
    processes: tuple[ManagedProcess, ...]
    started: tuple[ManagedProcess, ...]


def ignore_message(line: str) -> None:
    """Do nothing."""


def bring_up(
    settings: Settings,
    *,
    port: int | None = None,
    usual_port: int | None = None,
    on_message: OnMessage = ignore_message,
) -> RunningPrefect:
    """Start the server and the worker and apply prefect.yaml; all of it is ready when this returns.

    Raises:
        NoWorkspace: the workspace does not exist.
        DiskFull: too little space is left for server and logs.
        PortInUse: `port` is given and in use.
        PrefectUnavailable: server or worker did not start; the processes of this call have been stopped.
    """
    with _starting(settings) as started:
        joined = read_join_record(settings)
        server: ManagedProcess | None = None
        if joined is not None:
            place = joined_instance(settings, joined)
        else:
            ensure_prefect_password(settings)
            place, server = _ensure_server(settings, port, usual_port, started, on_message)
        machine = _machine(settings, joined)
        if joined is None or "data" in joined.roles:  # a server in containers has no machine that declares its flows
            with PreparedDeploy(place) as deploy:
                if server is not None:
                    _wait_until_healthy(place, server)
                on_message("applying prefect.yaml")
                prefect_setup.set_up_prefect(place, deploy)
        machines.set_up_machine(place, machine)
        _end_runs(settings, on_message, "Its process is gone: the machine or the worker stopped during the run.")
        _ensure_workers(place, plan_workers(machine), started, on_message)
        return RunningPrefect(place, tuple(recorded_processes(settings)), tuple(started))


def bring_up_server(
    settings: Settings,
    *,
    port: int | None = None,
    usual_port: int | None = None,
    on_message: OnMessage = ignore_message,
) -> PrefectInstance:
    """Start the server alone, or find it running.

    Raises:
        NoWorkspace, DiskFull, PortInUse, PrefectUnavailable: as `bring_up`.
    """
    with _starting(settings) as started:
        ensure_prefect_password(settings)
        place, server = _ensure_server(settings, port, usual_port, started, on_message)
        _wait_until_healthy(place, server)
        return place


@contextmanager
def _starting(settings: Settings) -> Iterator[list[ManagedProcess]]:
    """Start processes, which are put into the list, while no other command does; after an error they are stopped."""
    settings.require_workspace()
    require_free_space(settings.root)
    home = create_prefect_home(settings)
    started: list[ManagedProcess] = []
    try:
        with FileLock(home / "up.lock", timeout=120):
            yield started
    except Timeout:
        raise PrefectUnavailable(
            "Another command is starting Prefect for this workspace.", "Wait until it has finished and try again."
        ) from None
    except BaseException:
        _stop(settings, started)
        raise


def _ensure_server(
    settings: Settings, port: int | None, usual: int | None, started: list[ManagedProcess], on_message: OnMessage
) -> tuple[PrefectInstance, ManagedProcess]:
    """The server's address and its process, which may still be starting."""
    _stop_processes_with_old_password(settings)
    known = recorded_processes(settings)
    address = recorded_port(settings)
    if address is not None and any(process.name == SERVER and process.alive for process in known):
        place = PrefectInstance(settings, address)
        if port not in (None, address):
            raise PrefectUnavailable(
                f"The Prefect server of this workspace already runs at {place.ui}.",
                "Omit --port to use it, or stop it with `mondrian down` first.",
            )
        on_message(f"the Prefect server already runs at {place.ui}")
        return place, next(process for process in known if process.name == SERVER)
    left = [process for process in known if process.alive]  # a worker that waits for the old address
    place = PrefectInstance(settings, _reusable_port(address, port, left) or choose_port(port, usual=usual))
    where = f"{place.ui}{', the address that its worker waits for' if left else ''}"
    on_message(f"starting the Prefect server at {where}; its UI asks for the password in {auth_string_path(settings)}")
    command = [sys.executable, "-m", "deployments.server", "--port", str(place.port)]
    server = processes.start_process(
        SERVER, command, environment=place.server_environment(), folder=ROOT, log=place.home / "server.log"
    )
    started.append(server)
    _record(place, [*left, server])
    return place, server


def _reusable_port(address: int | None, wanted: int | None, left: list[ManagedProcess]) -> int | None:
    """The port of a server that is gone, when processes may still use it; None: any other port will do.

    Raises:
        PrefectUnavailable: a running worker needs that port and it is in use.
    """
    if address is None or (not left and wanted not in (None, address)):
        return None
    until = time.monotonic() + PORT_RELEASE_SECONDS
    while left and not ports.is_port_free(address) and time.monotonic() < until:
        time.sleep(0.2)
    try:
        if wanted in (None, address):
            return choose_port(address)
    except PortInUse:
        pass
    if not left:
        return None
    raise PrefectUnavailable(
        f"The Prefect server is gone, and its worker waits for it at port {address}, which is in use.",
        f"Free port {address}, or stop the worker and its runs with `mondrian down`; then run `mondrian up` again.",
    )


def _stop_processes_with_old_password(settings: Settings) -> None:
    """Stop processes of an earlier version without a password, or from before the password file was removed."""
    if _read_record(settings).get("password_sha256") != _digest(settings):
        for process in recorded_processes(settings):
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


def joined_instance(settings: Settings, joined: JoinRecord) -> PrefectInstance:
    """The shared server that a workspace has joined, as one of its own; roles are those of the record."""
    own = settings.model_copy(update={"machine_roles": ",".join(joined.roles), "machine": joined.machine})
    return PrefectInstance(own, httpx.URL(joined.url).port or 80, joined.url)


def _machine(settings: Settings, joined: JoinRecord | None) -> Machine:
    """This machine, for its server."""
    roles = joined.roles if joined else settings.roles
    shared = ""
    if settings.shared_folder is not None or (joined and "accelerator" in roles):
        shared = read_shared_id(require_shared_folder(settings.shared), create="data" in roles)
    return Machine(
        name=joined.machine if joined else machine_name(settings),
        roles=roles,
        joined=joined is not None,
        several=bool(shared),
        shared=shared,
    )


def _ensure_workers(
    place: PrefectInstance, plans: list[WorkerPlan], started: list[ManagedProcess], on_message: OnMessage
) -> None:
    """Start the workers that don't run, all at once, and wait until they report."""
    fresh = []
    for plan in plans:
        title = _worker_title(plan)
        known = recorded_processes(place.settings)
        if any(process.name == title and process.alive for process in known):
            on_message(f"the {title.removeprefix('prefect ')} already runs")
            continue
        on_message(f"starting the {title.removeprefix('prefect ')}")
        worker = processes.start_process(
            title,
            _worker_command(plan),
            environment=place.environment(),
            folder=ROOT,
            log=place.home / f"{title.removeprefix('prefect ').replace(' ', '-')}.log",
        )
        started.append(worker)
        _record(place, [process for process in known if process.alive and process.name != title] + [worker])
        fresh.append((plan, worker))
    for plan, worker in fresh:
        prefect_setup.wait_for_worker(place, plan.name, log=worker.log)


def _worker_title(plan: WorkerPlan) -> str:
    return WORKER if plan.limit is None else f"{WORKER} of the accelerator"


def _worker_command(plan: WorkerPlan) -> list[str]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    queues = [word for queue in plan.queues for word in ("--work-queue", queue)]
    limit = [] if plan.limit is None else ["--limit", str(plan.limit)]
    return [*command, "--name", plan.name, *queues, *limit]


def stop_started_processes(running: RunningPrefect) -> list[str]:
    """Stop the processes that this call of `bring_up` started; older ones keep running."""
    return _stop(running.place.settings, list(running.started))


def take_down(settings: Settings, on_message: OnMessage = ignore_message) -> list[str]:
    """Stop all recorded processes, the worker before the server; returns their names."""
    return _stop(settings, recorded_processes(settings), on_message, everything=True)


def _stop(
    settings: Settings,
    chosen: list[ManagedProcess],
    on_message: OnMessage = ignore_message,
    *,
    everything: bool = False,
) -> list[str]:
    """Stop the worker, mark its runs as crashed, then stop the server.

    Args:
        settings: the workspace whose processes these are.
        chosen: the processes to stop.
        on_message: called with each line of progress.
        everything: also stop runs that outlived their worker.
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
            _end_runs(settings, on_message, "The worker was stopped during the run.", worker_stopped=True)
        on_message(f"stopping the {process.name}")
        if processes.stop_process(process):
            stopped.append(process.name)
    if everything and read_join_record(settings) is not None:  # there is no server of ours to stop
        _stop_runs(settings, on_message)
        _end_runs(settings, on_message, "The worker was stopped during the run.", worker_stopped=True)
    left = [process for process in recorded_processes(settings) if process.alive]
    place = _recorded_place(settings)
    if left and place is not None:
        _record(place, left)
    else:
        prefect_record_path(settings).unlink(missing_ok=True)
    return stopped


def _is_worker_alive(settings: Settings) -> bool:
    return any(process.name.startswith(WORKER) and process.alive for process in recorded_processes(settings))


def _end_runs(settings: Settings, on_message: OnMessage, reason: str, *, worker_stopped: bool = False) -> None:
    """Mark runs whose process is gone as ended."""
    place = _recorded_place(settings)
    if place is None:
        return
    try:
        stopped = worker_stopped or not _is_worker_alive(settings)
        for name in dead_runs.end_dead_runs(place, reason, worker_stopped=stopped):
            on_message(f"the run {name} did not finish")
    except (httpx.HTTPError, PrefectUnavailable) as error:
        on_message(f"unfinished runs could not be checked: the server did not answer ({type(error).__name__})")


def _stop_runs(settings: Settings, on_message: OnMessage) -> None:
    """Stop runs that outlived a killed worker."""
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
    """Identifies the server's password without disclosing it."""
    return hashlib.sha256((read_auth_string(settings) or "").encode()).hexdigest()


def _read_record(settings: Settings) -> dict[str, Any]:
    try:
        record = read_json(prefect_record_path(settings))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def recorded_processes(settings: Settings) -> list[ManagedProcess]:
    """The processes that were started for a workspace; they may have ended."""
    found = (ManagedProcess.from_record(values) for values in _read_record(settings).get("processes") or [])
    return [process for process in found if process is not None]


def recorded_port(settings: Settings) -> int | None:
    """Port of the server that was started last; None when none is recorded."""
    port = _read_record(settings).get("port")
    return port if isinstance(port, int) else None


def _recorded_place(settings: Settings) -> PrefectInstance | None:
    """The server that was joined, or else started last."""
    joined, port = read_join_record(settings), recorded_port(settings)
    if joined is not None:
        return joined_instance(settings, joined)
    return PrefectInstance(settings, port) if port is not None else None


def _last_line(log: str) -> str:
    lines = [line.strip() for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "its log is empty"
