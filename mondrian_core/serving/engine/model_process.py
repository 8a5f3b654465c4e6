"""The process that owns the model: `python -m mondrian_core.serving.engine.model_process DESCRIPTOR BASE`.

Its main thread loads and generates, one question at a time; a second thread reads what the API says, so that a
cancellation arrives during a generation and the process ends at once when the API is gone.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from mondrian_core import errors
from mondrian_core.errors import MondrianError
from mondrian_core.serving.engine import interface as engine_module
from mondrian_core.serving.engine.interface import Canceled, Engine
from mondrian_core.serving.engine.ipc import (
    AnswerResponse,
    AskRequest,
    CancelRequest,
    CheckAdapterRequest,
    ErrorResponse,
    IpcResponse,
    ReadyResponse,
    TokensResponse,
)

TOKEN_REPORT_SECONDS = 0.1  # tokens are told at most this often; the first one always


class ModelHost:
    """Answers the API's messages with one engine."""

    def __init__(self, connection: Connection, make_engine: Callable[[], tuple[Engine, str]]) -> None:
        self.connection, self._make_engine = connection, make_engine
        self._inbox: queue.SimpleQueue[AskRequest | CheckAdapterRequest] = queue.SimpleQueue()
        self._canceled: set[int] = set()

    def run(self) -> None:
        """Load, then answer until the API hangs up (which ends the process)."""
        threading.Thread(target=self._listen, daemon=True).start()
        began = time.perf_counter()
        try:
            engine, fingerprint = self._make_engine()
        except MondrianError as error:
            self._say(_error_response(0, error))
            return
        self._say(ReadyResponse(fingerprint, time.perf_counter() - began))
        while True:
            self._say(self._answer(engine, self._inbox.get()))

    def _answer(self, engine: Engine, message: AskRequest | CheckAdapterRequest) -> IpcResponse:
        try:
            if isinstance(message, CheckAdapterRequest):
                return AnswerResponse(message.number, engine.check(message.folder))
            return AnswerResponse(message.number, engine.ask(message.question, self._on_token(message.number)))
        except MondrianError as error:
            return _error_response(message.number, error)
        except Exception as error:  # noqa: BLE001  one bad photograph must not end the process
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201  stderr is its log
            return ErrorResponse(
                number=message.number,
                kind="GenerationFailed",
                problem=f"The model failed: {type(error).__name__}: {error}.",
            )

    def _on_token(self, number: int) -> Callable[[int], None]:
        told = 0.0

        def heard(count: int) -> None:
            nonlocal told
            if number in self._canceled:
                raise Canceled
            now = time.monotonic()
            if now - told >= TOKEN_REPORT_SECONDS:
                told = now
                self._say(TokensResponse(number, count))

        return heard

    def _say(self, word: IpcResponse) -> None:
        try:
            self.connection.send(word)
        except OSError:
            os._exit(0)  # nobody listens any more

    def _listen(self) -> None:
        while True:
            try:
                message = self.connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # the API is gone, perhaps killed: a generation must not outlive it
            if isinstance(message, CancelRequest):
                self._canceled.add(message.number)
            else:
                self._inbox.put(message)


def _error_response(number: int, error: MondrianError) -> ErrorResponse:
    known = next(kind for kind in type(error).__mro__ if kind.__module__ in (errors.__name__, engine_module.__name__))
    more = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | bool)}
    return ErrorResponse(
        number=number, kind=known.__name__, problem=error.problem, next_step=error.next_step, attributes=more
    )


def serve_model_process(descriptor: int, make_engine: Callable[[], tuple[Engine, str]]) -> None:
    """Serve the API at the other end of an inherited socket."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the API's to handle; it stops this process itself
    ModelHost(Connection(descriptor), make_engine).run()


def main() -> None:
    """Run with the real model."""
    from mondrian_core.serving.engine.local_engine import LocalEngine

    def make_engine() -> tuple[Engine, str]:
        engine = LocalEngine(sys.argv[2])
        return engine, engine.fingerprint

    serve_model_process(int(sys.argv[1]), make_engine)


if __name__ == "__main__":
    main()
