"""What kills, sleeps and restarts leave of a run: real SIGKILL, SIGSTOP and server restarts during a real training.

These tests run after all others of the folder, because they kill the server that the others use.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import SERVER, WORKER, RunningPrefect, bring_up, take_down
from deployments.prepared_deploy import PreparedDeploy
from mondrian_core import accelerator_lock
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tasks import liveness
from tasks.processes import ManagedProcess, child_processes, process_start_token
from tests.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
ENDED_WELL = ("Promoted", "Candidate", "Rejected")
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


def train(machine: RunningPrefect, sample: Path, recipe: dict[str, Any]) -> tuple[UUID, ManagedProcess]:
    """A retraining that has begun to train, and its process."""
    where = {"workspace": str(sample), "adapters": str(sample.parent / "lifecycle")}
    given = {"advisor": "ansel", **where, "recipe": recipe}
    run = run_watcher.start_deployment_run(machine.place, "retrain/scheduled", given)
    process = wait_until(lambda: liveness.live_run_process(machine.place.home, run), "the process of the run")
    wait_until(lambda: '"stage": "train"' in training_log(sample, run), "the training")
    return run, process


def training_log(workspace: Path, run: UUID) -> str:
    """What the training of a run has written so far."""
    logs = list((workspace / "runs").glob(f"*{str(run)[:8]}/train.log"))
    return logs[0].read_text() if logs else ""


def logged_steps(folder: Path) -> list[str]:
    """The optimizer steps of a run, each with its time: a step that was trained again is another line."""
    return [line for line in (folder / "training_log.jsonl").read_text().splitlines() if '"kind": "step"' in line]


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


def send(number: signal.Signals, *running: ManagedProcess) -> None:
    """Send a signal to processes that exist."""
    for each in running:
        os.kill(each.pid, number)


def test_only_the_death_of_its_process_ends_a_run(
    machine: RunningPrefect, settings: Settings, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine sleeps; then the server, the worker and all of it die. The training sleeps while it isn't needed."""
    monkeypatch.setattr(PreparedDeploy, "apply", lambda deploy: None)  # nothing has changed since the machine began
    run, process = train(machine, sample, ENDLESS)
    port, worker = machine.place.port, pid_of(machine, WORKER)
    stages = child_processes(process.pid)
    assert stages

    send(signal.SIGSTOP, process, *stages)
    kill(pid_of(machine, SERVER))
    now = bring_up(settings)
    send(signal.SIGCONT, process)
    assert [each.name for each in now.started] == [SERVER] and now.place.port == port
    assert pid_of(now, WORKER) == worker
    assert process.alive and state_of(now, run) == "Running", "the server alone died"

    kill(worker)
    now = bring_up(settings)
    assert [each.name for each in now.started] == [WORKER]
    before = training_log(sample, run)
    send(signal.SIGCONT, *stages)
    wait_until(lambda: len(training_log(sample, run)) > len(before), "the training to go on")
    assert process.alive and state_of(now, run) == "Running", "the worker alone died"

    kill(pid_of(now, WORKER), pid_of(now, SERVER), process.pid, *(each.pid for each in stages))  # a power cut
    now = bring_up(settings)
    assert now.place.port == port
    assert state_of(now, run) == "Crashed"
    with accelerator_lock.exclusive_work("test", print, wait=False):
        pass


def test_after_a_power_cut_in_the_evaluation_a_retry_trains_nothing_again(
    machine: RunningPrefect, settings: Settings, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker, run and stage are killed in the evaluation; Prefect's results and two summaries are lost as well."""
    from prefect.states import AwaitingRetry

    monkeypatch.setattr(PreparedDeploy, "apply", lambda deploy: None)  # nothing has changed since the machine began
    now = bring_up(settings)
    run, process = train(now, sample, SMALL)
    [folder] = (sample / "runs").glob(f"*{str(run)[:8]}")
    wait_until(lambda: (folder / "evaluate.log").exists() and child_processes(process.pid), "the evaluation")
    trained = logged_steps(folder)
    kill(pid_of(now, WORKER), process.pid, *(each.pid for each in child_processes(process.pid)))
    shutil.rmtree(now.place.home / "storage", ignore_errors=True)
    for lost in ("link.json", "dataset.json"):
        (folder / lost).unlink()

    now = bring_up(settings)
    assert state_of(now, run) == "Crashed"
    with prefect_setup.prefect_client(now.place) as client:
        client.set_flow_run_state(run, AwaitingRetry())
    seen = run_watcher.follow_flow_run(now.place, run, lambda glance: None)
    assert seen.state in ENDED_WELL, seen.message
    assert logged_steps(folder) == trained, "a step was trained again"
    registry = Registry(sample.parent / "lifecycle")
    assert [version.manifest["run"] for version in registry.versions("ansel")] == [seen.run]


@pytest.mark.soak
def test_a_run_that_slept_150_seconds_ends_well(machine: RunningPrefect, settings: Settings, sample: Path) -> None:
    """Longer than three heartbeats; then a server restart, so that no lease or timer survives."""
    now = bring_up(settings)
    run, process = train(now, sample, SMALL)
    family = [process, *child_processes(process.pid)]
    send(signal.SIGSTOP, *family)
    time.sleep(150.0)
    send(signal.SIGCONT, *family)
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


def test_down_stops_a_run_that_outlived_its_worker(machine: RunningPrefect, settings: Settings) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tasks.liveness import hold_run_lock\n"
        "hold_run_lock(Path(sys.argv[1]), 'orphan'); print('marked', flush=True); time.sleep(600)"
    )
    orphan = subprocess.Popen(
        [sys.executable, "-c", code, str(machine.place.home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert orphan.stdout is not None and orphan.stdout.readline() == "marked\n"
    kill(pid_of(bring_up(settings), WORKER))
    take_down(settings)
    assert orphan.wait(LIMIT_SECONDS) == -signal.SIGTERM
    orphan.stdout.close()
