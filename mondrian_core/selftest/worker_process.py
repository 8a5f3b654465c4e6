"""The parent's side of a worker: start it, ask for steps, end it when it hangs, and say why it died."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mondrian_core.selftest.steps import StepCause, StepResult, StepStatus

WORKER_COMMAND = (sys.executable, "-m", "mondrian_core.selftest.worker")
# Words in what MLX, Metal and the C++ library print before a process dies, or in the text of an error.
_OUT_OF_MEMORY = (
    "OutOfMemory",
    "Insufficient Memory",
    "bad_alloc",
    "[metal::malloc]",
    "[malloc]",
    "out of memory",
    "MemoryError",
)
_WATCHDOG = ("ImpactingInteractivity", "CallbackErrorTimeout", "GPU Timeout", "CallbackErrorHang", "GPU Hang")
_TAIL_BYTES = 4000
_END_SECONDS = 5.0


class WorkerProcess:
    """One worker; it is started by the first step, and again by the next one after it died or something was off."""

    def __init__(self, base: str, label: str, stream: str, command: Sequence[str] = WORKER_COMMAND) -> None:
        """A worker that isn't started yet.

        Args:
            base: name or folder of the base.
            label: label of the base in results.
            stream: "GPU" or "CPU".
            command: the worker's command.
        """
        self._base, self.label, self.stream, self._command = base, label, stream, command
        self._folder = tempfile.TemporaryDirectory(prefix="mondrian-selftest-")
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    @property
    def folder(self) -> Path:
        """Where the worker leaves arrays for comparisons."""
        return Path(self._folder.name)

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def run(self, step: str, seconds: float, report: Callable[[str], None]) -> StepResult:
        """Run one step; whatever happens to the process is a result.

        Args:
            step: name of the step.
            seconds: the step's limit.
            report: receives a few words on what happens now.
        """
        began = time.monotonic()
        message = self._ask(step, seconds, report)
        result = self._result(step, message, time.monotonic() - began)
        if result.status is StepStatus.OFF:
            self.end()  # the next step begins in a fresh process
        return result

    def end(self) -> None:
        """End the process; no effect without one."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_END_SECONDS)
        for stream in (process.stdin, process.stdout, self._errors):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def close(self) -> None:
        """End the process and delete its files."""
        self.end()
        self._folder.cleanup()

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (`end` closes it)
            self._messages = queue.SimpleQueue()
            self._process = subprocess.Popen(
                [*self._command, self.stream, self._base, self._folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )
            threading.Thread(target=_forward, args=(self._process, self._messages), daemon=True).start()
        return self._process

    def _ask(self, step: str, seconds: float, report: Callable[[str], None]) -> dict[str, Any] | None:
        """The worker's last message of this step; None if it died; an event "hangs" after the limit."""
        process = self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"step": step, "seconds": seconds}) + "\n")
            process.stdin.flush()
        until = time.monotonic() + seconds
        while True:
            try:
                message = self._messages.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                return {"event": "hangs", "seconds": seconds}
            if message is None or message["event"] != "progress":
                return message
            report(message["text"])

    def _result(self, step: str, message: dict[str, Any] | None, seconds: float) -> StepResult:
        def result(status: StepStatus, finding: str, cause: StepCause | None = None, **more: Any) -> StepResult:
            return StepResult(
                base=self.label,
                stream=self.stream,
                step=step,
                status=status,
                finding=finding,
                cause=cause,
                seconds=seconds,
                **more,
            )

        if message is None:
            why, finding = self._death()
            return result(StepStatus.OFF, finding, why)
        match message["event"]:
            case "skipped":
                return result(StepStatus.SKIPPED, message["finding"])
            case "hangs":
                finding = f"no result after {message['seconds']:.0f} s; the process was ended"
                return result(StepStatus.OFF, finding, StepCause.TIME_LIMIT)
            case "error":
                detail = message["detail"]
                known = _known_cause(f"{message['kind']} {detail}") or StepCause.ERROR
                places = tuple(message["places"])
                return result(StepStatus.OFF, f"it failed with {message['kind']}", known, detail=detail, places=places)
        cause = StepCause(message["cause"]) if message["cause"] else None
        status = StepStatus.OFF if cause else StepStatus.OK
        return result(status, message["finding"], cause, figures=message["figures"])

    def _death(self) -> tuple[StepCause, str]:
        """Why the process died, and a sentence."""
        process = self._process
        assert process is not None
        status = process.wait(_END_SECONDS)
        known = _known_cause(self._error_tail())
        if known is not None:
            return known, f"the process died ({_status_words(status)})"
        if status == -signal.SIGKILL:
            return StepCause.OUT_OF_MEMORY, "the system killed the process, usually because memory ran out"
        cause = StepCause.ABORTED if status == -signal.SIGABRT else StepCause.CRASHED
        return cause, f"the process died ({_status_words(status)})"

    def _error_tail(self) -> str:
        assert self._errors is not None
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL_BYTES))
        return self._errors.read().decode(errors="replace")


def _forward(process: subprocess.Popen[str], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Pass the worker's messages on, then None."""
    assert process.stdout is not None
    with suppress(ValueError, OSError):  # it was closed, or the process died in the middle of a line
        for line in process.stdout:
            messages.put(json.loads(line))
    messages.put(None)


def _known_cause(text: str) -> StepCause | None:
    """The cause that known words name."""
    if any(word in text for word in _WATCHDOG):
        return StepCause.WATCHDOG
    return StepCause.OUT_OF_MEMORY if any(word in text for word in _OUT_OF_MEMORY) else None


def _status_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
