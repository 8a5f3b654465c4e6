"""What kills, sleeps and restarts leave of a run: real SIGKILL, SIGSTOP and server restarts during a real training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import SERVER, WORKER, RunningPrefect, bring_up, take_down
from mondrian_core import accelerator_lock
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.settings import Settings
from tasks import liveness
from tasks.processes import ManagedProcess, child_processes, process_start_token

pytestmark = [pytest.mark.flow, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
ENDED_WELL = ("Completed", "Candidate", "Rejected")
SMALL: dict[str, Any] = {
    "name": "as small as it gets",
    "data": {"variants": 0, "test_from": 8},
    "train": {"epochs": 6, "patience": 6, "rank": 2, "answered_photographs": 0},
    "evaluate": {
        "compliance_photographs": 4,
        "effect_photographs": 1,
        "edited_photographs": 0,
        "constrained_photographs": 0,
        "rag": False,
        "latency_pairs": 3,
        "latency_tokens": 8,
        "max_tokens": 64,
    },
}
ENDLESS = {**SMALL, "train": {"epochs": 100, "patience": 100, "rank": 2, "answered_photographs": 0}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A machine of its own: its server and worker are killed."""
    folder = tmp_path_factory.mktemp("mortal")
    create_workspace(folder / "workspace", sample=True, photographs=16)
    return Settings(workspace=folder / "workspace", adapters=folder / "adapters", base_model="mini")


@pytest.fixture(scope="module")
def machine(settings: Settings) -> Iterator[RunningPrefect]:
    yield bring_up(settings)
    take_down(settings)


def wait_until(condition: Callable[[], Any], patience: float = 240.0) -> Any:
    until = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.2)
    return found


def train(machine: RunningPrefect, recipe: dict[str, Any]) -> tuple[UUID, ManagedProcess]:
    """A retraining that has begun to train, and its process."""
    run = run_watcher.start_deployment_run(machine.place, "retrain/scheduled", {"advisor": "ansel", "recipe": recipe})
    process = wait_until(lambda: liveness.live_run_process(machine.place.home, run))
    wait_until(lambda: log_of(machine, run).exists() and '"stage": "train"' in log_of(machine, run).read_text())
    return run, process


def log_of(machine: RunningPrefect, run: UUID) -> Path:
    folders = list((machine.place.settings.root / "runs").glob(f"*{str(run)[:8]}"))
    return (folders[0] if folders else Path("none")) / "train.log"


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(process_start_token(pid) is None for pid in pids))


def pid_of(running: RunningPrefect, name: str) -> int:
    return next(process.pid for process in running.processes if process.name == name)


def state_of(running: RunningPrefect, run: UUID) -> str:
    with prefect_setup.prefect_client(running.place) as client:
        state = client.read_flow_run(run).state
    assert state is not None
    return f"{state.name}"


def sleep_with(process: ManagedProcess, seconds: float) -> None:
    """What a machine's sleep does to a run and its stage."""
    family = [process.pid, *(child.pid for child in child_processes(process.pid))]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in family:
        os.kill(pid, signal.SIGCONT)


def test_nothing_of_prefect_ends_a_run_that_slept(machine: RunningPrefect, settings: Settings) -> None:
    """Also where an earlier version had set it up: the automation, the deployment's limit, the global limit."""
    from prefect.client.schemas.actions import DeploymentUpdate

    with prefect_setup.prefect_client(machine.place) as client:
        retraining = client.read_deployment_by_name("retrain/scheduled")
        client.update_deployment(retraining.id, DeploymentUpdate(concurrency_limit=1))
        client.upsert_global_concurrency_limit_by_name("accelerator", 1)
        bring_up(settings)
        assert client.read_deployment_by_name("retrain/scheduled").global_concurrency_limit is None
        assert client.read_automations() == []
        assert "accelerator" not in [each.name for each in client.read_global_concurrency_limits(limit=100, offset=0)]


def test_only_the_death_of_its_process_ends_a_run(machine: RunningPrefect, settings: Settings) -> None:
    now = bring_up(settings)
    run, process = train(now, ENDLESS)
    port, worker = now.place.port, pid_of(now, WORKER)

    kill(pid_of(now, SERVER))
    sleep_with(process, 3.0)
    now = bring_up(settings)
    assert [each.name for each in now.started] == [SERVER] and now.place.port == port
    assert pid_of(now, WORKER) == worker
    assert process.alive and state_of(now, run) == "Running", "the server alone died"

    kill(worker)
    now = bring_up(settings)
    assert [each.name for each in now.started] == [WORKER]
    told = log_of(now, run).stat().st_size
    wait_until(lambda: log_of(now, run).stat().st_size > told)
    assert process.alive and state_of(now, run) == "Running", "the worker alone died"

    family = [process.pid, *(child.pid for child in child_processes(process.pid))]
    kill(pid_of(now, WORKER), pid_of(now, SERVER), *family)  # a power cut
    now = bring_up(settings)
    assert now.place.port == port
    assert state_of(now, run) == "Crashed"
    with accelerator_lock.exclusive_work("test", print, wait=False):
        pass


def test_down_stops_a_run_that_outlived_its_worker(machine: RunningPrefect, settings: Settings) -> None:
    now = bring_up(settings)
    code = (
        "import sys, time; from pathlib import Path; from tasks.liveness import hold_run_lock\n"
        "hold_run_lock(Path(sys.argv[1]), 'orphan'); print('marked', flush=True); time.sleep(60)"
    )
    orphan = subprocess.Popen(
        [sys.executable, "-c", code, str(now.place.home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert orphan.stdout is not None and orphan.stdout.readline() == "marked\n"
    kill(pid_of(now, WORKER))
    take_down(settings)
    assert orphan.wait(30) == -signal.SIGTERM
    orphan.stdout.close()


@pytest.mark.soak
def test_a_run_that_slept_150_seconds_ends_well(machine: RunningPrefect, settings: Settings) -> None:
    """Longer than three heartbeats; then a server restart, so that no lease or timer survives."""
    now = bring_up(settings)
    run, process = train(now, SMALL)
    sleep_with(process, 150.0)
    assert state_of(now, run) == "Running"
    kill(pid_of(now, SERVER))
    now = bring_up(settings)
    seen = run_watcher.follow_flow_run(now.place, run, lambda glance: None)
    assert seen.state in ENDED_WELL, seen.message


def test_liveness_mark_belongs_to_one_process(tmp_path: Path) -> None:
    handle = liveness.hold_run_lock(tmp_path, "one")
    try:
        known = liveness.live_run_process(tmp_path, "one")
        assert known is not None and known.pid == os.getpid() and known.alive
        assert not liveness.is_run_alive(tmp_path, "two") and not liveness.has_run_lock_file(tmp_path, "two")
    finally:
        os.close(handle)
    assert liveness.has_run_lock_file(tmp_path, "one") and not liveness.is_run_alive(tmp_path, "one")
    os.utime(tmp_path / liveness.RUN_LOCK_FOLDER / "one.lock", (0, 0))
    liveness.remove_stale_run_locks(tmp_path)
    assert not liveness.has_run_lock_file(tmp_path, "one")
    assert replace(known, pid=1) != known
