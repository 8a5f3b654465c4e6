"""`mondrian selftest` as a user runs it: its report, bad input, and no process that outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mondrian_core.cli import main
from tests.waiting import wait_until

# found nowhere else, so that whatever of them is in a report came from here
PLANTED = {
    "HOME": "/Users/zephyrine.quokka",
    "USER": "zephyrine",
    "LOGNAME": "zephyrine",
    "HOSTNAME": "quokkas-macbook",
    "MONDRIAN_WORKSPACE": "/Users/zephyrine.quokka/darkroom-of-zephyrine",
    "API_TOKEN": "xyzzy-plugh-secret",
}
WORDS = ("zephyrine", "quokka", "darkroom", "xyzzy", "plugh")


def environment(home: Path) -> dict[str, str]:
    """This one, with planted names; the home exists, because libraries write there."""
    planted = {name: value.replace("/Users", str(home)) for name, value in PLANTED.items()}
    Path(planted["HOME"]).mkdir(parents=True)
    return {**os.environ, **planted}


@contextmanager
def started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A self-test in another process, with planted names."""
    command = [sys.executable, "-m", "mondrian_core.cli", "selftest", *words]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.mini
@pytest.mark.slow
def test_a_whole_selftest_is_fine_and_its_report_names_nobody(tmp_path: Path) -> None:
    base = tmp_path / "zephyrine-base"
    base.symlink_to(Path(__file__).resolve().parents[2] / "mondrian_core" / "mini" / "weights")
    with started(tmp_path, "--minutes", "30", "--base-model", "mini") as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    (path,) = tmp_path.glob("mondrian-selftest-*.json")
    assert path.name in output
    assert "No GPU: compared with the published figures only." in output
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert [word for word in WORDS if word in text.casefold()] == []
    assert (document["schema"], document["schema_version"], document["verdict"]) == ("mondrian-selftest", 1, "ok")
    assert {step["step"] for step in document["steps"]} >= {
        "machine",
        "load",
        "logits",
        "resume",
        "constrained",
        "speed",
    }
    assert document["machine"]["memory_bytes"] > 0 and document["packages"]["mlx"]


@pytest.mark.mini
@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_command(tmp_path: Path, end: signal.Signals) -> None:
    """After Ctrl-C the parent ends its worker; a worker whose parent was killed ends by itself."""
    with started(tmp_path) as process:
        parent = psutil.Process(process.pid)
        wait_until(lambda: parent.children(recursive=True) != [], "a worker")
        workers = parent.children(recursive=True)
        process.send_signal(end)
        output, _ = process.communicate()
    assert process.returncode == (130 if end is signal.SIGINT else -end), output
    wait_until(lambda: not any(worker.is_running() for worker in workers), "the workers' end")
    assert list(tmp_path.glob("*.json")) == []


def test_a_base_that_is_asked_for_and_missing_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["selftest", "--base-model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "r.json")])
    assert status == 2
    assert "nowhere" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_minutes_have_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--minutes", "0"]) == 2
    assert "--minutes" in capsys.readouterr().err
