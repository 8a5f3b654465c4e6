"""The process that holds the accelerator: what it tells, how it fails, that it ends, and that there is only one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.demo import demo_run_error
from deployments.run_watcher import FlowRunStatus
from mondrian_core.accelerator_lock import STAGE_MODULE, hold_work_lock, is_orphaned_stage, write_lock_holder
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.errors import BadInput, Broken, DiskFull, ModelProcessDied
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.recipes import Recipe
from mondrian_core.settings import Settings
from mondrian_core.stages import new_stage_context
from tasks import stage_runner
from tasks.stage_runner import StageProcess, parse_event_line, run_stage_process
from tests.waiting import LIMIT_SECONDS, wait_until

STUB = Path(__file__).with_name("stub_stage.py")
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, str(STUB))


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    with hold_work_lock(tmp_path / "lock", print) as handle:
        yield handle


def run(
    folder: Path, lock: int, monkeypatch: pytest.MonkeyPatch, does: str, timeout: float = LIMIT_SECONDS
) -> list[StageEvent]:
    monkeypatch.setenv("STUB_DOES", does)
    heard: list[StageEvent] = []
    process = StageProcess(
        stage="train", context_file=folder / "context.json", run_folder=folder, timeout=timeout, program=PROGRAM
    )
    run_stage_process(process, lock=lock, listen=heard.append)
    return heard


def test_progress_lines_become_events(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = run(tmp_path, lock, monkeypatch, "work")
    assert heard == [StageProgressed("train", done, 3, f"step {done}") for done in (1, 2, 3)]
    assert "a line that is no event" in (tmp_path / "train.log").read_text()


def test_a_second_run_hears_only_its_own_lines(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, lock, monkeypatch, "work")
    assert len(run(tmp_path, lock, monkeypatch, "work")) == 3


@pytest.mark.parametrize("line", [b"", b"nonsense", b"[1]", b'{"event": "Nothing"}', b'{"event": "Advanced"}', b"\xff"])
def test_non_event_output_is_ignored(line: bytes) -> None:
    assert parse_event_line(line) is None


def test_what_the_stage_reports_is_raised(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput) as caught:
        run(tmp_path, lock, monkeypatch, "refuse")
    assert str(caught.value) == "There is no room. Make some."


def test_killed_stage_process_is_distinguished(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelProcessDied, match=r"SIGKILL.*memory"):
        run(tmp_path, lock, monkeypatch, "die")


@pytest.mark.parametrize("does", ["wait", "ignore SIGTERM"])
def test_time_out_ends_the_process(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """The time limit counts from a moment when the process is ready, however long a busy machine takes to start it."""

    def when_ready(lock: int, what: str, **pids: int) -> None:
        write_lock_holder(lock, what, **pids)
        wait_for(tmp_path / "ready")

    monkeypatch.setattr(stage_runner, "write_lock_holder", when_ready)
    monkeypatch.setattr(stage_runner, "GRACE_SECONDS", 0.5)
    with pytest.raises(Broken, match="exceeded its time limit"):
        run(tmp_path, lock, monkeypatch, does, timeout=0.5)
    assert not is_running(int((tmp_path / "ready").read_text()))


def test_an_interruption_ends_the_process(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cancel does: a signal whose handler raises in the middle of the waiting."""

    def interrupt() -> None:
        wait_for(tmp_path / "ready")
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lock, monkeypatch, "wait")
    assert not is_running(int((tmp_path / "ready").read_text()))


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []
    messages: list[str] = []

    def second() -> None:
        with hold_work_lock(path, messages.append):
            order.append("second")

    with hold_work_lock(path, messages.append):
        other = threading.Thread(target=second)
        other.start()
        wait_until(lambda: messages, "the second to wait")
        order.append("first")
    other.join(LIMIT_SECONDS)
    assert order == ["first", "second"]
    assert len(messages) == 1 and "in use" in messages[0]


def test_an_orphan_keeps_the_lock_and_the_next_run_ends_it(tmp_path: Path) -> None:
    """The run is killed outright; its process works on, so the lock must hold, and the next run must get rid of it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from tasks import stage_runner\n"
        "from mondrian_core.accelerator_lock import hold_work_lock\n"
        "folder = Path(sys.argv[2])\n"
        "with hold_work_lock(folder / 'lock', print) as lock:\n"
        "    process = stage_runner.StageProcess(\n"
        "        stage='train', context_file=folder / 'c.json', run_folder=folder, timeout=600,\n"
        "        program=(sys.executable, sys.argv[3], 'mondrian_core.stage_process'))\n"
        "    stage_runner.run_stage_process(process, lock=lock, listen=print)\n"
    )
    # The stub's arguments come after the name that marks our processes, so its first is that name.
    stub = tmp_path / "waits.py"
    ready = str(tmp_path / "ready")
    stub.write_text(f"import os, pathlib, time\npathlib.Path({ready!r}).write_text(str(os.getpid()))\ntime.sleep(99)\n")
    root = str(Path(stage_runner.__file__).parents[1])
    first = subprocess.Popen([sys.executable, "-c", script, root, str(tmp_path), str(stub)])
    orphan = int(wait_for(tmp_path / "ready"))
    wait_until(lambda: str(orphan) in (tmp_path / "lock").read_text())
    first.kill()
    first.wait()
    assert is_running(orphan)
    assert is_orphaned_stage((tmp_path / "lock").read_text())
    messages: list[str] = []
    with hold_work_lock(tmp_path / "lock", messages.append):
        assert not is_running(orphan)
    assert f"Process {orphan} held the accelerator" in messages[-1]


def test_a_process_with_a_living_run_is_no_orphan() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "mondrian_core.stage_process"])
    try:
        assert not is_orphaned_stage(json.dumps({"pid": child.pid, "run_pid": os.getpid()}))
        assert is_orphaned_stage(json.dumps({"pid": child.pid, "run_pid": 1}))
    finally:
        child.kill()
        child.wait()
    assert not is_orphaned_stage(json.dumps({"pid": child.pid, "run_pid": 1}))


def test_a_foreign_process_is_never_taken_for_an_orphan() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        assert not is_orphaned_stage(json.dumps({"pid": child.pid, "run_pid": 1}))
    finally:
        child.kill()
        child.wait()


def is_running(pid: int) -> bool:
    from tasks.processes import process_start_token

    return process_start_token(pid) is not None


def wait_for(path: Path) -> str:
    wait_until(lambda: path.exists() and path.read_text() != "")
    return path.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_stage_whose_log_is_full_goes_on_and_keeps_its_status(tmp_path: Path) -> None:
    context = retraining(tmp_path)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", STAGE_MODULE, "link", str(context)], stdout=full, stderr=full, cwd=ROOT, check=False
        )
    assert done.returncode == 0
    assert json.loads((context.parent / "link.json").read_text())["used"] > 0


def test_disk_full_is_reported_by_exit_status(tmp_path: Path) -> None:
    """Every write of a file fails as on a full disk, that of the reason too."""
    context = retraining(tmp_path)
    code = (
        "import errno, sys; from pathlib import Path; from mondrian_core import files, stage_process\n"
        "def full(path): raise OSError(errno.ENOSPC, 'No space left on device', str(path))\n"
        "Path.write_bytes = lambda path, data: full(path)\n"
        "sys.exit(stage_process.main(['link', sys.argv[1]]))"
    )
    status = subprocess.run([sys.executable, "-c", code, str(context)], cwd=ROOT, capture_output=True, check=False)
    error = stage_runner.stage_process_error("link", status.returncode, context.parent)
    assert isinstance(error, DiskFull) and "disk is full" in str(error)


def retraining(folder: Path) -> Path:
    """The context file of a retraining that has not begun."""
    create_workspace(folder / "workspace", sample=True, photographs=3)
    settings = Settings(workspace=folder / "workspace", adapters=folder / "adapters", base_model="mini")
    context = new_stage_context(settings, "ansel", Recipe())
    path = context.run_folder / "context.json"
    context.save(path)
    return path


def test_a_demo_ends_with_the_status_of_what_stopped_it(tmp_path: Path) -> None:
    def status(state: str) -> int:
        ended = FlowRunStatus(run="a-run", state=state, message="why", final=True)
        return demo_run_error(ended, tmp_path, tmp_path / ".prefect").exit_status

    assert [status("NothingNew"), status("Skipped"), status("Crashed")] == [1, 1, 3]
    error = {"problem": "No critique is usable.", "next_step": "Write some.", "exit_status": 2}
    (tmp_path / "dataset.error.json").write_text(json.dumps(error), encoding="utf-8")
    assert status("Failed") == 2
