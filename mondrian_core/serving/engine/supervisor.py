"""Supervisor of the model process: start it, ask with deadlines, replace it when it dies."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mondrian_core import errors
from mondrian_core.errors import Broken, ModelProcessDied, MondrianError
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.pixel_files import PixelFile
from mondrian_core.serving.engine import interface as engine_module
from mondrian_core.serving.engine.interface import AdapterCacheUse, Reply
from mondrian_core.serving.engine.ipc import (
    AnswerResponse,
    AskRequest,
    CancelRequest,
    CheckAdapterRequest,
    ErrorResponse,
    IpcRequest,
    IpcResponse,
    LoadAdapterRequest,
    ReadyResponse,
    TokensResponse,
)

DEFAULT_ADAPTER_CACHE_BYTES = 512 << 20
CrashRecord = tuple[float, bool]  # time (monotonic seconds), whether an adapter was answering


@dataclass(frozen=True, kw_only=True)
class ModelProcessLimits:
    """Deadlines (seconds), and when the process is replaced or pinned to the base.

    Attributes:
        recycle_after: questions answered by one process.
        crashes: with an adapter within `crash_window` seconds, after which only the base answers for a while.
    """

    load: float = 900.0
    first_token: float = 120.0
    between_tokens: float = 45.0
    answer: float = 600.0
    check: float = 120.0
    backoff: float = 0.25
    longest_backoff: float = 30.0
    recycle_after: int = 500
    crashes: int = 3
    crash_window: float = 600.0


def model_command(base: str, adapter_cache_bytes: int = DEFAULT_ADAPTER_CACHE_BYTES) -> tuple[str, ...]:
    """The command line of the real model process; the descriptor comes before the base's name."""
    module = "mondrian_core.serving.engine.model_process"
    return (sys.executable, "-m", module, "{descriptor}", base, str(adapter_cache_bytes))


class ModelProcess:
    """An `Engine` whose model runs in another process. Ask from one thread at a time; call the rest from any."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        limits: ModelProcessLimits | None = None,
        listen: EventListener = ignore_events,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._log, self._listen, self._clock = tuple(command), log, listen, clock
        self.limits = limits or ModelProcessLimits()
        self.fingerprint: str | None = None
        self.starts, self.jobs = 0, 0
        self.adapter_cache: AdapterCacheUse | None = None  # of the process that runs, as it last said
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._sending, self._asking = threading.Lock(), threading.RLock()
        self._numbers = itertools.count(1)
        self._current: int | None = None
        self._taken = False  # whether the process has begun with the current question
        self._last_message_at = clock()
        self._crashes: deque[CrashRecord] = deque(maxlen=32)
        self._consecutive_crashes = 0
        self._stopped = threading.Event()

    # --- state -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def seconds_since_last_message(self) -> float | None:
        """Seconds since the last message while a question is in flight; None when idle."""
        return None if self._current is None else self._clock() - self._last_message_at

    @property
    def crashes(self) -> int:
        """Crashes within the window."""
        horizon = self._clock() - self.limits.crash_window
        return sum(1 for at, _ in self._crashes if at >= horizon)

    @property
    def pinned(self) -> bool:
        """True after too many crashes with an adapter within the window: only the base answers until they are older."""
        horizon = self._clock() - self.limits.crash_window
        return sum(1 for at, adapted in self._crashes if adapted and at >= horizon) >= self.limits.crashes

    def forgive(self, deaths: int) -> None:
        """Don't count the last `deaths` crashes against an adapter: the base crashed on the same photograph."""
        for index in range(len(self._crashes) - 1, -1, -1):
            time_of_crash, adapted = self._crashes[index]
            if adapted and deaths > 0:
                self._crashes[index] = (time_of_crash, False)
                deaths -= 1

    # --- life cycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process and wait until the base is loaded.

        Raises:
            BaseModelUnavailable: the base can't be loaded.
            ModelProcessDied: it died while loading.
        """
        with self._asking:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [part.format(descriptor=theirs.fileno()) for part in self._command]
        with theirs, self._log.open("ab") as log:
            # Its own process group: Ctrl-C in the terminal reaches only the API, which then stops both in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()], process_group=0
            )
        self._connection = Connection(ours.detach())
        self.starts += 1
        self.adapter_cache = None
        self.jobs = 0
        message = self._receive(self.limits.load, adapted=False)
        if isinstance(message, ErrorResponse):
            self._kill()
            self._close_connection()
            raise _error_from_response(message)
        assert isinstance(message, ReadyResponse), message
        self.fingerprint = message.fingerprint

    def stop(self) -> None:
        """End the process for good; a question in flight raises `ModelProcessDied`."""
        self._stopped.set()
        self._kill()
        with self._asking:
            self._kill()  # a process that was being started meanwhile
            self._close_connection()

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _close_connection(self) -> None:
        """Close our end. Only while holding `_asking`: a closed descriptor's number is soon reused for another file."""
        if self._connection is not None:
            with self._sending:
                self._connection.close()
                self._connection = None

    def recycle(self) -> bool:
        """Replace a process that has answered many questions; True when it did. Call it when no job waits."""
        if self.pid is None or self.jobs < self.limits.recycle_after:
            return False
        with self._asking:
            self._kill()
            self._ensure()
        return True

    # --- questions ----------------------------------------------------------------------------------------------------

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate one answer; see `Engine.ask`. The image must be a `PixelFile`: no pixels go over the socket."""
        if not isinstance(question.image, PixelFile):
            raise TypeError(f"the image is a {type(question.image).__name__}, not a PixelFile")
        value = self._exchange(
            lambda number: AskRequest(number, question),
            self.limits.first_token,
            self.limits.answer,
            adapted=question.adapter is not None,
            on_token=on_token,
        )
        assert isinstance(value, Reply)
        self.adapter_cache = value.adapter_cache or self.adapter_cache
        self.jobs += 1
        self._consecutive_crashes = 0
        return value

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () when there are none."""
        value = self._exchange(
            lambda number: CheckAdapterRequest(number, folder), self.limits.check, self.limits.check, adapted=True
        )
        assert isinstance(value, tuple)
        return value

    def load_adapter(self, folder: Path) -> AdapterCacheUse:
        """Read an adapter into the process's memory; see `Engine.load_adapter`."""
        value = self._exchange(
            lambda number: LoadAdapterRequest(number, folder), self.limits.check, self.limits.check, adapted=True
        )
        assert isinstance(value, AdapterCacheUse)
        self.adapter_cache = value
        return value

    def cancel(self) -> None:
        """Stop the generation in flight, if any."""
        number = self._current
        if number is not None:
            self._send(CancelRequest(number))

    def _exchange(
        self,
        message: Callable[[int], IpcRequest],
        first: float,
        whole: float,
        *,
        adapted: bool,
        on_token: OnToken | None = None,
    ) -> Reply | tuple[str, ...] | AdapterCacheUse:
        def put() -> AnswerResponse | ErrorResponse:
            self._ensure()
            number = next(self._numbers)
            self._current, self._last_message_at, self._taken = number, self._clock(), False
            try:
                self._send(message(number))
                return self._await(number, first, whole, adapted, on_token)
            finally:
                self._current = None

        with self._asking:
            self._taken = True  # a process that dies while loading is not tried again here
            try:
                response = put()
            except ModelProcessDied:
                if self._taken:
                    raise
                response = put()  # it had died before it began, which can't be this question's fault
        if isinstance(response, ErrorResponse):
            raise _error_from_response(response)
        return response.value

    def _await(
        self, number: int, first: float, whole: float, adapted: bool, on_token: OnToken | None
    ) -> AnswerResponse | ErrorResponse:
        ends = self._clock() + whole
        patience = first
        while True:
            message = self._receive(max(0.0, min(patience, ends - self._clock())), adapted=adapted and self._taken)
            self._last_message_at = self._clock()
            self._taken |= not isinstance(message, ReadyResponse) and message.number == number
            if isinstance(message, TokensResponse):
                # count 0: the process is alive, has begun, or waits for its turn on the accelerator
                patience = self.limits.between_tokens if message.count else first
                if message.count and on_token is not None and message.number == number:
                    on_token(message.count)
            elif isinstance(message, AnswerResponse | ErrorResponse) and message.number == number:
                return message

    def _ensure(self) -> None:
        """Make sure that a process is ready; consecutive crashes increase the pause before the next start."""
        if self.pid is not None:
            return
        self._close_connection()
        if self._consecutive_crashes:
            pause = min(self.limits.backoff * 2 ** (self._consecutive_crashes - 1), self.limits.longest_backoff)
            self._stopped.wait(pause)
        if self._stopped.is_set():
            raise ModelProcessDied("The service is stopping.", "Send the photograph again when the service is running.")
        self._start()

    def _send(self, message: IpcRequest) -> None:
        try:
            with self._sending:
                if self._connection is not None:
                    self._connection.send(message)
        except OSError:
            pass  # it died; receiving detects and reports that

    def _receive(self, patience: float, *, adapted: bool) -> IpcResponse:
        connection = self._connection
        assert connection is not None
        try:
            if connection.poll(patience):
                message: IpcResponse = connection.recv()
                return message
        except (EOFError, OSError):
            raise self._died("ended", adapted) from None
        raise self._died(f"gave no sign of life for {patience:.0f} s", adapted)

    def _died(self, how: str, adapted: bool) -> ModelProcessDied:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.kill()
        status = process.wait()
        if not self._stopped.is_set():
            self._crashes.append((self._clock(), adapted))
            self._consecutive_crashes += 1
            self._listen(StageNotice("model process", f"It {how} (exit status {status}). Log: {self._log}"))
            if adapted and self.pinned:
                self._listen(
                    StageNotice("model process", f"{self.limits.crashes} crashes with an adapter: the base answers.")
                )
        return ModelProcessDied(f"The model process {how} (exit status {status}).", f"See its log, {self._log}.")


def _error_from_response(failed: ErrorResponse) -> MondrianError:
    """The error that the other process raised, with its class and attributes (such as a photograph's `reason`)."""
    kind = getattr(errors, failed.kind, None) or getattr(engine_module, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, MondrianError)):
        return Broken(failed.problem, failed.next_step)
    error = kind.__new__(kind)  # skips its constructor: `failed` has the finished texts
    MondrianError.__init__(error, failed.problem, failed.next_step)
    vars(error).update(failed.attributes)
    return error


def is_process_alive(pid: int) -> bool:
    """True while a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
