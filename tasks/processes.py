"""Start, recognize and stop the processes of this project: server, worker, service.

A process is identified by its number and its start time, because the system reuses numbers. Each process gets its own
session: Ctrl-C in a terminal reaches only the command that started it, which then stops the processes in order.

psutil reads the process table. Written here: reading a zombie as ended (`psutil.wait_procs` waits until its parent
reaps it, which some containers never do), and a start time that doesn't change when the clock is set.
"""

from __future__ import annotations

import os
import re
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

import psutil

from mondrian_core.rotating_log import command_with_rotating_log, rotate_if_full

FORCE_SECONDS = 5.0  # to end after SIGKILL, and for descendants after SIGTERM
POLL_SECONDS = 0.1
OLDER_TOKEN = re.compile(r"[0-9a-f-]{36}:(\d+)")  # start time in records before psutil, on Linux: boot id and ticks


@dataclass(frozen=True)
class ManagedProcess:
    """A process that this project started: display name, number, start time (`process_start_token`), log file."""

    name: str
    pid: int
    began: str
    log: str

    @classmethod
    def from_record(cls, values: Any) -> ManagedProcess | None:
        """Read a record of this or another version of Mondrian; None when it doesn't identify a process.

        Unknown keys are ignored, so that this version can stop what an earlier or later one started.
        """
        try:
            began = str(values["began"])
            if older := OLDER_TOKEN.fullmatch(began):
                began = f"{int(older[1]) / os.sysconf('SC_CLK_TCK'):.2f}"
            return cls(str(values["name"]), int(values["pid"]), began, str(values.get("log", "")))
        except (TypeError, KeyError, ValueError, AttributeError):
            return None

    @property
    def alive(self) -> bool:
        """True while this very process runs."""
        return process_start_token(self.pid) == self.began


def process_start_token(pid: int) -> str | None:
    """The start time of a process in seconds, as text; None when it has ended (a zombie has ended).

    On Linux it counts from the system's start: psutil adds the boot time, which changes when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        since = process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)
    except psutil.Error:
        return None
    return f"{since:.2f}"


def start_process(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> ManagedProcess:
    """Start a process in its own session, with its output appended to a file; that of a Python module rotates.

    Args:
        name: for people, and for the command that stops it.
        command: program and arguments.
        environment: all of its environment variables.
        folder: its working directory.
        log: file for its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, _default_interrupt():
        # It outlives this call; a thread reaps it when it ends.
        child = subprocess.Popen(
            command_with_rotating_log(list(command), log),
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
    """Start children with the default handling of SIGINT.

    A background job of a non-interactive shell inherits "ignore", and Prefect turns SIGTERM into SIGINT: such a server
    or worker could only be killed. A handler that Python set is reset to the default on exec.
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
    """Redirect output from a pipe to a file, because a pipe breaks when its reader dies.

    The first log line on a broken pipe would end the run (rich raises SystemExit). Terminals and files are left alone.
    """
    streams = [stream for stream in (1, 2) if _is_pipe(stream)]
    if not streams:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    rotate_if_full(log)
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
    """Ignore further Ctrl-C while processes are being stopped, which takes seconds."""
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
    """Ask a process to end, wait up to `patience` seconds, then kill it and its descendants. True when it was running.

    The descendants are listed first: once the process has ended, nothing says whose they were.
    """
    if not process.alive:
        return False
    descendants = child_processes(process.pid)
    _terminate([process], patience)
    _terminate(descendants, FORCE_SECONDS)
    return True


def child_processes(pid: int) -> list[ManagedProcess]:
    """The running descendants of a process: its children, their children, and so on."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    started = [(child.pid, process_start_token(child.pid)) for child in children]
    return [ManagedProcess("", number, since, "") for number, since in started if since is not None]


def _terminate(processes: Sequence[ManagedProcess], patience: float) -> None:
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, FORCE_SECONDS)):
        for process in processes:
            if process.alive:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        if _wait_until_gone(processes, wait):
            return


def _wait_until_gone(processes: Sequence[ManagedProcess], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
