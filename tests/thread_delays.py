"""A pytest plugin that delays background threads at random: `pytest -p tests.thread_delays tests/serving`.

A test that waits for one effect of a thread and asserts another passes on a quick machine and fails now and then on a
loaded one. With these delays between the calls of every thread but the main one, it fails in most runs.
"""

from __future__ import annotations

import random
import threading
import time
from types import FrameType
from typing import Any

from tests import waiting

SHARE = 0.03  # of the calls
LONGEST_SECONDS = 0.03
SLOWED_PACKAGES = ("mondrian_core", "tests")


def _delay(frame: FrameType, event: str, argument: Any) -> None:
    """A profile function: sleeps after some calls of the project's own functions."""
    if (
        event == "return"
        and frame.f_globals.get("__name__", "").startswith(SLOWED_PACKAGES)
        and random.random() < SHARE
    ):
        time.sleep(random.random() * LONGEST_SECONDS)


def pytest_configure() -> None:
    """Delay every thread that starts from now on, and let the main thread look as soon as a condition holds."""
    waiting.sleep = lambda seconds: time.sleep(0.001)
    threading.setprofile(_delay)
