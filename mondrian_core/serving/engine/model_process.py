"""The process that owns the model: `python -m ...engine.model_process DESCRIPTOR BASE ADAPTER_CACHE_BYTES`.

The main thread loads the model and generates, one question at a time. A second thread reads the socket, so that a
cancellation arrives during a generation and the process ends at once when the API ends.
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
from mondrian_core.serving.engine.interface import Canceled, Engine, GenerationFailed
from mondrian_core.serving.engine.ipc import (
    AnswerResponse,
    AskRequest,
    CancelRequest,
    CheckAdapterRequest,
    ErrorResponse,
    IpcResponse,
    LoadAdapterRequest,
    ReadyResponse,
    TokensResponse,
)

TOKEN_REPORT_SECONDS = 0.1  # minimum interval between progress messages; the first token is always reported


class ModelHost:
    """Answers the messages of the API with one engine."""

    def __init__(self, connection: Connection, make_engine: Callable[[], tuple[Engine, str]]) -> None:
        self.connection, self._make_engine = connection, make_engine
        self._inbox: queue.SimpleQueue[AskRequest | CheckAdapterRequest | LoadAdapterRequest] = queue.SimpleQueue()
        self._canceled: set[int] = set()

    def run(self) -> None:
        """Load the model, then answer until the API closes the socket (which ends the process)."""
        threading.Thread(target=self._listen, daemon=True).start()
        began = time.perf_counter()
        try:
            engine, fingerprint = self._make_engine()
        except MondrianError as error:
            self._send(_error_response(0, error))
            return
        self._send(ReadyResponse(fingerprint, time.perf_counter() - began))
        while True:
            message = self._inbox.get()
            self._send(TokensResponse(message.number, 0))  # begun: from here on its death is this question's
            self._send(self._answer(engine, message))

    def _answer(self, engine: Engine, message: AskRequest | CheckAdapterRequest | LoadAdapterRequest) -> IpcResponse:
        try:
            if isinstance(message, LoadAdapterRequest):
                return AnswerResponse(message.number, engine.load_adapter(message.folder))
            if isinstance(message, CheckAdapterRequest):
                return AnswerResponse(message.number, engine.check(message.folder))
            return AnswerResponse(message.number, engine.ask(message.question, self._on_token(message.number)))
        except MondrianError as error:
            return _error_response(message.number, error)
        except Exception as error:  # noqa: BLE001  one bad photograph must not end the process
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201  stderr is its log
            return ErrorResponse(
                number=message.number,
                kind=GenerationFailed.__name__,
                problem=f"The model failed: {type(error).__name__}: {error}.",
            )

    def _on_token(self, number: int) -> Callable[[int], None]:
        last_report = 0.0

        def report(count: int) -> None:
            nonlocal last_report
            if number in self._canceled:
                raise Canceled
            now = time.monotonic()
            if now - last_report >= TOKEN_REPORT_SECONDS:
                last_report = now
                self._send(TokensResponse(number, count))

        return report

    def _send(self, message: IpcResponse) -> None:
        try:
            self.connection.send(message)
        except OSError:
            os._exit(0)  # the API has ended

    def _listen(self) -> None:
        while True:
            try:
                message = self.connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # the API has ended or was killed: a generation must not outlive it
            if isinstance(message, CancelRequest):
                self._canceled.add(message.number)
            else:
                self._inbox.put(message)


def _error_response(number: int, error: MondrianError) -> ErrorResponse:
    known = next(kind for kind in type(error).__mro__ if kind.__module__ in (errors.__name__, engine_module.__name__))
    attributes = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | bool)}
    return ErrorResponse(
        number=number, kind=known.__name__, problem=error.problem, next_step=error.next_step, attributes=attributes
    )


def serve_model_process(descriptor: int, make_engine: Callable[[], tuple[Engine, str]]) -> None:
    """Serve the API at the other end of an inherited socket.

    Args:
        descriptor: of the socket.
        make_engine: loads the model; returns the engine and the fingerprint of the base.
    """
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the API handles Ctrl-C and stops this process
    ModelHost(Connection(descriptor), make_engine).run()


def main() -> None:
    """Run with the real model."""
    from mondrian_core.serving.engine.local_engine import LocalEngine

    def make_engine() -> tuple[Engine, str]:
        engine = LocalEngine(sys.argv[2], adapter_cache_bytes=int(sys.argv[3]))
        return engine, engine.fingerprint

    serve_model_process(int(sys.argv[1]), make_engine)


if __name__ == "__main__":
    main()
