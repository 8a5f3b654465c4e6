"""`mondrian install-service`, `uninstall-service`, and what `up` and `down` do about installed units."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.down import down_command
from deployments.up import start_installed_units
from mondrian import main
from mondrian_core.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these commands write launchd agents here")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, a home, and a systemctl that writes down how it was called."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "bin").mkdir()
    log = tmp_path / "calls"
    log.touch()
    for name in ("systemctl", "loginctl"):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> "{log}"\necho active\n[ ! -e "{tmp_path}/broken" ]\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MONDRIAN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    return log


def result(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    assert main([*words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_a_dry_run_writes_nothing_and_hides_secrets(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = result(capsys, "install-service", "--dry-run")["files"]
    assert len(files) == 5 and "hf_0123456789" not in json.dumps(files)
    assert main(["install-service", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "[Service]" in printed and "export HF_TOKEN=..." in printed
    assert not (tmp_path / "config").exists() and calls.read_text() == ""


def test_installed_parts_are_started_and_stopped_by_up_and_down(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    assert start_installed_units(settings, print) == ()
    result(capsys, "install-service", "--no-service", "--port", "4321")
    launcher = next((tmp_path / "config" / "mondrian").rglob("launch")).read_text()
    assert "server) set -- server --port 4321 ;;" in launcher and "service)" not in launcher
    calls.write_text("")
    assert start_installed_units(settings, print) == ("server", "worker")
    assert "systemctl --user start mondrian-" in calls.read_text()
    assert down_command() == 0
    stop = next(line for line in calls.read_text().splitlines() if "--user stop" in line)
    assert stop.index("-worker.service") < stop.index("-server.service")  # a worker reports its end to the server


def test_up_and_down_go_on_when_the_supervisor_does_not_answer(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result(capsys, "install-service", "--no-service")
    (tmp_path / "broken").touch()
    said: list[str] = []
    assert start_installed_units(Settings(), said.append) == ()
    assert "could not be started" in said[0]
    assert down_command() == 0 and "could not be stopped" in capsys.readouterr().out


def test_uninstalling_says_what_was_removed_also_after_the_workspace_is_gone(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result(capsys, "install-service")
    written = {path for path in (tmp_path / "config").rglob("*") if path.is_file()}
    shutil.rmtree(tmp_path / "workspace")
    assert set(map(Path, result(capsys, "uninstall-service")["removed"])) == written
    assert not [path for path in (tmp_path / "config").rglob("*") if path.is_file()]
    assert main(["uninstall-service"]) == 1
    assert "--workspace" in capsys.readouterr().err


def test_a_missing_workspace_is_waited_for_and_sigterm_ends_the_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mondrian", "foreground", "service", "--workspace", str(tmp_path / "unplugged")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "is missing; waiting" in process.stdout.readline()
        process.terminate()
    assert process.returncode == 0


def test_no_workspace_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-service", "--workspace", str(tmp_path / "nowhere")]) == 2
    assert "mondrian init" in capsys.readouterr().err
