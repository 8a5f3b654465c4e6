"""A pytest plugin that prints which base passed which test of the matrix, as a Markdown table.

python -m pytest -p tests.realsize.matrix_table tests/realsize
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from tests.realsize.matrix_shapes import MATRIX_SHAPES, WHOLE_SHAPE

_PREFIX = "test_"
_WORDS = {"passed": "yes", "failed": "NO", "skipped": "skipped"}


def cell_of(nodeid: str) -> tuple[str, str] | None:
    """(base, capability) of a test of the matrix; None for any other test."""
    _, _, test = nodeid.partition("@")[0].rpartition("::")
    function, bracket, base = test.rstrip("]").partition("[")
    known = {shape.name for shape in (*MATRIX_SHAPES, WHOLE_SHAPE)}
    return (base, function.removeprefix(_PREFIX).replace("_", " ")) if bracket and base in known else None


def matrix_table(outcomes: Iterable[tuple[str, str]]) -> str:
    """A table of (node ID, outcome) pairs: a row per base, a column per capability, in the order of their tests."""
    cells = {cell: _WORDS[outcome] for nodeid, outcome in outcomes if (cell := cell_of(nodeid)) is not None}
    capabilities = list(dict.fromkeys(capability for _, capability in cells))
    names = [shape.name for shape in (*MATRIX_SHAPES, WHOLE_SHAPE)]
    bases = [name for name in names if any(base == name for base, _ in cells)]
    head = ["base", *capabilities]
    rows = [[base, *(cells.get((base, capability), "") for capability in capabilities)] for base in bases]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def figures_table(figures: Sequence[str]) -> str:
    """A table of what tests recorded as "what|seconds|processor seconds|peak GB"."""
    head = ["on the whole base", "seconds", "processor seconds", "peak GB"]
    rows = [figure.split("|") for figure in figures]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


class MatrixTable:
    """Collects the outcomes of tests and prints the table at the end."""

    def __init__(self) -> None:
        self._outcomes: dict[str, str] = {}
        self._figures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A failed set-up or tear-down counts as a failure of the test."""
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[report.nodeid] = report.outcome
            self._figures += [str(value) for name, value in report.user_properties if name == "figure"]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the tables."""
        terminalreporter.write_line(f"\n{matrix_table(self._outcomes.items())}")
        if self._figures:
            terminalreporter.write_line(f"\n{figures_table(self._figures)}")


def pytest_configure(config: pytest.Config) -> None:
    """Collect in the controlling process only; the workers of pytest-xdist send it their reports."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(MatrixTable())
