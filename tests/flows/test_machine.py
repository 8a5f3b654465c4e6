"""Server and worker for real: what is deployed, that schedules make runs, that starting and stopping may repeat."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import bootstrap, prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect, bring_up
from deployments.down import DownOptions, down_command
from deployments.prefect_instance import POOL, PrefectInstance, choose_port
from deployments.up import _start_service, _summary
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.doctor import run_doctor_checks
from mondrian_core.errors import Broken, NoWorkspace, PortInUse, PrefectUnavailable
from mondrian_core.ports import find_free_port
from mondrian_core.prefect_server import (
    auth_string_path,
    create_prefect_home,
    ensure_prefect_password,
    prefect_client_environment,
    prefect_record_path,
)
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tasks import processes

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]


def test_the_promised_deployments_are_there(machine: RunningPrefect) -> None:
    with prefect_setup.prefect_client(machine.place) as client:
        found = {f"{client.read_flow(each.flow_id).name}/{each.name}" for each in client.read_deployments()}
    assert found == {wanted["full_name"] for wanted in prefect_setup.declared_deployments()}


def test_schedules_create_runs(machine: RunningPrefect) -> None:
    assert prefect_setup.count_upcoming_runs(machine.place, "retrain/scheduled", patience=30) > 0


def test_work_pool_and_queues_exist(machine: RunningPrefect) -> None:
    with prefect_setup.prefect_client(machine.place) as client:
        assert client.read_work_pool(POOL).type == "process"
        for name, priority in prefect_setup.QUEUES.items():
            queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
            assert (queue.priority, queue.concurrency_limit) == (priority, None)


def test_make_up_is_idempotent(machine: RunningPrefect, settings: Settings) -> None:
    again = bring_up(settings)
    assert again.started == ()
    assert again.processes == machine.processes
    assert again.place.port == machine.place.port
    with prefect_setup.prefect_client(machine.place) as client:
        assert len(client.read_deployment_by_name("retrain/scheduled").schedules) == 1


def test_a_schedule_that_left_prefect_yaml_is_dropped(machine: RunningPrefect, settings: Settings) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    with prefect_setup.prefect_client(machine.place) as client:
        deployment = client.read_deployment_by_name("retrain/scheduled")
        schedules: list[Any] = [(CronSchedule(cron="1 2 3 4 *", timezone="UTC"), True)]
        client.create_deployment_schedules(deployment.id, schedules)
        assert len(client.read_deployment_by_name("retrain/scheduled").schedules) == 2
        bring_up(settings)
        assert [each.slug for each in client.read_deployment_by_name("retrain/scheduled").schedules] == ["weekly-ansel"]


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
    told = "is taken by the service of workspace elsewhere-00000000"
    with answering(healthy) as port, pytest.raises(Broken, match=f"Port {port} {told}") as raised:
        _start_service(machine.place, port)
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


def test_a_smoke_failure_is_a_warning_beside_the_addresses(tmp_path: Path) -> None:
    """And the lines to copy name a workspace that a fresh terminal wouldn't find by itself."""
    root = tmp_path / "a b"
    root.mkdir()
    settings = Settings(workspace=root)
    create_prefect_home(settings)
    ensure_prefect_password(settings)
    told = _summary(PrefectInstance(settings, 1), "http://127.0.0.1:5100", "1 of 2 photographs failed.").splitlines()
    assert told[told.index("service:     http://127.0.0.1:5100") + 1] == "  warning: 1 of 2 photographs failed."
    assert f"Run now:     mondrian prefect --workspace '{root}' deployment run 'retrain/scheduled'" in told
    stopping = next(line for line in told if line.startswith("Stop:")).partition("mondrian down ")[2]
    assert shlex.split(stopping) == ["--workspace", str(root)]


def test_an_error_is_one_paragraph_in_the_state(machine: RunningPrefect) -> None:
    """No database in this workspace: the run fails with what the command line would say."""
    run = run_watcher.start_deployment_run(machine.place, "retrain/scheduled", {"advisor": "nobody"})
    seen = run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
    assert seen.state == "Failed"
    assert "mondrian init" in seen.message and "Traceback" not in seen.message and "\n" not in seen.message


def test_no_workspace_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(NoWorkspace):
        bring_up(Settings(workspace=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_make_up_and_down_as_commands(tmp_path: Path, root: Path) -> None:
    def call(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mondrian", name, "--workspace", str(tmp_path / "workspace"), *more]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=110)

    refused = call("up")
    assert refused.returncode == 2 and "mondrian init" in refused.stderr and "Traceback" not in refused.stderr
    nothing = call("down")
    assert nothing.returncode == 0 and "Nothing" in nothing.stdout


def promoted_adapter(settings: Settings, folder: Path) -> str:
    """A version of ansel for mini that changes its answers a little, promoted as a retraining would."""
    import mlx.core as mx

    from mondrian_core.models.base_model import base_fingerprint, load_base
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.recipes import TrainRecipe

    base = load_base("mini")
    lora_layers.attach_lora(base, TrainRecipe(rank=2), seed=1)
    taught = {
        name: value if name.endswith("lora_a") else value + 1e-3 * mx.ones_like(value)
        for name, value in lora_layers.attached_parameters(base).items()
    }
    lora_layers.save_attached_adapter(base, folder, taught)
    registry = Registry(settings.adapters_root)
    version = registry.register(
        "ansel", folder, {"base": {"name": "mini", "fingerprint": base_fingerprint("mini")}}
    ).version
    registry.promote("ansel", version, expected=None, actor="person:test", reason="a test")
    return version


@pytest.mark.mini
def test_make_up_after_a_demo_and_make_down(tmp_path: Path, root: Path) -> None:
    """The sample's first photographs by name are broken ones. The lines that are printed work as they stand."""
    create_workspace(tmp_path / "workspace", sample=True, photographs=16)
    (tmp_path / "adapter").mkdir()
    settings = Settings(workspace=tmp_path / "workspace", adapters=tmp_path / "adapters", base_model="mini")
    version = promoted_adapter(settings, tmp_path / "adapter")
    port = find_free_port()
    where = ["--workspace", str(settings.root)]
    whole = [*where, "--adapters", str(settings.adapters_root), "--base-model", "mini", "--service-port", str(port)]

    def call(name: str, words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mondrian", name, *words],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        told = call("up", whole)
        assert f"service:     http://127.0.0.1:{port}\n" in told and "warning" not in told
        assert f"Smoke set: 2 of 2 photographs answered (ansel {version}). " in told
        assert "Not tried, because link leaves them out: " in told
        password = auth_string_path(settings).read_text().strip()
        assert str(auth_string_path(settings)) in told and password not in told, "a pipe may be a log"
        health = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).json()
        assert (health["model_mode"], health["workspace"]) == ("fine_tuned", settings.workspace_id)
        exports = "\n".join(line for line in told.splitlines() if line.strip().startswith("export "))
        fresh = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        typed = f"{exports}\n{sys.executable} -m prefect deployment inspect retrain/scheduled"
        shell = subprocess.run(
            ["bash", "-c", typed], env=fresh, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert shell.returncode == 0 and "apple-silicon" in shell.stdout, shell.stderr
    finally:
        stopped = call("down", where)
    assert all(f"stopping the {each}" in stopped for each in ("prefect worker", "prefect server", "service"))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    assert "Nothing" in call("down", where)
    assert not prefect_record_path(settings).exists()
