"""One accelerator per machine: real processes take its locks, wait with a name, share it, and die with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mondrian_core import accelerator_lock, stages
from mondrian_core.accelerator_lock import (
    accelerator_lock_path,
    compute_turn,
    exclusive_work,
    format_lock_holder,
    hold_work_lock,
)
from mondrian_core.cli import main
from mondrian_core.errors import AcceleratorBusy, Broken
from mondrian_core.events import StageEvent, StageNotice, StageProgressed, ignore_events
from mondrian_core.recipes import Recipe
from mondrian_core.settings import Settings
from mondrian_core.stages import new_stage_context
from tests.waiting import LIMIT_SECONDS

HOLDS = """
import sys, time
from mondrian_core.accelerator_lock import exclusive_work
with exclusive_work("train of ansel", print):
    print("holds", flush=True)
    time.sleep(600)
"""
SHARES = """
import sys, time
from mondrian_core.accelerator_lock import exclusive_work, yielding_turns
from mondrian_core.events import StageProgressed, ignore_events
with exclusive_work("train of ansel", print):
    listen = yielding_turns(ignore_events)
    print("holds", flush=True)
    while True:
        time.sleep(0.05)
        listen(StageProgressed("train", 1))
"""


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own for each test."""
    monkeypatch.setenv("MONDRIAN_ACCELERATOR_LOCK", str(tmp_path / "machine" / "lock"))
    return accelerator_lock_path()


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline().strip() == "holds"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_without_waiting_the_holder_is_named(lock: Path) -> None:
    with running(HOLDS) as holder:
        named = f"train of ansel, started by .*, process {holder.pid}, since"
        with pytest.raises(AcceleratorBusy, match=named), exclusive_work("evaluate of ansel", print, wait=False):
            pass


def test_wait_reports_lock_holder_once_and_ends_when_it_dies(lock: Path) -> None:
    messages: list[str] = []
    with running(HOLDS) as holder:

        def heard(text: str) -> None:
            messages.append(text)
            holder.send_signal(signal.SIGKILL)

        with exclusive_work("evaluate of ansel", heard):
            assert f"process {os.getpid()}" in format_lock_holder(lock.read_text())
        assert len(messages) == 1 and f"process {holder.pid}" in messages[0]
    assert lock.read_text() == ""


def test_suspended_holder_keeps_lock(lock: Path) -> None:
    """A machine that slept, or Ctrl-Z: who holds it goes on later, nobody takes it away."""
    with running(HOLDS) as holder:
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(AcceleratorBusy), hold_work_lock(lock, print, wait=False):
            pass


def test_stale_lock_file_does_not_block(lock: Path) -> None:
    lock.parent.mkdir(parents=True)
    lock.write_text('{"what": "train of ansel", "user": "anna", "pid": 1, "run_pid": 2, "since": "2020-01-01"}')
    with exclusive_work("train of ansel", print, wait=False):
        assert "2020" not in lock.read_text()


def test_lock_is_reentrant_within_process(lock: Path) -> None:
    with (
        exclusive_work("retrain of ansel", print),
        exclusive_work("train of ansel", print, wait=False),
        compute_turn(patience=0.0),
    ):
        assert "retrain of ansel" in lock.read_text()


def test_a_service_gets_its_turn_between_two_steps_of_a_training(lock: Path) -> None:
    with running(SHARES):
        for _ in range(5):
            with compute_turn(patience=LIMIT_SECONDS):
                pass
        with pytest.raises(AcceleratorBusy), exclusive_work("train of ansel", print, wait=False):
            pass  # but no second training


def test_training_yields_accelerator_to_service_and_resumes(lock: Path) -> None:
    with running(SHARES) as trainer:
        with compute_turn(patience=LIMIT_SECONDS), pytest.raises(AcceleratorBusy, match="train of ansel"):
            elsewhere(lambda: compute_turn(patience=0.1))
        with compute_turn(patience=LIMIT_SECONDS):
            assert trainer.poll() is None


def test_turn_timeout_names_holder_and_sends_heartbeats(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator_lock, "ALIVE_INTERVAL_SECONDS", 0.05)
    signs: list[int] = []
    waits = compute_turn(patience=0.5, alive=lambda: signs.append(1))
    with running(HOLDS), pytest.raises(AcceleratorBusy, match="train of ansel"), waits:
        pass
    assert signs


def elsewhere(take: Callable[[], object]) -> None:
    """In another thread, which holds nothing."""
    from concurrent.futures import ThreadPoolExecutor

    def attempt() -> None:
        with take():  # type: ignore[attr-defined]
            pass

    with ThreadPoolExecutor(1) as pool:
        pool.submit(attempt).result()


def test_every_user_may_lock_it_whatever_the_umask(lock: Path) -> None:
    before = os.umask(0o077)
    try:
        with exclusive_work("train of ansel", print):
            assert lock.stat().st_mode & 0o777 == 0o666
            turns = lock.with_name(f"{lock.name}.turn")
            assert turns.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_lock_path_must_be_regular_file(lock: Path, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("precious")
    lock.parent.mkdir(parents=True)
    {"link": lambda: lock.symlink_to(victim), "pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir}[kind]()
    with pytest.raises(Broken, match="MONDRIAN_ACCELERATOR_LOCK"), exclusive_work("train of ansel", print):
        pass
    assert victim.read_text() == "precious"


def test_lock_on_deleted_file_is_retried(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems clean their temporary folders: between opening and locking, too. The file at the path counts."""
    opened = accelerator_lock._open

    def cleared(path: Path) -> int:
        monkeypatch.setattr(accelerator_lock, "_open", opened)
        handle = opened(path)
        path.unlink()
        return handle

    monkeypatch.setattr(accelerator_lock, "_open", cleared)
    with exclusive_work("evaluate of ansel", print, wait=False), pytest.raises(AcceleratorBusy):
        elsewhere(lambda: hold_work_lock(lock, print, wait=False))


@pytest.mark.parametrize("written", ["", "not JSON", "[]", '{"pid": 1}', '{"since": "x"}', "\x00", "1"])
def test_unreadable_lock_holder_is_described_generically(written: str) -> None:
    assert format_lock_holder(written) == "another process"


def test_control_characters_of_lock_holder_are_escaped() -> None:
    wicked = '{"what": "\\u001b[2J\\n' + "x" * 500 + '", "user": "a", "pid": 1, "since": "2026-01-20T09:12:00+00:00"}'
    text = format_lock_holder(wicked)
    assert "\x1b" not in text and "\n" not in text and len(text) < 200


def test_progress_events_pass_through_lock_unchanged(lock: Path) -> None:
    heard: list[object] = []
    with exclusive_work("train of ansel", ignore_events):
        accelerator_lock.yielding_turns(heard.append)(StageProgressed("train", 1))
    assert heard == [StageProgressed("train", 1)]


class WaitsError(Exception):
    """Raised in place of waiting."""


@pytest.mark.parametrize("stage", ["train", "evaluate", "index", "synthesize", "estimate"])
def test_compute_stages_acquire_accelerator_lock(lock: Path, stage: str, tmp_path: Path) -> None:
    """Also when called directly, without flow or command."""
    (tmp_path / "workspace").mkdir()
    settings = Settings(workspace=tmp_path / "workspace", adapters=tmp_path / "adapters", base_model="mini")

    def heard(event: StageEvent) -> None:
        if isinstance(event, StageNotice) and "in use (train of ansel, started by" in event.message:
            raise WaitsError

    with running(HOLDS), pytest.raises(WaitsError):
        getattr(stages, f"{stage}_stage")(new_stage_context(settings, "ansel", Recipe()), heard)


@pytest.mark.parametrize(
    "command", [["train"], ["retrain"], ["evaluate", "--adapter", "v0001"], ["index"], ["synthesize"]]
)
def test_no_wait_option_names_lock_holder(
    lock: Path, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "workspace").mkdir()
    where = ["--workspace", str(tmp_path / "workspace"), "--advisor", "ansel", "--base-model", "mini"]
    with running(HOLDS) as holder:
        assert main([*command, *where, "--no-wait"]) == 3
    printed = capsys.readouterr().err
    assert f"process {holder.pid}" in printed and "Traceback" not in printed
