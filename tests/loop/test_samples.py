"""The loop on a real workspace: ten critiques by a person, and everything that a real workspace also holds."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from deployments import demo_screen
from mondrian_core.cli import main
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

QUICK = """
[data]
variants = 1
[train]
epochs = 1
[evaluate]
rag = false
compliance_photographs = 8
edited_photographs = 2
constrained_photographs = 1
latency_pairs = 4
latency_tokens = 16
max_tokens = 700
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    return path


def test_retrain_on_legacy_workspace_reports_verdict(
    legacy_workspace_copy: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = tmp_path / "adapters"
    database = (legacy_workspace_copy / "mondrian.db").read_bytes()
    status = main(
        [
            "retrain",
            "--advisor",
            "ansel",
            "--workspace",
            str(legacy_workspace_copy),
            "--adapters",
            str(adapters),
            "--recipe",
            str(recipe),
            "--base-model",
            "mini",
            "--json",
        ]
    )
    outcome = json.loads(capsys.readouterr().out)

    run = legacy_workspace_copy / "runs" / outcome["run"]
    linked = json.loads((run / "link.json").read_text())
    assert linked["used"] == 10
    assert linked["left_out"] == {
        "job_not_completed": 1,
        "temporary_file": 1,
        "missing_photograph": 1,
        "empty_photograph": 1,
        "not_a_photograph": 1,
        "unparsable_answer": 5,
        "missing_dimensions": 3,
        "no_scores": 2,
        "duplicate_of": 1,
    }
    verdict = outcome["evaluation"]["verdict"]
    gates = {gate["name"]: gate for gate in outcome["evaluation"]["gates"]}
    # two or three held-out photographs can never show a better score at p <= 0.05
    assert gates["score_error"]["verdict"] in ("FAIL", "INCONCLUSIVE")
    assert verdict in ("FAIL", "INCONCLUSIVE") and status == 1
    assert gates["integrity"]["verdict"] == "PASS"
    assert outcome["decision"] == ("rejected" if verdict == "FAIL" else "candidate")

    registry = Registry(adapters)
    version = registry.get("ansel", outcome["version"])
    assert registry.champion("ansel") is None
    assert registry.verify("ansel", version.version) == ()
    assert (version.path / "comparison_report.json").exists() and (version.path / "report.html").exists()
    assert (legacy_workspace_copy / "mondrian.db").read_bytes() == database, "retraining only reads the user's database"

    # the last screen of `make demo`, from the files of the run alone
    registry.promote("ansel", version.version, expected=None, actor="person:test", reason="a test", forced=True)
    printed = StringIO()
    screen = Console(file=printed, width=120)
    demo_screen.print_demo_critiques(
        screen, Settings(workspace=legacy_workspace_copy, adapters=adapters, base_model="mini"), "ansel", run
    )
    assert "ansel's own" in printed.getvalue() and "Overall grade" in printed.getvalue()
