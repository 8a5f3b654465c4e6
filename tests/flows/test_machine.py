"""Server and worker for real: what is deployed, that schedules make runs, that starting and stopping may repeat."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments import bootstrap, prefect_setup
from deployments.bootstrap import RunningPrefect, bring_up
from deployments.down import DownOptions, down_command
from deployments.prefect_instance import POOL, PrefectInstance, choose_port
from deployments.up import _summary, _summary_record, start_machine_service
from flows.retrain import retrain_flow
from mondrian_core.doctor import run_doctor_checks
from mondrian_core.errors import Broken, NoWorkspace, PortInUse, PrefectUnavailable
from mondrian_core.prefect_server import (
    auth_string_path,
    create_prefect_home,
    ensure_prefect_password,
    prefect_client_environment,
    prefect_record_path,
)
from mondrian_core.settings import Settings
from tasks import processes
from tests.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]


def test_the_promised_deployments_are_there(machine: RunningPrefect) -> None:
    with prefect_setup.prefect_client(machine.place) as client:
        found = {f"{client.read_flow(each.flow_id).name}/{each.name}" for each in client.read_deployments()}
    assert found == {wanted["full_name"] for wanted in prefect_setup.declared_deployments()}


def test_schedules_create_runs(machine: RunningPrefect) -> None:
    assert prefect_setup.count_upcoming_runs(machine.place, "retrain/scheduled", patience=LIMIT_SECONDS) > 0


def test_work_pool_and_queues_exist(machine: RunningPrefect) -> None:
    with prefect_setup.prefect_client(machine.place) as client:
        assert client.read_work_pool(POOL).type == "process"
        for name, priority in prefect_setup.QUEUES.items():
            queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
            assert (queue.priority, queue.concurrency_limit) == (priority, None)


def test_a_run_begins_in_the_checkout_of_its_worker(machine: RunningPrefect) -> None:
    """The server must not learn a path: on another machine it would be the wrong one."""
    with prefect_setup.prefect_client(machine.place) as client:
        steps = [each.pull_steps for each in client.read_deployments()]
    expected = {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $MONDRIAN_CHECKOUT }}"}}
    assert all(each == [expected] for each in steps)


def test_make_up_again_keeps_processes_and_removes_what_earlier_versions_left(
    machine: RunningPrefect, settings: Settings
) -> None:
    """A schedule that left prefect.yaml, and what would end a run that only slept: two kinds of limits."""
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.client.schemas.schedules import CronSchedule

    with prefect_setup.prefect_client(machine.place) as client:
        deployment = client.read_deployment_by_name("retrain/scheduled")
        schedules: list[Any] = [(CronSchedule(cron="1 2 3 4 *", timezone="UTC"), True)]
        client.create_deployment_schedules(deployment.id, schedules)
        client.update_deployment(deployment.id, DeploymentUpdate(concurrency_limit=1))
        client.upsert_global_concurrency_limit_by_name("accelerator", 1)
        assert len(client.read_deployment_by_name("retrain/scheduled").schedules) == 2
        evaluate, synthesize = (client.read_flow_by_name(name).id for name in ("evaluate", "synthesize"))
        client.create_deployment(evaluate, "manual", entrypoint="flows/evaluate.py:evaluate_flow")
        client.create_deployment(evaluate, "of-anna", entrypoint="flows/evaluate.py:evaluate_flow")
        theirs = client.create_deployment(synthesize, "manual", entrypoint="elsewhere.py:their_flow")

        again = bring_up(settings)

        assert (again.started, again.processes, again.place.port) == ((), machine.processes, machine.place.port)
        deployment = client.read_deployment_by_name("retrain/scheduled")
        assert [each.slug for each in deployment.schedules] == ["weekly-ansel"]
        left = {each.name for each in client.read_deployments() if each.flow_id == evaluate}
        assert left == {"version", "of-anna"}, "a former name goes, a user's own deployment stays"
        assert client.read_deployment(theirs).name == "manual", "that it has a former name doesn't make it ours"
        for name in ("evaluate/of-anna", "synthesize/manual"):
            client.delete_deployment(client.read_deployment_by_name(name).id)
        assert deployment.global_concurrency_limit is None
        assert client.read_automations_by_name(prefect_setup.ZOMBIE_AUTOMATION) == []
        assert "accelerator" not in [each.name for each in client.read_global_concurrency_limits(limit=100, offset=0)]


def test_doctor_reports_running_server_and_worker(machine: RunningPrefect, settings: Settings) -> None:
    checks = {check.name: check for check in run_doctor_checks(settings)}
    assert checks["prefect server"].ok and checks["prefect server"].finding == machine.place.api
    assert checks["prefect worker"].ok


def test_another_port_for_what_runs_already_is_refused(machine: RunningPrefect, settings: Settings) -> None:
    with pytest.raises(PrefectUnavailable, match="runs at"):
        bring_up(settings, port=machine.place.port + 1)


def test_the_server_of_another_workspace_is_never_taken_for_ours(machine: RunningPrefect, tmp_path: Path) -> None:
    """Its port is refused, naming it; the usual port gives way to a free one."""
    (tmp_path / "other").mkdir()
    other = Settings(workspace=tmp_path / "other", adapters=tmp_path / "adapters", base_model="mini")
    with pytest.raises(
        PortInUse, match=f"the Prefect server of workspace {machine.place.settings.workspace_id}"
    ) as raised:
        bring_up(other, port=machine.place.port)
    assert raised.value.exit_status == 3
    assert choose_port(None, usual=machine.place.port) != machine.place.port
    with pytest.raises(PrefectUnavailable, match="mondrian up"):
        prefect_client_environment(other, {})
    prefect_record_path(other).write_text(
        json.dumps({"api_url": machine.place.api})
    )  # left by a server that has gone since
    with pytest.raises(PrefectUnavailable, match="mondrian up"):
        prefect_client_environment(other, {})


def test_the_service_of_another_program_is_never_taken_for_ours(machine: RunningPrefect) -> None:
    """`mondrian up` on a port where something else answers 200 to everything: status 3, naming port and owner."""
    healthy = b'{"status": "ok", "model_mode": "base", "workspace": "elsewhere-00000000"}'
    owner = "is taken by the service of workspace elsewhere-00000000"
    with answering(healthy) as port, pytest.raises(Broken, match=f"Port {port} {owner}") as raised:
        start_machine_service(machine.place, port=port, on_message=print)
    assert raised.value.exit_status == 3


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A web server in this process that answers everything with 200 and these bytes; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("change", [{"future": 1}, {"log": None}])
def test_a_record_of_another_version_stops_what_runs(tmp_path: Path, change: dict[str, Any]) -> None:
    """More, or fewer, entries than this version writes."""
    (tmp_path / "workspace").mkdir()
    settings = Settings(workspace=tmp_path / "workspace")
    process = processes.start_process(
        "prefect worker",
        [sys.executable, "-c", "import time; time.sleep(300)"],
        environment=os.environ,
        folder=tmp_path,
        log=tmp_path / "log",
    )
    written = {name: value for name, value in {**asdict(process), **change}.items() if value is not None}
    record = prefect_record_path(settings)
    record.parent.mkdir()
    record.write_text(json.dumps({"version": 99, "processes": [{"name": "no process"}, "text", written]}))
    try:
        assert down_command(options=DownOptions(workspace=settings.root)) == 0
        assert not process.alive
    finally:
        processes.stop_process(process)
    service = processes.start_process(
        "service",
        [sys.executable, "-c", "import time; time.sleep(300)"],
        environment=os.environ,
        folder=tmp_path,
        log=tmp_path / "log",
    )
    written = {name: value for name, value in {**asdict(service), **change}.items() if value is not None}
    record = settings.root / "runs" / "service" / "process.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"process": written, "wanted": {"port": 5100, "future": True}}))
    try:
        assert down_command(options=DownOptions(workspace=settings.root)) == 0
        assert not service.alive
    finally:
        processes.stop_process(service)


def test_a_server_without_the_password_is_replaced(tmp_path: Path) -> None:
    """What an earlier version left running answers everybody; one that has the password is kept."""
    (tmp_path / "workspace").mkdir()
    settings = Settings(workspace=tmp_path / "workspace")
    create_prefect_home(settings)
    ensure_prefect_password(settings)
    server = processes.start_process(
        "prefect server",
        [sys.executable, "-c", "import time; time.sleep(300)"],
        environment=os.environ,
        folder=tmp_path,
        log=tmp_path / "log",
    )
    try:
        bootstrap._record(PrefectInstance(settings, 1), [server])
        bootstrap._stop_processes_with_old_password(settings)
        assert server.alive
        auth_string_path(settings).unlink()
        ensure_prefect_password(settings)
        bootstrap._stop_processes_with_old_password(settings)
        assert not server.alive
    finally:
        processes.stop_process(server)


def test_a_killed_servers_port_is_used_again_once_its_socket_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waits for that address, so a port that is in use for another second must not stop `mondrian up`."""
    worker = processes.ManagedProcess(bootstrap.WORKER, os.getpid(), "now", "")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        threading.Timer(1.0, held.close).start()
        assert bootstrap._reusable_port(port, None, [worker]) == port
    monkeypatch.setattr(bootstrap, "PORT_RELEASE_SECONDS", 0.0)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(PrefectUnavailable, match="is in use"):
            bootstrap._reusable_port(port, None, [worker])


def test_a_smoke_failure_is_a_warning_beside_the_addresses(tmp_path: Path) -> None:
    """And the lines to copy name a workspace that a fresh terminal wouldn't find by itself."""
    root = tmp_path / "a b"
    root.mkdir()
    settings = Settings(workspace=root)
    create_prefect_home(settings)
    ensure_prefect_password(settings)
    place = PrefectInstance(settings, 1)
    lines = _summary(place, "http://127.0.0.1:5100", "1 of 2 photographs failed.").splitlines()
    assert lines[lines.index("service:     http://127.0.0.1:5100") + 1] == "  warning: 1 of 2 photographs failed."
    assert f"Run now:     mondrian prefect --workspace '{root}' deployment run 'retrain/scheduled'" in lines
    stopping = next(line for line in lines if line.startswith("Stop:")).partition("mondrian down ")[2]
    assert shlex.split(stopping) == ["--workspace", str(root)]
    assert _summary_record(place, "http://127.0.0.1:5100", "") == {
        "prefect_ui": place.ui,
        "prefect_api": place.api,
        "password_file": str(auth_string_path(settings)),
        "service": "http://127.0.0.1:5100",
        "warning": None,
        "workspace": str(root),
        "logs": str(place.home),
    }


def test_an_error_is_one_paragraph_in_the_state(prefect_here: AbstractContextManager[object], tmp_path: Path) -> None:
    """No database in this workspace: the run fails with what the command line would say."""
    with prefect_here:
        state = retrain_flow(advisor="nobody", workspace=str(tmp_path), return_state=True)
    message = str(state.message)
    assert state.name == "Failed"
    assert "mondrian init" in message and "Traceback" not in message and "\n" not in message


def test_no_workspace_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(NoWorkspace):
        bring_up(Settings(workspace=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_make_up_and_down_as_commands(tmp_path: Path, root: Path) -> None:
    def call(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mondrian", name, "--workspace", str(tmp_path / "workspace"), *more]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)

    refused = call("up")
    assert refused.returncode == 2 and "mondrian init" in refused.stderr and "Traceback" not in refused.stderr
    nothing = call("down")
    assert nothing.returncode == 0 and "Nothing" in nothing.stdout
