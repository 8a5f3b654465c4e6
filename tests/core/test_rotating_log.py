"""Rotating logs: no line is lost or cut, the size is bounded, children and kills included."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mondrian_core import rotating_log
from mondrian_core.rotating_log import RotatingLogFile, command_with_rotating_log, rotate_if_full
from tests.waiting import wait_until

CHATTY = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import os\\nfor n in range(2000): os.write(1, b'child %d\\\\n' % n)"])
for n in range(2000):
    os.write(1, b"parent %d\\n" % n)
child.wait()
print("argv", sys.argv[1:], __name__)
sys.exit("bye")
"""


def written(path: Path) -> bytes:
    """The content of the log and its older files, in order."""
    files = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: -int(file.suffix[1:]))
    return b"".join(file.read_bytes() for file in [*files, path])


@pytest.mark.parametrize("seed", range(5))
def test_no_byte_is_lost_and_no_line_is_cut(tmp_path: Path, seed: int) -> None:
    draw, path = random.Random(seed), tmp_path / "a.log"
    lines = [b"x" * draw.randrange(60) + b" %d\n" % number for number in range(400)]
    text = b"".join(lines)
    log = RotatingLogFile(path, limit=1000, kept=1000)
    start = 0
    while start < len(text):  # blocks end anywhere, as a pipe's do
        end = start + draw.randrange(1, 300)
        log.write(text[start:end])
        start = end
    log.close()
    assert written(path) == text
    files = list(tmp_path.iterdir())
    assert len(files) > 10 and max(file.stat().st_size for file in files) <= 1000 + max(map(len, lines))
    assert all(file.read_bytes().endswith(b"\n") for file in files)


def test_size_is_bounded_also_without_line_ends(tmp_path: Path) -> None:
    log = RotatingLogFile(tmp_path / "a.log", limit=1000, kept=2)
    for _ in range(50):
        log.write(b"x" * 777)
    log.write(b"y\n" * 5000)
    log.close()
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(sizes) == 3 and sum(sizes) <= 3 * 2 * 1000


def test_an_existing_log_is_continued(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"old\n" * 250)
    log = RotatingLogFile(tmp_path / "a.log", limit=1000)
    log.write(b"new\n")
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"new\n" and (tmp_path / "a.log.1").stat().st_size == 1000


def test_a_full_disk_stops_nothing_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RotatingLogFile(tmp_path / "a.log")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        log.write(b"12345\n")
    log.write(b"after\n")
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"[6 bytes of this log were lost: the disk was full]\nafter\n"


def test_a_module_and_its_children_write_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    log = tmp_path / "a.log"
    command = command_with_rotating_log([sys.executable, "-m", "chatty", "--flag", "a b"], log)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    done = subprocess.run(command, env=environment, check=False, timeout=120)
    assert done.returncode == 1
    lines = written(log).decode().splitlines()
    for who in ("parent", "child"):
        assert [line for line in lines if line.startswith(who)] == [f"{who} {number}" for number in range(2000)]
    assert "argv ['--flag', 'a b'] __main__" in lines and lines[-1] == "bye"


def test_a_killed_writer_is_replaced_and_no_line_is_lost(tmp_path: Path) -> None:
    (tmp_path / "patient.py").write_text(
        "for line in iter(input, 'end'):\n    print(line, flush=True)\nprint('done')\n"
    )
    log = tmp_path / "a.log"
    command = command_with_rotating_log([sys.executable, "-m", "patient"], log)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None

        def say(line: str) -> None:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

        say("before")
        wait_until(lambda: b"before" in written(log) if log.exists() else False, "the first line")
        (writer,) = psutil.Process(process.pid).children()
        writer.send_signal(signal.SIGKILL)
        (second,) = wait_until(
            lambda: [each for each in psutil.Process(process.pid).children() if each.pid != writer.pid],
            "the next writer",
        )
        say("after")
        wait_until(lambda: b"after" in written(log), "the line after the kill")
        say("end")
    assert process.returncode == 0
    wait_until(lambda: b"done" in written(log), "the last line")
    assert written(log) == b"before\nafter\ndone\n"
    wait_until(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE, "the end of the writer")


def test_last_words_of_a_killed_process_are_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "doomed.py").write_text(
        "import os, signal\nos.write(2, b'last words\\n')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    log = tmp_path / "a.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    subprocess.run(command_with_rotating_log([sys.executable, "-m", "doomed"], log), env=environment, check=False)
    wait_until(lambda: log.exists() and b"last words" in log.read_bytes(), "the last words")


def test_other_commands_are_unchanged(tmp_path: Path) -> None:
    assert command_with_rotating_log(["/bin/sh", "-c", "true"], tmp_path / "a.log") == ["/bin/sh", "-c", "true"]


def test_a_log_of_short_processes_rotates_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "runs.log"
    rotate_if_full(path)
    path.write_bytes(b"x" * 100)
    rotate_if_full(path, limit=101)
    assert path.exists()
    rotate_if_full(path, limit=100)
    assert not path.exists() and (tmp_path / "runs.log.1").stat().st_size == 100


def test_command_names_this_module() -> None:
    assert rotating_log.__name__ == rotating_log.MODULE
