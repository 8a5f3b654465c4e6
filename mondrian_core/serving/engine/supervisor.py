"""The API's side of the model process: start, ask with deadlines, replace when it dies."""

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
from mondrian_core.serving.engine import interface as engine_module
from mondrian_core.serving.engine.interface import Reply
from mondrian_core.serving.engine.ipc import (
    AnswerResponse,
    AskRequest,
    CancelRequest,
    CheckAdapterRequest,
    ErrorResponse,
    IpcRequest,
    IpcResponse,
    ReadyResponse,
    TokensResponse,
)

CrashRecord = tuple[float, bool]  # when (monotonic seconds), and whether an adapter was answering


@dataclass(frozen=True, kw_only=True)
class ModelProcessLimits:
    """How long each phase may take (seconds), and when the process is replaced or pinned to the base."""

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


def model_command(base: str) -> tuple[str, ...]:
    """The command line of the real model process; the descriptor comes before the base's name."""
    return (sys.executable, "-m", "mondrian_core.serving.engine.model_process", "{descriptor}", base)


class ModelProcess:
    """An `Engine` whose model lives in a process of its own. Ask from one thread at a time; the rest from any."""

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
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._sending, self._asking = threading.Lock(), threading.RLock()
        self._numbers = itertools.count(1)
        self._current: int | None = None
        self._last_word = clock()
        self._crashes: deque[CrashRecord] = deque(maxlen=32)
        self._in_a_row = 0
        self._stopped = threading.Event()

    # --- what others may know -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def seconds_since_last_message(self) -> float | None:
        """Seconds since the last token (or other word) while a question is in flight; None when idle."""
        return None if self._current is None else self._clock() - self._last_word

    @property
    def crashes(self) -> int:
        """Crashes within the window."""
        horizon = self._clock() - self.limits.crash_window
        return sum(1 for when, _ in self._crashes if when >= horizon)

    @property
    def pinned(self) -> bool:
        """True after too many crashes with an adapter in a short time: the base answers until that is past."""
        horizon = self._clock() - self.limits.crash_window
        return sum(1 for when, adapted in self._crashes if adapted and when >= horizon) >= self.limits.crashes

    def forgive(self, deaths: int) -> None:
        """Blame no adapter for its last `deaths` crashes: the base crashed over the same photograph."""
        for place in range(len(self._crashes) - 1, -1, -1):
            when, adapted = self._crashes[place]
            if adapted and deaths > 0:
                self._crashes[place] = (when, False)
                deaths -= 1

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process and wait until the base is loaded.

        Raises:
            BaseModelUnavailable: the base can't be loaded.
            ModelProcessDied: it went away while loading.
        """
        with self._asking:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [part.format(descriptor=theirs.fileno()) for part in self._command]
        with theirs, self._log.open("ab") as log:
            # A process group of its own: Ctrl-C in the terminal reaches the API alone, which then leaves in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()], process_group=0
            )
        self._connection = Connection(ours.detach())
        self.starts += 1
        self.jobs = 0
        word = self._hear(self.limits.load, adapted=False)
        if isinstance(word, ErrorResponse):
            self._end()
            self._hang_up()
            raise _error_from_response(word)
        assert isinstance(word, ReadyResponse), word
        self.fingerprint = word.fingerprint

    def stop(self) -> None:
        """End the process for good; a question in flight raises `ModelProcessDied`."""
        self._stopped.set()
        self._end()
        with self._asking:
            self._end()  # one that was being started meanwhile
            self._hang_up()

    def _end(self) -> None:
        process = self._process
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _hang_up(self) -> None:
        """Close our end; only by who holds `_asking`, because a closed descriptor's number is soon another file's."""
        if self._connection is not None:
            with self._sending:
                self._connection.close()
                self._connection = None

    def recycle(self) -> bool:
        """Replace a process that has answered many questions; to be called when nothing waits. True when it did."""
        if self.pid is None or self.jobs < self.limits.recycle_after:
            return False
        with self._asking:
            self._end()
            self._ensure()
        return True

    # --- questions ----------------------------------------------------------------------------------------------------

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate one answer; see `Engine.ask`."""
        value = self._exchange(
            lambda number: AskRequest(number, question),
            self.limits.first_token,
            self.limits.answer,
            adapted=question.adapter is not None,
            on_token=on_token,
        )
        assert isinstance(value, Reply)
        self.jobs += 1
        self._in_a_row = 0
        return value

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () is sound."""
        value = self._exchange(
            lambda number: CheckAdapterRequest(number, folder), self.limits.check, self.limits.check, adapted=True
        )
        assert isinstance(value, tuple)
        return value

    def cancel(self) -> None:
        """Stop the generation in flight, if there is one."""
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
    ) -> Reply | tuple[str, ...]:
        with self._asking:
            self._ensure()
            number = next(self._numbers)
            self._current, self._last_word = number, self._clock()
            try:
                self._send(message(number))
                word = self._await(number, first, whole, adapted, on_token)
            finally:
                self._current = None
        if isinstance(word, ErrorResponse):
            raise _error_from_response(word)
        return word.value

    def _await(
        self, number: int, first: float, whole: float, adapted: bool, on_token: OnToken | None
    ) -> AnswerResponse | ErrorResponse:
        ends = self._clock() + whole
        patience = first
        while True:
            word = self._hear(max(0.0, min(patience, ends - self._clock())), adapted=adapted)
            self._last_word = self._clock()
            if isinstance(word, TokensResponse):
                # none yet: it lives, and waits for its turn on the accelerator
                patience = self.limits.between_tokens if word.count else first
                if word.count and on_token is not None and word.number == number:
                    on_token(word.count)
            elif isinstance(word, AnswerResponse | ErrorResponse) and word.number == number:
                return word

    def _ensure(self) -> None:
        """Have a process that is ready; after crashes in a row wait a little longer each time."""
        if self.pid is not None:
            return
        self._hang_up()
        if self._in_a_row:
            pause = min(self.limits.backoff * 2 ** (self._in_a_row - 1), self.limits.longest_backoff)
            self._stopped.wait(pause)
        if self._stopped.is_set():
            raise ModelProcessDied("The service is stopping.", "Send the photograph again when it is back.")
        self._start()

    def _send(self, message: IpcRequest) -> None:
        try:
            with self._sending:
                if self._connection is not None:
                    self._connection.send(message)
        except OSError:
            pass  # it died; hearing finds that out and tells it

    def _hear(self, patience: float, *, adapted: bool) -> IpcResponse:
        connection = self._connection
        assert connection is not None
        try:
            if connection.poll(patience):
                word: IpcResponse = connection.recv()
                return word
        except (EOFError, OSError):
            raise self._died("went away", adapted) from None
        raise self._died(f"gave no sign of life for {patience:.0f} s", adapted)

    def _died(self, how: str, adapted: bool) -> ModelProcessDied:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.kill()
        status = process.wait()
        if not self._stopped.is_set():
            self._crashes.append((self._clock(), adapted))
            self._in_a_row += 1
            self._listen(StageNotice("model process", f"It {how} (exit status {status}); its log: {self._log}"))
            if adapted and self.pinned:
                self._listen(
                    StageNotice("model process", f"{self.limits.crashes} crashes with an adapter: the base answers.")
                )
        return ModelProcessDied(f"The model process {how} (exit status {status}).", f"Its log is {self._log}.")


def _error_from_response(failed: ErrorResponse) -> MondrianError:
    """The error that the other process raised, as its own class with its own attributes (a photograph's reason)."""
    kind = getattr(errors, failed.kind, None) or getattr(engine_module, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, MondrianError)):
        return Broken(failed.problem, failed.next_step)
    error = kind.__new__(kind)  # what its own constructor would make of arguments is in `failed` already
    MondrianError.__init__(error, failed.problem, failed.next_step)
    vars(error).update(failed.attributes)
    return error


def is_process_alive(pid: int) -> bool:
    """True while a process of that id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
