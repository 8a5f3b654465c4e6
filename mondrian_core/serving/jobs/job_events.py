"""What happens to jobs while people wait: events by job, written by the worker's thread, read by requests."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINAL_STATUSES = frozenset({"completed", "failed", "canceled"})
MAX_JOBS = 256
POLL_SECONDS = 5.0  # how often somebody who hears nothing looks at the row


@dataclass(frozen=True)
class JobEvent:
    """One thing that happened; `number` counts within the job, from 1."""

    number: int
    kind: str
    data: Mapping[str, Any]


FinalEventLookup = Callable[[], Awaitable[JobEvent | None]]


@dataclass
class _EventLog:
    events: list[JobEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].kind in FINAL_STATUSES


class JobEventBroker:
    """Events of the latest jobs, in memory: the rows of the jobs table are what lasts."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, _EventLog] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take part in the event loop that requests run on."""
        self._loop = loop

    def publish(self, job_id: str, kind: str, **data: Any) -> None:
        """Add an event; from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._add, job_id, kind, data)
            except RuntimeError:
                pass  # the loop was closed in between: nobody waits any more

    def has_events(self, job_id: str) -> bool:
        """True when the job has events here."""
        return job_id in self._threads

    async def wait_until_finished(self, job_id: str, seconds: float) -> bool:
        """Wait until the job has ended, at most so long; True when it has."""
        try:
            async with asyncio.timeout(seconds):
                async for _ in self.events(job_id):
                    pass
        except TimeoutError:
            return False
        return True

    async def events(
        self, job_id: str, after: int = 0, look: FinalEventLookup | None = None
    ) -> AsyncIterator[JobEvent]:
        """The job's events with a number above `after`, as they come, to its last one, which always comes.

        `look` gives the last event of a job that has ended without a word here, else None.
        """
        thread = self._thread(job_id)
        at = min(after, len(thread.events) - 1 if thread.ended else len(thread.events))
        while True:
            while at < len(thread.events):
                at += 1
                yield thread.events[at - 1]
            if thread.ended:
                return
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await thread.changed.wait()
            except TimeoutError:
                last = await look() if look is not None and not thread.ended else None
                if last is not None:
                    yield last
                    return

    def _thread(self, job_id: str) -> _EventLog:
        if job_id not in self._threads:
            self._threads[job_id] = _EventLog()
            self._forget()
        return self._threads[job_id]

    def _add(self, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        thread = self._thread(job_id)
        if thread.ended:
            return
        thread.events.append(JobEvent(len(thread.events) + 1, kind, data))
        waiting, thread.changed = thread.changed, asyncio.Event()
        waiting.set()

    def _forget(self) -> None:
        ended = [job_id for job_id, thread in self._threads.items() if thread.ended]
        for job_id in ended[: max(0, len(self._threads) - MAX_JOBS)]:
            del self._threads[job_id]
