"""`mondrian runs`: the lists and comparisons of the pages, as text and as JSON."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest

from mondrian_core.cli import main
from tests.core.test_runs import RECIPE, write_run


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two runs that differ in a setting; the first has a report."""
    first = write_run(tmp_path, "20260901-000000-a")
    (first / "report.html").write_text("<p>report")
    context = {"advisor": "ansel", "recipe": {**RECIPE, "name": "other"}, "adapter": None}
    write_run(tmp_path, "20260902-000000-b", context=context)
    return tmp_path


def run(workspace: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["runs", *words, "--workspace", str(workspace)])
    return status, capsys.readouterr().out


def test_runs_are_listed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(workspace, capsys, "list")
    assert status == 0 and text.index("20260902-000000-b") < text.index("20260901-000000-a") and "PASS" in text
    assert run(workspace, capsys, "list", "--advisor", "dorothea")[0] == 1
    values = json.loads(run(workspace, capsys, "list", "--json")[1])
    assert [each["recipe"] for each in values] == ["other", "demo"]


def test_run_is_shown_and_its_report_opened(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    status, text = run(workspace, capsys, "show", "20260901-000000-a", "--open")
    report = workspace / "runs" / "20260901-000000-a" / "report.html"
    assert (status, opened) == (0, [report.as_uri()]) and "score error: 1.5, base 2.8" in text
    assert run(workspace, capsys, "show", "20260902-000000-b", "--open")[0] == 1
    assert run(workspace, capsys, "show", "../../etc")[0] == 2


def test_runs_are_compared(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(workspace, capsys, "compare", "20260901-000000-a", "20260902-000000-b", "--json")
    assert status == 0 and json.loads(text)["settings"] == [{"what": "name", "values": ["demo", "other"]}]
    assert "demo" in run(workspace, capsys, "compare", "20260901-000000-a", "20260902-000000-b")[1]
    assert run(workspace, capsys, "compare", "20260901-000000-a")[0] == 2
