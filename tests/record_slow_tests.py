"""A pytest plugin that rewrites tests/slow_tests.txt: `make slow-tests`, on a machine that does nothing else.

`tests/conftest.py` marks the tests of that list as slow, so that `make quick` leaves them out. A test is on it when its
set-up, call and tear-down together took longer than `LIMIT_SECONDS`. Tests that didn't run keep their place.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

LIMIT_SECONDS = 0.15
FILE = Path(__file__).with_name("slow_tests.txt")


def read_slow_tests() -> set[str]:
    """Names of slow tests as `path::function`, without parameters."""
    return set(FILE.read_text(encoding="utf-8").split())


def function_of(nodeid: str) -> str:
    """The node ID without its parameters and without the xdist group that pytest-xdist appends."""
    return nodeid.partition("[")[0].partition("@")[0]


class SlowTestRecorder:
    """Adds up the seconds of each test function; the slowest parameter set counts."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called in the controlling process for the reports of every worker."""
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the list: tests that ran are judged by their time."""
        functions = {nodeid: function_of(nodeid) for nodeid in self._seconds if nodeid.count("::") == 1}  # no classes
        ran = set(functions.values())
        slow = {name for nodeid, name in functions.items() if self._seconds[nodeid] > LIMIT_SECONDS}
        FILE.write_text("".join(f"{name}\n" for name in sorted((read_slow_tests() - ran) | slow)), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Record in the controlling process only."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SlowTestRecorder())
