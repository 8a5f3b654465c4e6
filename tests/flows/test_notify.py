"""The desktop notification: its texts are arguments, whatever they contain."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.notify import MAX_MESSAGE, MAX_TITLE, notification_command, show_on_desktop

HOSTILE = '--help" & (do shell script "touch x") & "\n\'; $(touch x) `touch x` <b>\x00\x1b[2J'


def test_apple_script_gets_the_texts_as_arguments() -> None:
    command = notification_command(HOSTILE, HOSTILE, "Darwin")
    assert command is not None
    *script, application, title, message = command
    assert application == "Mondrian", "the first argument is never read as an option"
    assert not any("touch" in word for word in script)
    assert "touch x" in title and "touch x" in message
    assert "\x00" not in title + message


def test_linux_gets_them_after_the_options_and_without_markup() -> None:
    command = notification_command(HOSTILE, HOSTILE, "Linux")
    assert command is not None
    assert command[command.index("--") + 1].startswith("--help")
    assert "<b>" not in command[-1] and "&lt;b&gt;" in command[-1]


def test_an_unknown_system_has_no_command() -> None:
    assert notification_command("a", "b", "Plan 9") is None


def test_long_texts_are_cut() -> None:
    command = notification_command("a" * 1000, "b" * 10_000, "Darwin")
    assert command is not None
    assert [len(word) for word in command[-2:]] == [MAX_TITLE, MAX_MESSAGE]


@pytest.mark.skipif(sys.platform != "linux", reason="stands in for notify-send")
@pytest.mark.parametrize("status", [0, 1])
def test_the_command_runs_without_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    seen = tmp_path / "seen.json"
    stand_in = tmp_path / "notify-send"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(seen)!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
        f"raise SystemExit({status})\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert show_on_desktop(HOSTILE, 'It\n"drifts"') is (status == 0)
    command = notification_command(HOSTILE, 'It\n"drifts"', "Linux")
    assert command is not None
    assert json.loads(seen.read_text()) == command[1:]
    assert not (tmp_path / "x").exists()


def test_no_desktop_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert show_on_desktop("a", "b") is False


def test_a_desktop_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*words: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("notify-send", 15)

    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert show_on_desktop("a", "b") is False
