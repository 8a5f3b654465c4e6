"""The queue for decoding uploads. Requests wait in the event loop, so they hold no thread that others need."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from mondrian_core.serving.jobs.worker import QueueFull

MAX_UPLOADS_IN_MEMORY = 8  # uploads whose bytes are held in memory until they are decoded
MAX_WAITING_UPLOADS = 64  # requests that wait for one of these places

Decoded = TypeVar("Decoded")


class DecodeQueue:
    """The decode queue of one service."""

    def __init__(self, most_waiting: int = MAX_WAITING_UPLOADS) -> None:
        self.most_waiting = most_waiting
        self._places, self._turn = CapacityLimiter(MAX_UPLOADS_IN_MEMORY), CapacityLimiter(1)
        self._seconds = 0.2  # moving average of the seconds per decode, for Retry-After

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place for one upload, from reading its bytes until it is decoded.

        Raises:
            QueueFull: too many requests wait; with the seconds after which to retry.
        """
        waiting = self._places.statistics().tasks_waiting
        if waiting >= self.most_waiting:
            raise QueueFull(waiting, max(1, round(self._seconds * waiting)))
        await self._places.acquire_on_behalf_of(token := object())
        try:
            yield
        finally:
            self._places.release_on_behalf_of(token)

    async def run(self, act: Callable[[], Decoded]) -> Decoded:
        """Run `act` in a thread, one call at a time."""

        def timed() -> Decoded:
            began = time.monotonic()
            try:
                return act()
            finally:
                self._seconds += 0.2 * (time.monotonic() - began - self._seconds)

        return await to_thread.run_sync(timed, limiter=self._turn)
