"""Bad input to the loop: the documented exit status, one paragraph with the next step, and nothing left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import Store

ADVISOR = AdvisorPrompt("ansel", "Ansel Adams", "American landscape photographer.")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with an advisor and no critique."""
    root = tmp_path / "workspace"
    assert main(["init", "--workspace", str(root)]) == 0
    with Store(root / "mondrian.db") as store:
        store.add_advisor(ADVISOR)
    return root


def refused(words: list[str], root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main([*words, "--workspace", str(root), "--adapters", str(root / "adapters")])
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in message
    assert not (root / "adapters").exists()
    return status, message


def test_no_usable_critique_is_reported(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, message = refused(["retrain", "--advisor", "ansel", "--base-model", "mini"], workspace, capsys)
    assert status == 1
    assert "No usable critique of 'ansel'" in message and "mondrian import FOLDER --advisor ansel" in message


def test_empty_database_file_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mondrian.db").touch()
    status, message = refused(["retrain", "--advisor", "ansel", "--base-model", "mini"], tmp_path, capsys)
    assert status == 2 and "mondrian init" in message
    assert (tmp_path / "mondrian.db").stat().st_size == 0


def test_corrupt_database_file_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mondrian.db").write_bytes(b"SQLite format 4\0" + bytes(range(256)) * 8)
    status, message = refused(["link", "--advisor", "ansel"], tmp_path, capsys)
    assert status == 2 and "mondrian.db" in message


@pytest.mark.parametrize("base", ["./no-such-folder", "an-empty-folder", "nobody/no-such-model"])
def test_unloadable_base_model_fails_before_any_work(
    base: str, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "an-empty-folder").mkdir()
    status, message = refused(["retrain", "--advisor", "ansel", "--base-model", base], workspace, capsys)
    assert status == 2
    assert base.removeprefix("./") in message
    assert not list((workspace / "runs").iterdir())


def test_unknown_advisor_creates_no_run_folder(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, message = refused(["retrain", "--advisor", "weston", "--base-model", "mini"], workspace, capsys)
    assert status == 2 and "known: ansel" in message
    assert not list((workspace / "runs").iterdir())


def test_port_in_use_is_reported(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, message = refused(["serve", "--port", str(port), "--base-model", "mini"], workspace, capsys)
    assert status == 3 and f"Port {port} is taken by process {os.getpid()}" in message and "--port" in message
