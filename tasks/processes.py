"""Processes that this project started: begin them, know them again, stop exactly them.

A process is known by its number and the moment it began, because the system hands out numbers again. Each one gets a
session of its own: Ctrl-C in the terminal reaches only the command that started it, which then stops them in order.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ManagedProcess:
    """A process that was started: its name for people, its number, when it began (a token, not a time), its log."""

    name: str
    pid: int
    began: str
    log: str

    @classmethod
    def from_record(cls, values: Any) -> ManagedProcess | None:
        """Read what a version of Mondrian wrote, this one or another; None when it doesn't say which process.

        Entries that this version doesn't know are ignored, so that what an earlier or later one started can be stopped.
        """
        try:
            return cls(str(values["name"]), int(values["pid"]), str(values["began"]), str(values.get("log", "")))
        except (TypeError, KeyError, ValueError, AttributeError):
            return None

    @property
    def alive(self) -> bool:
        """True while that very process runs."""
        return process_start_token(self.pid) == self.began


def process_start_token(pid: int) -> str | None:
    """A token for the moment a process began; None when it runs no more (a zombie runs no more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except ProcessLookupError:
        return None
    asked = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, since = asked.stdout.strip().partition(" ")
    return since.strip() if state and not state.startswith("Z") else None


def start_process(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> ManagedProcess:
    """Start a process with its output in a file, in a session of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, _default_interrupt():
        # Not waited for: it outlives this call, and `began` takes a zombie for what it is.
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _reap_in_background(child)
    return ManagedProcess(name, child.pid, process_start_token(child.pid) or "gone", str(log))


@contextmanager
def _default_interrupt() -> Iterator[None]:
    """Let children begin with SIGINT at its default.

    A background job of a non-interactive shell inherits "ignored", and Prefect turns SIGTERM into SIGINT: a server or
    worker started so could never be stopped politely. A handler that Python set is reset to the default on exec.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def redirect_pipe_to_file(log: Path) -> None:
    """Let this process write to a file what it has written to a pipe: the pipe breaks when its reader dies.

    The first line of a log that met a broken pipe would end the run (rich raises SystemExit then). Terminals and files
    stay as they are.
    """
    streams = [stream for stream in (1, 2) if _is_pipe(stream)]
    if not streams:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for number in streams:
        os.dup2(handle, number)
    os.close(handle)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Let no second Ctrl-C interrupt the stopping of processes; it takes seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reap_in_background(child: subprocess.Popen[bytes]) -> None:
    threading.Thread(target=child.wait, daemon=True).start()


def stop_process(process: ManagedProcess, *, patience: float = 15.0) -> bool:
    """Ask a process to end, wait, then end it and what it started by force. True when it ran.

    Descendants are listed before it ends: afterwards nobody could tell whose they were.
    """
    if not process.alive:
        return False
    family = [(pid, since) for pid in descendant_pids(process.pid) if (since := process_start_token(pid))]
    _terminate([(process.pid, process.began)], patience)
    _terminate(family, 5.0)
    return True


def _terminate(chosen: Sequence[tuple[int, str]], patience: float) -> None:
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        for pid, since in chosen:
            if process_start_token(pid) == since:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        if _wait_until_gone(chosen, wait):
            return


def _wait_until_gone(processes: Sequence[tuple[int, str]], patience: float) -> bool:
    until = time.monotonic() + patience
    while any(process_start_token(pid) == since for pid, since in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def descendant_pids(pid: int) -> list[int]:
    """Numbers of the children of a process, their children, and so on."""
    listed = (
        subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        if not Path("/proc/self/stat").exists()
        else _from_proc()
    )
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        young = children.get(queue.pop(), [])
        found += young
        queue += young
    return found


def _from_proc() -> str:
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines.append(f"{folder.name} {(folder / 'stat').read_text().rpartition(')')[2].split()[1]}")
    return "\n".join(lines)
