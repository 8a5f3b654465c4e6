"""Ctrl-C in the middle: the documented exit status, one paragraph, nothing half-written, and it goes on afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.models.base_model import base_record
from mondrian_core.registry import Registry
from tests.small_recipe import small_recipe_toml
from tests.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.soak
def test_ctrl_c_in_training_keeps_what_is_complete(
    legacy_workspace_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = legacy_workspace_copy / "runs" / "interrupted"
    command = [
        "train",
        "--advisor",
        "ansel",
        "--workspace",
        str(legacy_workspace_copy),
        "--adapters",
        str(tmp_path / "adapters"),
        "--base-model",
        "mini",
        "--out",
        str(run),
        "--epochs",
        "3",
    ]
    child = subprocess.Popen([sys.executable, "-m", "mondrian_core.cli", *command], stderr=subprocess.PIPE, text=True)
    log = run / "training_log.jsonl"

    def three_steps() -> bool:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        return log.exists() and log.read_text().count('"step"') >= 3

    wait_until(three_steps, "three steps")
    child.send_signal(signal.SIGINT)
    _, printed = child.communicate(timeout=LIMIT_SECONDS)

    assert child.returncode == 130
    assert "Interrupted" in printed and "Traceback" not in printed
    assert not (run / "adapter").exists() and not (run / "train.json").exists()
    assert not [path for path in run.rglob("*") if path.name.startswith(".")], "a temporary file was left"
    assert Registry(tmp_path / "adapters").versions("ansel") == []

    assert main([*command, "--resume"]) == 0
    assert (run / "adapter" / "adapters.safetensors").exists()


@pytest.fixture
def read_splits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of dataset splits that this process reads, in order."""
    import datasets

    read: list[str] = []
    load = datasets.load_from_disk

    def counted(folder: str) -> object:
        read.append(folder)
        return load(folder)

    monkeypatch.setattr(datasets, "load_from_disk", counted)
    return read


def test_killed_retraining_resumes_and_registers_one_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], read_splits: list[str]
) -> None:
    """SIGKILL during training: the resumed run continues from the checkpoint, and reads each dataset split once."""
    workspace = tmp_path / "workspace"
    create_workspace(workspace, sample=True, photographs=12)
    (tmp_path / "small.toml").write_text(small_recipe_toml(train={"epochs": 3}))
    where = [
        "--advisor",
        "ansel",
        "--workspace",
        str(workspace),
        "--adapters",
        str(tmp_path / "adapters"),
        "--base-model",
        "mini",
        "--json",
    ]
    command = [sys.executable, "-m", "mondrian_core.cli", "retrain", *where, "--recipe", str(tmp_path / "small.toml")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def steps() -> list[dict[str, object]]:
        found = [
            json.loads(line)
            for log in workspace.glob("runs/*/training_log.jsonl")
            for line in log.read_text().splitlines()[:-1]
        ]
        return [line for line in found if line["kind"] == "step"]

    def second_epoch() -> bool:
        assert child.poll() is None
        return any(line["epoch"] == 2 for line in steps())

    wait_until(second_epoch, "the second epoch", pause_seconds=0.05)
    child.kill()
    child.wait()
    run = next((workspace / "runs").glob("*-ansel"))
    killed = steps()
    assert not (run / "train.json").exists(), "it was killed in its training"

    assert main(["retrain", *where, "--resume", run.name]) in (0, 1)
    output = json.loads(capsys.readouterr().out)
    assert output["run"] == run.name
    assert sorted(Path(folder).name for folder in read_splits) == ["train", "validation"]
    log = [json.loads(line) for line in (run / "training_log.jsonl").read_text().splitlines()]
    numbers = [line["step"] for line in log if line["kind"] == "step"]
    assert numbers == list(range(1, 3 * (len(numbers) // 3) + 1)) and len(numbers) > len(killed)
    assert steps()[0] == killed[0], "the first step is that of the killed process, with its time"
    seconds = [line["seconds"] for line in log if line["kind"] == "step"]
    assert seconds == sorted(seconds)
    assert main(["retrain", *where, "--resume", run.name]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["version"] == output["version"]
    versions = Registry(tmp_path / "adapters").versions("ansel")
    assert versions[0].manifest["base"] == base_record("mini"), "of the training, not of the registration"
    assert [each.manifest["run"] for each in versions] == [run.name]
    assert main(["retrain", *where, "--resume", "never-begun"]) == 2

    registry, version = Registry(tmp_path / "adapters"), output["version"]
    assert versions[0].manifest["gate_report"]["compared_with"] == {"version": None, "manifest_sha256": ""}
    registry.promote("ansel", version, expected=None, actor="person:test", reason="to be compared with", forced=True)
    again = ["evaluate", *where, "--adapter", version, "--recipe", str(tmp_path / "small.toml")]
    assert main(again) in (0, 1)
    last = registry.history("ansel")[-1]
    assert (last.event, last.version) == ("evaluate", version)
    assert last.detail["report"]["compared_with"] == registry.reference("ansel").as_dict()
