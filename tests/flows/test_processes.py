"""Processes are known by number and beginning, stopped with their descendants, and nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Paused

from deployments import dead_runs
from deployments.prefect_instance import POOL, PrefectInstance
from mondrian_core.settings import Settings
from tasks import liveness, processes
from tasks.processes import process_start_token, start_process, stop_process
from tests.waiting import LIMIT_SECONDS, wait_until

PARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "time.sleep(600)"
)


def started(folder: Path, code: str) -> processes.ManagedProcess:
    environment = {**os.environ}
    return start_process(
        "test", [sys.executable, "-c", code], environment=environment, folder=folder, log=folder / "log"
    )


def wait_for_children(pid: int) -> list[int]:
    return wait_until(lambda: [child.pid for child in processes.child_processes(pid)], "a child")


def test_stop_ends_the_process_and_what_it_started(tmp_path: Path) -> None:
    parent = started(tmp_path, PARENT)
    children = wait_for_children(parent.pid)
    assert parent.alive
    assert stop_process(parent)
    assert process_start_token(parent.pid) is None
    assert [child for child in children if process_start_token(child) is not None] == []


def test_a_process_that_ignores_sigterm_is_ended_by_force(tmp_path: Path) -> None:
    stubborn = started(
        tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    wait_until(lambda: "on" in (tmp_path / "log").read_text(), "the handler of the signal")
    assert stop_process(stubborn, patience=0.3)
    assert not stubborn.alive


def test_a_process_of_the_same_number_is_left_alone(tmp_path: Path) -> None:
    stranger = started(tmp_path, "import time; time.sleep(600)")
    try:
        assert not stop_process(replace(stranger, began="another moment"))
        assert stranger.alive
    finally:
        assert stop_process(stranger)


@pytest.mark.skipif(sys.platform != "linux", reason="the older record is that of Linux")
def test_record_of_an_older_version_identifies_the_process(tmp_path: Path) -> None:
    running = started(tmp_path, "import time; time.sleep(600)")
    ticks = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        known = processes.ManagedProcess.from_record({"name": "test", "pid": running.pid, "began": f"{boot}:{ticks}"})
        assert known is not None and known.alive
    finally:
        assert stop_process(running)
    assert not known.alive


def test_a_process_that_is_gone_is_no_error(tmp_path: Path) -> None:
    gone = started(tmp_path, "pass")
    wait_until(lambda: not gone.alive, "the end of the process")
    assert not stop_process(gone)


def test_a_process_that_left_its_pipe_outlives_the_reader(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from tasks.processes import redirect_pipe_to_file\n"
        "print('begun', flush=True); sys.stdin.readline(); redirect_pipe_to_file(Path(sys.argv[1]))\n"
        "Console().print('said to nobody'); print('done', file=sys.stderr)"
    )
    root = Path(processes.__file__).parents[1]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        cwd=root,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin and child.stdout and child.stderr and child.stdout.readline() == "begun\n"
    child.stdout.close()
    child.stderr.close()
    child.stdin.write("go on\n")
    child.stdin.close()
    assert child.wait(LIMIT_SECONDS) == 0
    assert (tmp_path / "log").read_text() == "said to nobody\ndone\n"


def test_children_hear_sigint_although_a_background_shell_ignores_it(tmp_path: Path) -> None:
    """The trap: a shell's background job ignores SIGINT, and Prefect's worker would never stop."""
    inner = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, flush=True)"
    outer = (
        "import os, sys; from pathlib import Path; from tasks.processes import start_process\n"
        f"start_process('t', [sys.executable, '-c', {inner!r}], environment=dict(os.environ), folder=Path('.'),"
        f" log=Path({str(tmp_path / 'log')!r}))"
    )
    root = Path(processes.__file__).parents[1]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        subprocess.run([sys.executable, "-c", outer], cwd=root, check=True)
    finally:
        signal.signal(signal.SIGINT, before)
    log = tmp_path / "log"
    assert wait_until(lambda: log.exists() and log.read_text().strip(), "the child's line") == "False"


def test_question_without_a_process_is_asked_again(tmp_path: Path) -> None:
    """After a restart of the machine; a run that waits on another machine has no lock file here and is left alone."""
    place = PrefectInstance(Settings(workspace=tmp_path), 1)
    run = FlowRun(flow_id=uuid4(), work_pool_name=POOL, state=Paused(timeout_seconds=600))

    def state() -> str | None:
        found = dead_runs._state_for_dead_run(place, run, "The machine stopped.", may_start=False)
        return found.type.value if found else None

    assert state() is None
    handle = liveness.hold_run_lock(place.home, run.id)
    assert state() is None, "its process waits"
    os.close(handle)
    assert state() == "SCHEDULED"
