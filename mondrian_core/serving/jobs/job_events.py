"""Progress events by job, published by the worker thread and streamed to waiting requests."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINAL_STATUSES = frozenset({"completed", "failed", "canceled"})
MAX_JOBS = 256
POLL_SECONDS = 5.0  # without events, the row is read this often


@dataclass(frozen=True)
class JobEvent:
    """One event of a job; `number` counts within the job, from 1."""

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
    """Events of the latest jobs, in memory; only the rows of the jobs table persist."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, _EventLog] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the event loop of the requests."""
        self._loop = loop

    def publish(self, job_id: str, kind: str, **data: Any) -> None:
        """Add an event; from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._add, job_id, kind, data)
            except RuntimeError:
                pass  # the loop was closed meanwhile: no request waits

    def has_events(self, job_id: str) -> bool:
        """True when the job has events here."""
        return job_id in self._logs

    async def wait_until_finished(self, job_id: str, seconds: float) -> bool:
        """Wait until the job has ended, at most `seconds`; True when it has."""
        try:
            async with asyncio.timeout(seconds):
                async for _ in self.events(job_id):
                    pass
        except TimeoutError:
            return False
        return True

    async def events(
        self, job_id: str, after: int = 0, final_event: FinalEventLookup | None = None
    ) -> AsyncIterator[JobEvent]:
        """The job's events after number `after`, as they happen, up to its final one, which is always sent.

        Args:
            job_id: of the job.
            after: number of the last event that the client has.
            final_event: returns the final event of a job that ended without an event here, else None.
        """
        log = self._log_of(job_id)
        sent = min(after, len(log.events) - 1 if log.ended else len(log.events))
        while True:
            while sent < len(log.events):
                sent += 1
                yield log.events[sent - 1]
            if log.ended:
                return
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await log.changed.wait()
            except TimeoutError:
                last = await final_event() if final_event is not None and not log.ended else None
                if last is not None:
                    yield last
                    return

    def _log_of(self, job_id: str) -> _EventLog:
        if job_id not in self._logs:
            self._logs[job_id] = _EventLog()
            self._evict_oldest()
        return self._logs[job_id]

    def _add(self, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        log = self._log_of(job_id)
        if log.ended:
            return
        log.events.append(JobEvent(len(log.events) + 1, kind, data))
        waiting, log.changed = log.changed, asyncio.Event()
        waiting.set()

    def _evict_oldest(self) -> None:
        ended = [job_id for job_id, log in self._logs.items() if log.ended]
        for job_id in ended[: max(0, len(self._logs) - MAX_JOBS)]:
            del self._logs[job_id]
