"""Waiting for a condition: the only place where tests sleep, with a limit that a loaded machine never reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
LIMIT_SECONDS = 600.0  # only a broken program waits that long; a passing test ends at once
sleep = time.sleep  # tests/thread_delays.py replaces it
LATE_SHARE = 0.05  # how much longer a wait may take, so that a long one asks a loaded server seldom


def wait_until(condition: Callable[[], Found | None], what: str = "the condition", pause_seconds: float = 0.1) -> Found:
    """Call `condition` until it returns something true, and return that.

    Wait for the last effect that the following lines read: another thread may be between two of them, and
    `pytest -p tests.thread_delays` makes it stay there.

    Raises:
        AssertionError: nothing true came within `LIMIT_SECONDS`.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < LIMIT_SECONDS, f"waited {LIMIT_SECONDS:.0f} s for {what}"
        sleep(max(pause_seconds, LATE_SHARE * waited))
    return found
