"""Tests wait for conditions with `tests.waiting`, because a fixed pause is too short on a loaded machine."""

from __future__ import annotations

import ast

import pytest

from tests.git_files import ROOT, tracked_files

FOLDERS = ("architecture", "bench", "cli", "core", "docs", "flows", "loop")
CLOCKS = ("sleep", "monotonic", "perf_counter")
# A pause that is not a wait: work made slow on purpose, a child that idles, a machine that sleeps.
PAUSES_ON_PURPOSE = {
    "tests/core/test_image_formats.py": 1,
    "tests/flows/held/sitecustomize.py": 1,
    "tests/flows/stub_stage.py": 1,
    "tests/flows/test_lifecycle.py": 1,
    "tests/flows/test_outages.py": 1,
}


def clock_calls(source: str) -> list[int]:
    """Lines that call a clock or a pause of the module `time`."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) in CLOCKS
    ]


@pytest.mark.parametrize("statement", ["time.sleep(1)", "sleep(0.1)", "until = time.monotonic() + 20"])
def test_clock_calls_are_found(statement: str) -> None:
    assert clock_calls(f"import time\n{statement}\n") == [2]


def test_no_test_waits_by_a_fixed_pause_or_deadline() -> None:
    files = [file for file in tracked_files() if file.parts[0] == "tests" and file.parts[1] in FOLDERS]
    found = {
        str(file): len(lines)
        for file in files
        if file.suffix == ".py" and (lines := clock_calls((ROOT / file).read_text(encoding="utf-8")))
    }
    assert found == PAUSES_ON_PURPOSE, "use tests.waiting.wait_until"
