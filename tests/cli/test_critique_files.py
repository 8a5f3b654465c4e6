"""`mondrian import FILE` and `mondrian export`: exit status, tables, JSON, standard output, problems."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.cli.import_critiques import import_critiques_command
from mondrian_core.cli.options import CommandOptions
from mondrian_core.errors import BadInput
from mondrian_core.store import Store
from tests.data.stand_in import workspace_of


@dataclass(frozen=True, kw_only=True)
class Choices(CommandOptions):
    """What `mondrian import` gives."""

    advisor: str | None = "ansel"
    dry_run: bool = False
    replace: bool = False
    skip_bad: bool = False
    format: str | None = None


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    workspace_of(tmp_path / "workspace", 3).close()
    return tmp_path / "workspace"


def test_what_export_writes_import_knows(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "labeling.xml"
    words = ["export", "--workspace", str(workspace), "--advisor", "ansel"]
    assert main([*words, "--labeling-config", str(config)]) == 0
    assert "Exported 3 critiques to critiques.csv" in capsys.readouterr().out
    assert config.read_text().startswith("<View>")
    assert main(words) == 2 and "--out critiques.csv" in capsys.readouterr().err  # it may have been edited
    assert import_critiques_command([tmp_path / "critiques.csv"], Choices(workspace=workspace)) == 0
    told = capsys.readouterr().out
    assert "3  same" in told and "Nothing to save" in told
    assert main([*words, "--format", "jsonl", "--out", "-"]) == 0
    output = capsys.readouterr()
    assert len([json.loads(line) for line in output.out.splitlines()]) == 3 and "Exported 3" in output.err


def test_bad_rows_are_shown_and_decide_the_exit_status(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "[bold]two.jsonl"  # a name that a terminal must not take for markup
    main(["export", "--workspace", str(workspace), "--format", "jsonl", "--out", str(file)])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["overall_grade"] = "1.0"
    lines[1]["photograph"], lines[1]["sha256"] = "photo_l.jpg", ""
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    capsys.readouterr()
    assert import_critiques_command([file], Choices(workspace=workspace, dry_run=True)) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "line 2" in told and "the nearest" in told and "Dry run: nothing was written" in told
    assert import_critiques_command([file], Choices(workspace=workspace)) == 2
    assert "Nothing was saved, because 1 of 3 rows" in " ".join(capsys.readouterr().out.split())
    assert import_critiques_command([file], Choices(workspace=workspace, skip_bad=True, json=True)) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["saved"] and result["counts"]["changed"] == 1
    with Store(workspace / "mondrian.db", read_only=True) as store:
        assert sorted(each.overall_grade or "" for each in store.profiles()) == ["1.0", "5.0", "5.0"]


@pytest.mark.parametrize(
    "words", [["--format", "xls"], ["--format", "analysis"], ["--advisor", "henri"], ["--out", "."]]
)
def test_an_export_that_cannot_be_made_says_so(
    workspace: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["export", "--workspace", str(workspace), *words]) == 2
    problem = capsys.readouterr().err
    assert problem.count("\n") == 1 and "Traceback" not in problem


def test_a_file_that_is_missing_is_named(workspace: Path) -> None:
    for path in (workspace / "none.csv", workspace / "source"):
        with pytest.raises(BadInput, match=path.name):
            import_critiques_command([path], Choices(workspace=workspace))
