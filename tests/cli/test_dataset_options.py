"""`mondrian dataset --preview` and `--export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mondrian_core.cli import main


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "w"
    assert main(["init", "--sample", "--photographs", "6", "--workspace", str(folder), "--json"]) == 0
    return folder


@pytest.mark.mini
def test_preview_as_json(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    options = ["--workspace", str(workspace), "--base-model", "mini", "--json"]
    assert main(["dataset", "--advisor", "ansel", "--preview", "2", *options]) == 0
    shown = json.loads(capsys.readouterr().out)["preview"]
    assert shown["tokens"]["total"] == sum(piece["tokens"] for piece in shown["pieces"])


@pytest.mark.mini
def test_dataset_and_dry_run_leave_no_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--advisor", "ansel", "--workspace", str(workspace), "--base-model", "mini", "--json"]
    assert main(["dataset", *options]) == 0
    assert main(["train", "--dry-run", *options]) == 0
    capsys.readouterr()
    assert main(["runs", "list", "--workspace", str(workspace), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_export_never_overwrites_existing_folder(workspace: Path, tmp_path: Path) -> None:
    command = [
        "dataset",
        "--advisor",
        "ansel",
        "--workspace",
        str(workspace),
        "--export",
        "chat",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    assert (tmp_path / "out" / "train.jsonl").is_file()
    assert main(command) == 2


def test_preview_of_missing_row_is_rejected(workspace: Path) -> None:
    assert main(["dataset", "--advisor", "ansel", "--workspace", str(workspace), "--preview", "999"]) == 2
