"""Size-bounded logs for processes that run for months: `python -m mondrian_core.rotating_log LOG MODULE ARGUMENT...`.

That runs a module as `python -m MODULE ARGUMENT...` does, in this process, with its output and that of its children in
a log that rotates: LOG, LOG.1, ... The output goes through a pipe to a small process that writes the files, because
children keep writing to a file that was renamed. No line is lost or cut at a rotation. The writer outlives a kill of
this process, so the last lines before a crash are in the log; when the writer is killed, the next one continues with
the same pipe.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

MODULE = "mondrian_core.rotating_log"
LOG_BYTES = 10_000_000
OLD_LOGS = 3  # so a process has at most 40 MB of logs
BLOCK_BYTES = 1 << 16
DRAIN_SECONDS = 2.0
RESTART_SECONDS = 0.2  # pause before a writer that ended is replaced
WRITE_OPTION = "--write"


class RotatingLogFile:
    """A file that bytes are appended to. Before it grows beyond its limit it becomes LOG.1, LOG.1 becomes LOG.2, ...

    It rotates between two lines, so a line that was begun may exceed the limit; only one longer than the limit is cut.

    Args:
        path: of the log.
        limit: bytes.
        kept: number of old files.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES, kept: int = OLD_LOGS) -> None:
        self._path, self._limit, self._kept = path, limit, kept
        self._lost = 0
        self._between_lines = True
        self._open()

    def write(self, data: bytes) -> None:
        """Append bytes. What doesn't fit on a full disk is lost; a later line says how much."""
        while data:
            room = self._limit - self._size
            if len(data) > room and self._size and (self._between_lines or self._size >= 2 * self._limit):
                self._rotate()
                continue
            end = len(data) if len(data) <= room else self._end_of_part(data, room)
            self._append(data[:end])
            data = data[end:]

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _end_of_part(self, data: bytes, room: int) -> int:
        """Where to cut: after the last line that fits; else after the first one."""
        fits = data.rfind(b"\n", 0, max(0, room)) + 1
        return fits or data.find(b"\n", 0, self._limit) + 1 or min(len(data), self._limit)

    def _append(self, part: bytes) -> None:
        try:
            if self._lost:
                note = f"[{self._lost} bytes of this log were lost: the disk was full]\n".encode()
                os.write(self._handle, note)
                self._size += len(note)
                self._lost = 0
            self._size += os.write(self._handle, part)
        except OSError:
            self._lost += len(part)
        self._between_lines = part.endswith(b"\n")

    def _rotate(self) -> None:
        self.close()
        rotate_files(self._path, self._kept)
        self._open()

    def _open(self) -> None:
        try:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:  # a full disk: go on without a log, because a full pipe would stop the program
            self._handle = os.open(os.devnull, os.O_WRONLY)
        self._size = os.fstat(self._handle).st_size


def rotate_files(path: Path, kept: int = OLD_LOGS) -> None:
    """LOG becomes LOG.1, and so on; the oldest is deleted."""
    for number in range(kept, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        with suppress(OSError):
            newer.replace(older)


def rotate_if_full(path: Path, limit: int = LOG_BYTES) -> None:
    """Rotate a log that several short processes append to, before one of them opens it."""
    with suppress(OSError):
        if path.stat().st_size >= limit:
            rotate_files(path)


class LogPipe:
    """Sends this process's output, and that of its children, to a process that writes a rotating log."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._command = [sys.executable, "-m", MODULE, WRITE_OPTION, str(path), str(limit)]
        self._read, write = os.pipe()
        self._closing = threading.Event()
        self._writer = self._start_writer()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):
            os.dup2(write, number)
        os.close(write)
        threading.Thread(target=self._keep_writer, daemon=True).start()

    def close(self) -> None:
        """Wait a moment until the writer has written everything; children may still be writing."""
        self._closing.set()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(nowhere, number)
        with suppress(subprocess.TimeoutExpired):
            self._writer.wait(DRAIN_SECONDS)

    def _start_writer(self) -> subprocess.Popen[bytes]:
        # with the pipe as its own output it would never see the end of the pipe
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(self._command, stdin=self._read, stdout=nowhere, stderr=nowhere, start_new_session=True)

    def _keep_writer(self) -> None:
        """Replace a writer that was killed. This process holds the pipe's end, so nothing is lost meanwhile."""
        while True:
            self._writer.wait()
            if self._closing.wait(RESTART_SECONDS):
                return
            with suppress(OSError):  # no process can be started at this moment
                self._writer = self._start_writer()


def write_rotating_log(path: Path, limit: int) -> None:
    """Copy standard input to a rotating log until every process that writes to the pipe has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its pipe
    log = RotatingLogFile(path, limit)
    while block := os.read(0, BLOCK_BYTES):
        log.write(block)
    log.close()


def command_with_rotating_log(command: list[str], log: Path) -> list[str]:
    """The command that runs `python -m MODULE ...` with a rotating log; any other command is unchanged."""
    if command[:2] != [sys.executable, "-m"]:
        return command
    return [*command[:2], MODULE, str(log), *command[2:]]


def main() -> None:
    """Run a module with its output in a rotating log."""
    if sys.argv[1] == WRITE_OPTION:
        write_rotating_log(Path(sys.argv[2]), int(sys.argv[3]))
        return
    atexit.register(LogPipe(Path(sys.argv[1])).close)  # the first one runs last, after every other output
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
