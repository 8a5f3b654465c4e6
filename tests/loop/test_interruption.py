"""Ctrl-C in the middle: the documented exit status, one paragraph, nothing half-written, and it goes on afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.registry import Registry

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(400)]


def test_ctrl_c_in_training_keeps_what_is_complete(samples: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    run = samples / "runs" / "interrupted"
    command = ["train", "--advisor", "ansel", "--workspace", str(samples), "--adapters", str(tmp_path / "adapters"),
               "--base-model", "mini", "--out", str(run), "--epochs", "3"]  # fmt: skip
    child = subprocess.Popen([sys.executable, "-m", "mondrian_core.cli", *command], stderr=subprocess.PIPE, text=True)
    log = run / "training_log.jsonl"
    until = time.monotonic() + 180
    while time.monotonic() < until and (not log.exists() or log.read_text().count('"step"') < 3):
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)

    assert child.returncode == 130
    assert "Interrupted" in told and "Traceback" not in told
    assert not (run / "adapter").exists() and not (run / "train.json").exists()
    assert not [path for path in run.rglob("*") if path.name.startswith(".")], "a temporary file was left"
    assert Registry(tmp_path / "adapters").versions("ansel") == []

    assert main([*command, "--resume"]) == 0
    assert (run / "adapter" / "adapters.safetensors").exists()
