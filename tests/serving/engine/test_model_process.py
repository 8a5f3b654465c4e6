"""The model process and its supervisor: crashes, deadlines, cancellation, orphans. Only the model is a fake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mondrian_core.errors import BadAdapter, BaseModelUnavailable, ModelProcessDied
from mondrian_core.photograph_model import Question
from mondrian_core.pixel_files import PixelFile
from mondrian_core.serving.engine.interface import Canceled
from mondrian_core.serving.engine.supervisor import ModelProcess, ModelProcessLimits, is_process_alive

QUESTION = Question(messages=[], image=PixelFile(Path("no-file"), 8, 8))  # the fake model reads no pixels


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited too long"
        time.sleep(0.02)


def test_one_other_process_answers_all_questions(model: ModelProcess) -> None:
    model.start()
    first, second = model.ask(QUESTION), model.ask(QUESTION)
    assert first.boot == second.boot == str(model.pid) != str(os.getpid())
    assert model.fingerprint == "fake"
    assert model.seconds_since_last_message is None


def test_token_counts_are_reported(model: ModelProcess, control: Callable[..., None]) -> None:
    control(tokens=4, pace=0.12)
    heard: list[int] = []
    model.ask(QUESTION, heard.append)
    assert heard == [1, 2, 3, 4]


def test_waiting_for_the_accelerator_does_not_pass_the_deadline(
    tmp_path: Path, command: tuple[str, ...], control: Callable[..., None]
) -> None:
    """The wait exceeds the deadline of the first token."""
    control(waits=20)
    model = ModelProcess(command, tmp_path / "log", limits=ModelProcessLimits(first_token=3.0))
    model.start()
    try:
        heard: list[int] = []
        assert model.ask(QUESTION, heard.append).tokens == 3
        assert 0 not in heard and model.crashes == 0
    finally:
        model.stop()


def test_dead_process_is_replaced(model: ModelProcess, control: Callable[..., None]) -> None:
    control(die=1)
    with pytest.raises(ModelProcessDied, match="exit status 9"):
        model.ask(QUESTION)
    assert model.crashes == 1
    assert model.ask(QUESTION).tokens == 3
    assert model.starts == 2


def test_hanging_process_is_killed_at_the_deadline(
    tmp_path: Path, command: tuple[str, ...], control: Callable[..., None]
) -> None:
    control(hang=30)
    model = ModelProcess(command, tmp_path / "log", limits=ModelProcessLimits(first_token=0.3, backoff=0.01))
    model.start()
    pid = model.pid
    assert pid is not None
    try:
        with pytest.raises(ModelProcessDied, match="no sign of life"):
            model.ask(QUESTION)
        assert not is_process_alive(pid)
    finally:
        model.stop()


def test_adapter_crashes_pin_the_base_for_a_while(
    tmp_path: Path, command: tuple[str, ...], control: Callable[..., None]
) -> None:
    moment = [0.0]
    model = ModelProcess(command, tmp_path / "log", limits=ModelProcessLimits(backoff=0.001), clock=lambda: moment[0])
    control(die=4)
    try:
        for adapter in (None, Path("v0001"), Path("v0001"), Path("v0001")):
            assert not model.pinned
            with pytest.raises(ModelProcessDied):
                model.ask(Question(messages=[], image=QUESTION.image, adapter=adapter))
        assert model.pinned
        moment[0] = 601.0
        assert not model.pinned
    finally:
        model.stop()


def test_death_between_questions_is_charged_to_no_question(model: ModelProcess) -> None:
    """A killed process can look alive for a moment: the next question reaches a socket that nobody reads."""
    model.start()
    pid = model.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # from here on it takes no question
    asked = Question(messages=[], image=QUESTION.image, adapter=Path("v0001"))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(model.ask, asked)
        wait_until(lambda: model.seconds_since_last_message is not None)  # the question is in flight
        os.kill(pid, signal.SIGKILL)
        assert answer.result(60).tokens == 3
    assert (model.starts, model.crashes) == (2, 1)
    assert not any(adapted for _, adapted in model._crashes), "no adapter was answering"


def test_process_that_dies_whenever_a_question_arrives_ends_the_attempts(tmp_path: Path) -> None:
    dies_at_once = (
        "import os, sys; from multiprocessing.connection import Connection; "
        "from mondrian_core.serving.engine.ipc import ReadyResponse; connection = Connection(int(sys.argv[1])); "
        "connection.send(ReadyResponse('fake', 0.0)); connection.recv(); os._exit(9)"
    )
    limits = ModelProcessLimits(backoff=0.001)
    model = ModelProcess((sys.executable, "-c", dies_at_once, "{descriptor}"), tmp_path / "log", limits=limits)
    try:
        with pytest.raises(ModelProcessDied, match="exit status 9"):
            model.ask(QUESTION)
        assert model.starts == model.crashes == 2
    finally:
        model.stop()


def test_generation_can_be_canceled(model: ModelProcess, control: Callable[..., None]) -> None:
    control(tokens=500, pace=0.02)
    model.start()
    pid = model.pid
    answering = threading.Event()

    def cancel_once_answering() -> None:
        answering.wait()
        model.cancel()

    threading.Thread(target=cancel_once_answering, daemon=True).start()
    with pytest.raises(Canceled):
        model.ask(QUESTION, lambda count: answering.set())
    control()
    assert model.ask(QUESTION).boot == str(pid), "the process survives a cancellation"


def test_errors_keep_their_class_across_processes(model: ModelProcess, control: Callable[..., None]) -> None:
    control(unsound=["v0001"])
    assert model.check(Path("v0001")) == ("it is unsound",)
    assert model.check(Path("v0002")) == ()
    with pytest.raises(BadAdapter, match="unsound"):
        model.ask(Question(messages=[], image=QUESTION.image, adapter=Path("v0001")))


def test_unloadable_base_raises_its_error(model: ModelProcess, control: Callable[..., None]) -> None:
    control(no_base=True)
    with pytest.raises(BaseModelUnavailable, match="can't be loaded"):
        model.start()
    assert model.pid is None


def test_process_is_recycled_after_many_questions(
    tmp_path: Path, command: tuple[str, ...], control: Callable[..., None]
) -> None:
    model = ModelProcess(command, tmp_path / "log", limits=ModelProcessLimits(recycle_after=2))
    try:
        before = model.ask(QUESTION).boot
        assert not model.recycle()
        model.ask(QUESTION)
        assert model.recycle()
        assert model.ask(QUESTION).boot != before
        assert model.crashes == 0
    finally:
        model.stop()


def test_no_process_starts_after_stop(model: ModelProcess) -> None:
    model.start()
    pid = model.pid
    assert pid is not None
    model.stop()
    assert not is_process_alive(pid)
    with pytest.raises(ModelProcessDied, match="stopping"):
        model.ask(QUESTION)


def test_model_process_ends_with_a_killed_parent(
    tmp_path: Path, command: tuple[str, ...], control: Callable[..., None], root: Path
) -> None:
    control(tokens=1000, pace=0.05)
    code = (
        "import sys; from pathlib import Path\n"
        "from mondrian_core.serving.engine.interface import Question\n"
        "from mondrian_core.pixel_files import PixelFile\n"
        "from mondrian_core.serving.engine.supervisor import ModelProcess\n"
        "model = ModelProcess(sys.argv[2:], Path(sys.argv[1])); model.start(); print(model.pid, flush=True)\n"
        "model.ask(Question(messages=[], image=PixelFile(Path('no-file'), 8, 8)))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log"), *command], stdout=subprocess.PIPE, cwd=root, text=True
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        child = int(said.readline())
    time.sleep(0.2)
    assert is_process_alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    """False for a zombie process too."""
    if not is_process_alive(pid):
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
