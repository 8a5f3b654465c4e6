"""`mlx.launch ... mondrian train`: the command as docs/several-macs.md gives it, with two processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mondrian_core.cli import main
from tests.training.starting import free_ports

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(300)]
PROGRAMS = Path(sys.executable).parent


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "mlx.launch"), "-n", "2", "-p", str(free_ports(1)[0]), str(PROGRAMS / "mondrian"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.soak  # tests/training/test_several_processes.py is the quick form
def test_distributed_training_creates_one_run(
    legacy_workspace_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [
        "--advisor",
        "ansel",
        "--workspace",
        str(legacy_workspace_copy),
        "--base-model",
        "mini",
        "--adapters",
        str(tmp_path / "adapters"),
    ]
    assert main(["dataset", *where, "--json"]) == 0
    dataset = json.loads(capsys.readouterr().out)["path"]
    words = ["train", *where, "--epochs", "1"]
    assert "name it with --dataset" in launched(*words).stderr
    done = launched(*words, "--dataset", dataset, "--out", str(legacy_workspace_copy / "runs" / "together"))
    assert done.stdout.count("loss curve:") == 1, done.stdout + done.stderr
    trained = json.loads((legacy_workspace_copy / "runs" / "together" / "train.json").read_text())
    assert (legacy_workspace_copy / trained["adapter"] / "adapters.safetensors").exists() and trained["best_epoch"] == 1


def test_mlx_launch_is_rejected_for_other_commands(legacy_workspace_copy: Path) -> None:
    done = launched("link", "--advisor", "ansel", "--workspace", str(legacy_workspace_copy))
    assert "Only `mondrian train` can run as several processes" in done.stdout + done.stderr
    assert not (legacy_workspace_copy / "runs").exists() or not list(
        (legacy_workspace_copy / "runs").glob("*-ansel/link.json")
    )
