"""Several jobs at once on one engine: each job's thread asks as if it were alone, and the questions meet in one batch.

The model belongs to the thread that loaded it (MLX streams do), so that thread answers: it waits until every running
task has asked something or is done, lets the engine answer the questions about one adapter together, and takes further
questions into the batch as rows become free. Everything else that tasks need of the engine runs there too.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.serving.engine.interface import AdapterCacheUse, Engine, Reply

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, eq=False, kw_only=True)
class WaitingQuestion:
    """A question whose task waits for the reply."""

    question: Question
    on_token: OnToken | None = None
    reply: Future[Reply] = field(default_factory=Future)


class BatchEngine(Engine, Protocol):
    """An engine that can answer several questions together."""

    def rows_at_once(self, question: Question, waiting: int) -> int:
        """How many questions like this one are best answered at once, 1 to `waiting`; 1: one by one is as fast."""

    def ask_each(
        self, next_question: Callable[[], WaitingQuestion | None], rows: int
    ) -> Iterator[tuple[WaitingQuestion, Reply | Exception]]:
        """Answer questions about one adapter, `rows` at once, as they are ready.

        Args:
            next_question: called whenever a row is free; None: there is none now.
            rows: answers at once.
        """


@dataclass(frozen=True, eq=False)
class _Call:
    """Something else that a task needs of the engine."""

    run: Callable[[], Any]
    result: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _Finished(Generic[ResultT]):
    """A task is done: its number and result, or the error that it raised. A thread ends with number None."""

    number: int | None
    result: ResultT | None = None
    error: BaseException | None = None


class SharedEngine:
    """An engine for the tasks of `run_all`; asked by any other thread, it is the engine itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._workers: frozenset[threading.Thread] = frozenset()
        self._arrived: queue.SimpleQueue[WaitingQuestion | _Call | _Finished[Any]] = queue.SimpleQueue()
        self._waiting: deque[WaitingQuestion] = deque()
        self._finished: deque[_Finished[Any]] = deque()
        self._busy = 0  # tasks' threads that neither wait for the engine nor ended
        self._stopped: BaseException | None = None
        self.last_question: Question | None = None

    @property
    def fingerprint(self) -> str | None:
        """The base's fingerprint; None where the engine knows none."""
        return getattr(self.engine, "fingerprint", None)

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """See Engine."""
        if threading.current_thread() not in self._workers:
            self.last_question = question
            return self.engine.ask(question, on_token)
        waiting = WaitingQuestion(question=question, on_token=on_token)
        return self._wait_for(waiting, waiting.reply)

    def check(self, folder: Path) -> tuple[str, ...]:
        """See Engine."""
        return cast(tuple[str, ...], self._call(lambda: self.engine.check(folder)))

    def load_adapter(self, folder: Path) -> AdapterCacheUse:
        """See Engine."""
        return cast(AdapterCacheUse, self._call(lambda: self.engine.load_adapter(folder)))

    def rows_at_once(self, waiting: int) -> int:
        """How many tasks are best run at once, by the last question; 1 if the engine takes one at a time."""
        if self.last_question is None or not hasattr(self.engine, "ask_each"):
            return 1
        return cast(BatchEngine, self.engine).rows_at_once(self.last_question, waiting)

    def run_all(self, tasks: Sequence[Callable[[], ResultT]], threads: int) -> Generator[tuple[int, ResultT]]:
        """Run tasks in this many threads; each task's number and result as it is ready.

        An error of a task ends all: waiting tasks get it too, as they get an interruption of this thread.
        """
        todo = deque(enumerate(tasks))
        workers = [threading.Thread(target=self._work, args=(todo,), daemon=True) for _ in range(threads)]
        self._workers = frozenset(workers)
        self._busy = running = len(workers)
        for worker in workers:
            worker.start()
        try:
            while running or self._finished:
                self._receive(wait=not self._waiting or self._busy > 0)
                while self._finished:
                    done = self._finished.popleft()
                    running -= done.number is None
                    if done.error is not None:
                        raise done.error
                    if done.number is not None:
                        yield done.number, cast(ResultT, done.result)
                if self._waiting and not self._busy:
                    self._answer(threads)
        except BaseException as error:
            self._stop(error, todo)
            raise
        finally:
            for worker in workers:
                worker.join()

    def _work(self, todo: deque[tuple[int, Callable[[], Any]]]) -> None:
        error: BaseException | None = None
        while error is None and self._stopped is None:
            try:
                number, task = todo.popleft()
            except IndexError:
                break
            try:
                self._arrived.put(_Finished(number, task()))
            except BaseException as raised:  # noqa: BLE001  it is raised again by the thread that waits for the task
                error = raised
        self._arrived.put(_Finished(None, error=error))

    def _call(self, run: Callable[[], Any]) -> Any:
        if threading.current_thread() not in self._workers:
            return run()
        call = _Call(run)
        return self._wait_for(call, call.result)

    def _wait_for(self, item: WaitingQuestion | _Call, result: Future[Any]) -> Any:
        if self._stopped is not None:
            raise self._stopped
        self._arrived.put(item)
        while True:
            try:
                return result.result(timeout=1.0)
            except TimeoutError:
                if result.done():
                    raise  # the engine's own
                if self._stopped is not None:
                    raise self._stopped from None

    def _receive(self, *, wait: bool) -> None:
        """Take what has arrived; with `wait`, at least one item. Calls are run at once."""
        while True:
            try:
                item = self._arrived.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if isinstance(item, _Call):
                _settle(item.result, item.run)
                continue
            if isinstance(item, WaitingQuestion):
                self._waiting.append(item)
                self._busy -= 1
            else:
                self._finished.append(item)
                self._busy -= item.number is None

    def _answer(self, rows: int) -> None:
        """Answer the questions about the adapter of the first one that waits, and those that arrive meanwhile."""
        adapter = self._waiting[0].question.adapter

        def next_question() -> WaitingQuestion | None:
            self._receive(wait=False)
            found = next((each for each in self._waiting if each.question.adapter == adapter), None)
            if found is not None:
                self._waiting.remove(found)
            return found

        for waiting, reply in cast(BatchEngine, self.engine).ask_each(next_question, rows):
            self._busy += 1
            if isinstance(reply, Exception):
                waiting.reply.set_exception(reply)
            else:
                waiting.reply.set_result(reply)

    def _stop(self, error: BaseException, todo: deque[Any]) -> None:
        """Let every task end with this error; one that asks at this moment notices it within a second."""
        todo.clear()
        self._stopped = error
        with suppress(queue.Empty):
            while True:
                item = self._arrived.get_nowait()
                if isinstance(item, WaitingQuestion):
                    self._waiting.append(item)
        for waiting in self._waiting:
            waiting.reply.set_exception(error)


def _settle(result: Future[Any], run: Callable[[], Any]) -> None:
    try:
        result.set_result(run())
    except Exception as error:  # noqa: BLE001  it is raised again in the task that asked
        result.set_exception(error)
