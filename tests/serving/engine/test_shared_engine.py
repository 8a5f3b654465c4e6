"""Tasks that share an engine: their questions meet in batches, on the thread of the model, and errors stay in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.serving.engine.interface import AdapterCacheUse, Reply
from mondrian_core.serving.engine.shared_engine import SharedEngine, WaitingQuestion

IMAGE = Image.new("RGB", (8, 8))


class RecordingEngine:
    """Answers a question with its number; records which questions were answered together, and by which threads."""

    fingerprint = "recording"

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows
        self.batches: list[list[int]] = []
        self.adapters: list[set[Path | None]] = []
        self.threads: set[int] = set()

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        self.threads.add(threading.get_ident())
        if question.seed == 13:
            raise ValueError("unlucky")
        return Reply(text=str(question.seed), finish_reason="stop", tokens=1)

    def check(self, folder: Path) -> tuple[str, ...]:
        self.threads.add(threading.get_ident())
        return (folder.name,)

    def load_adapter(self, folder: Path) -> AdapterCacheUse:
        return AdapterCacheUse(1, 1, 1)

    def rows_at_once(self, question: Question, waiting: int) -> int:
        return min(self.rows, waiting)

    def ask_each(
        self, next_question: Callable[[], WaitingQuestion | None], rows: int
    ) -> Iterator[tuple[WaitingQuestion, Reply | Exception]]:
        self.batches.append([])
        self.adapters.append(set())
        held: list[WaitingQuestion] = []
        while True:
            while len(held) < rows and (arrived := next_question()) is not None:
                held.append(arrived)
                self.batches[-1].append(arrived.question.seed)
                self.adapters[-1].add(arrived.question.adapter)
            if not held:
                return
            waiting = held.pop(0)
            try:
                yield waiting, self.ask(waiting.question)
            except ValueError as error:
                yield waiting, error


def _question(number: int, adapter: str | None = None) -> Question:
    return Question(messages=[], image=IMAGE, seed=number, adapter=Path(adapter) if adapter else None)


def _asking(shared: SharedEngine, number: int, adapter: str | None = None) -> Callable[[], str]:
    return lambda: shared.ask(_question(number, adapter)).text


def test_questions_meet_and_freed_rows_take_more() -> None:
    engine = RecordingEngine()
    shared = SharedEngine(engine)
    found = dict(shared.run_all([_asking(shared, number) for number in range(10)], 4))
    assert found == {number: str(number) for number in range(10)}
    assert sorted(engine.batches[0])[:4] == [0, 1, 2, 3], "the first batch waits until all four threads have asked"
    assert engine.threads == {threading.get_ident()}, "the model answers on its own thread"


def test_each_batch_has_one_adapter() -> None:
    engine = RecordingEngine()
    shared = SharedEngine(engine)
    tasks = [_asking(shared, number, "ab"[number % 2]) for number in range(8)]
    assert dict(shared.run_all(tasks, 4)) == {number: str(number) for number in range(8)}
    assert all(len(adapters) == 1 for adapters in engine.adapters)


def test_tasks_may_ask_again_and_check_adapters() -> None:
    engine = RecordingEngine()
    shared = SharedEngine(engine)

    def task(number: int) -> Callable[[], Any]:
        def run() -> Any:
            first = shared.check(Path(f"v{number}"))
            return first, shared.ask(_question(number)).text, shared.ask(_question(100 + number)).text

        return run

    found = dict(shared.run_all([task(number) for number in range(5)], 3))
    assert found == {number: ((f"v{number}",), str(number), str(100 + number)) for number in range(5)}
    assert engine.threads == {threading.get_ident()}


def test_a_question_that_fails_fails_in_its_task() -> None:
    shared = SharedEngine(RecordingEngine())

    def careful(number: int) -> Callable[[], str]:
        def run() -> str:
            try:
                return shared.ask(_question(number)).text
            except ValueError as error:
                return str(error)

        return run

    found = dict(shared.run_all([careful(number) for number in (12, 13, 14)], 3))
    assert found == {0: "12", 1: "unlucky", 2: "14"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_reaches_every_task(error: type[BaseException]) -> None:
    """Whoever interrupts the thread of the model, or a task that breaks, ends the others, and no thread stays."""
    before, ended = threading.active_count(), list[str]()

    class Interrupted(RecordingEngine):
        def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
            if question.seed == 2:
                raise error("stop")
            return super().ask(question, on_token)

    shared = SharedEngine(Interrupted())

    def task(number: int) -> Callable[[], str]:
        def run() -> str:
            try:
                return shared.ask(_question(number)).text
            except BaseException as raised:
                ended.append(type(raised).__name__)
                raise

        return run

    with pytest.raises(error):
        list(shared.run_all([task(number) for number in range(9)], 4))
    assert ended
    assert set(ended) == {error.__name__}
    assert threading.active_count() == before


def test_closing_early_ends_the_threads() -> None:
    before = threading.active_count()
    shared = SharedEngine(RecordingEngine())
    results = shared.run_all([_asking(shared, number) for number in range(9)], 4)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_an_engine_that_takes_one_question_at_a_time_gets_no_threads() -> None:
    class Single:
        def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
            return Reply(text="1", finish_reason="stop", tokens=1)

    single = SharedEngine(Single())
    single.ask(_question(1))
    assert single.rows_at_once(5) == 1
    several = SharedEngine(RecordingEngine())
    assert several.rows_at_once(5) == 1, "nothing was asked yet"
    several.ask(_question(1))
    assert several.rows_at_once(5) == 4


def test_a_thread_that_runs_no_task_asks_the_engine_itself() -> None:
    """Such as that of a watched folder: it doesn't wait for a batch that nobody starts."""
    shared, found = SharedEngine(RecordingEngine()), list[str]()
    thread = threading.Thread(target=lambda: found.append(shared.ask(_question(7)).text), daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert found == ["7"]
