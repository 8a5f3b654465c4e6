"""A training that dies on one machine goes on at another from its published checkpoint and ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.events import CheckpointSaved, StageEvent, StageNotice
from mondrian_core.runs import RunCatalogue
from mondrian_core.shared_storage import CheckpointPublisher, SharedStorage, restore_checkpoint
from mondrian_core.shared_storage.checkpoints import CHECKPOINT, KEPT, training_position
from tests.small_recipe import small_recipe_toml
from tests.waiting import wait_until


def saved_checkpoint(folder: Path, step: int, content: bytes = b"") -> None:
    """A file with the header of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"__metadata__": {"progress": json.dumps({"step": step})}}).encode()
    made = folder / "made"
    made.write_bytes(len(header).to_bytes(8, "little") + header + content)
    made.replace(folder / CHECKPOINT)
    (folder / "training_log.jsonl").write_text(f'{{"step": {step}}}\n')


@pytest.fixture
def storage(tmp_path: Path) -> SharedStorage:
    (tmp_path / "share").mkdir()
    return SharedStorage(str(tmp_path / "share"))


def objects(storage: SharedStorage) -> set[str]:
    return set(storage.store.listing("objects"))


def test_the_last_two_checkpoints_are_kept_and_no_bytes_of_others(storage: SharedStorage, tmp_path: Path) -> None:
    run = tmp_path / "a" / "runs" / "r"
    publisher = CheckpointPublisher(storage, run, lambda event: None)
    for step in (0, 3, 6, 9, 12):
        saved_checkpoint(run, step, b"x" * 1000)
        publisher.publish()
    assert len(storage.tokens("checkpoints/r")) == KEPT
    kept = [info for info in storage.store.listing("objects").values() if info.size > 1000]
    assert len(kept) == KEPT
    there = tmp_path / "b" / "runs" / "r"
    assert restore_checkpoint(storage, there) == (12, -1)
    assert (there / CHECKPOINT).read_bytes() == (run / CHECKPOINT).read_bytes()
    assert (there / "training_log.jsonl").read_text() == '{"step": 12}\n'
    assert [path.name for path in run.parent.iterdir()] == ["r"]


def test_a_checkpoint_that_is_ahead_here_is_kept(storage: SharedStorage, tmp_path: Path) -> None:
    run, there = tmp_path / "a" / "runs" / "r", tmp_path / "b" / "runs" / "r"
    saved_checkpoint(run, 5)
    CheckpointPublisher(storage, run, lambda event: None).publish()
    saved_checkpoint(there, 7)
    assert restore_checkpoint(storage, there) is None and training_position(there) == (7, -1)
    saved_checkpoint(run / "preference", 1)
    CheckpointPublisher(storage, run, lambda event: None).publish()
    assert restore_checkpoint(storage, there) == (5, 1), "a later phase is ahead of any step of an earlier one"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(storage: SharedStorage, tmp_path: Path) -> None:
    run = tmp_path / "a" / "runs" / "r"
    publisher = CheckpointPublisher(storage, run, lambda event: None)
    for step in (3, 6):
        before = objects(storage)
        saved_checkpoint(run, step)
        publisher.publish()
    for path in objects(storage) - before:
        storage.store.write(f"objects/{path}", b"damaged")
    assert restore_checkpoint(storage, tmp_path / "b" / "runs" / "r") == (3, -1)


def test_a_training_waits_for_no_upload_and_survives_a_lost_share(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = tmp_path / "a" / "runs" / "r", []
    uploads: list[int] = []
    real = storage.store.upload

    def slow(path: str, source: Path) -> None:
        uploads.append(1)
        if len(uploads) == 1:
            wait_until(lambda: training_position(run)[0] == 9, "the later checkpoints")
        real(path, source)

    monkeypatch.setattr(storage.store, "upload", slow)

    def listen(event: StageEvent) -> None:
        assert isinstance(event, StageNotice)
        told.append(event.message)

    with CheckpointPublisher(storage, run, listen) as publisher:
        for step in (3, 6, 9):
            saved_checkpoint(run, step)
            publisher(CheckpointSaved("train", step))
            wait_until(lambda: uploads, "the first upload")
    assert restore_checkpoint(storage, tmp_path / "b" / "runs" / "r") == (9, -1) and told == []
    shutil.rmtree(tmp_path / "share")
    with CheckpointPublisher(storage, run, listen) as publisher:
        for step in (12, 15):
            saved_checkpoint(run, step)
            publisher(CheckpointSaved("train", step))
    assert len(told) == 1 and "could not be published" in told[0]


def trained(workspace: Path) -> bytes:
    (file,) = workspace.glob("runs/*/adapter/adapters.safetensors")
    return file.read_bytes()


@pytest.mark.mini
@pytest.mark.soak  # tests/training/test_published_checkpoints.py is the short form
@pytest.mark.timeout(900)
def test_a_killed_training_ends_on_another_machine_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other machine has neither photographs nor database; it has another workspace folder and registry."""
    share, first, second = tmp_path / "share", tmp_path / "a" / "workspace", tmp_path / "far" / "b"
    share.mkdir()
    second.mkdir(parents=True)
    create_workspace(first, sample=True, photographs=12)
    recipe = tmp_path / "small.toml"
    recipe.write_text(small_recipe_toml(train={"epochs": 2}))

    def words(workspace: Path, *more: str) -> list[str]:
        given = {"advisor": "ansel", "workspace": workspace, "adapters": tmp_path / "adapters", "base-model": "mini"}
        return ["retrain", *(word for key, value in given.items() for word in (f"--{key}", str(value))), *more]

    command = [sys.executable, "-m", "mondrian_core.cli", *words(first, "--recipe", str(recipe), "--json")]
    child = subprocess.Popen(
        command,
        env={**os.environ, "MONDRIAN_SHARED": str(share)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def published() -> bool:
        assert child.poll() is None
        return len(list(share.glob("checkpoints/*/*.json"))) > 0 and position(share) >= 1

    wait_until(published, "the checkpoint of the first epoch", pause_seconds=0.05)
    child.kill()
    child.wait()
    run = next((first / "runs").glob("*-ansel"))
    assert not (run / "train.json").exists(), "it was killed in its training"
    shutil.move(first, tmp_path / "gone")

    monkeypatch.setenv("MONDRIAN_SHARED", str(share))
    assert main(words(second, "--resume", run.name, "--json")) in (0, 1)
    output = json.loads(capsys.readouterr().out)
    log = [json.loads(line) for line in (second / "runs" / run.name / "training_log.jsonl").read_text().splitlines()]
    steps = [line for line in log if line["kind"] == "step"]
    before = (tmp_path / "gone" / "runs" / run.name / "training_log.jsonl").read_text()
    assert json.dumps(steps[0]) in before and [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert RunCatalogue(second).run(run.name).decision == output["decision"]
    assert not list(share.glob("checkpoints/*/*.json")), "a finished training needs none"

    monkeypatch.delenv("MONDRIAN_SHARED")
    shutil.move(tmp_path / "gone", first)
    again = tmp_path / "c" / "workspace"
    shutil.copytree(first, again, ignore=shutil.ignore_patterns("runs"))
    context: dict[str, Any] = {"dataset": str(next((first / "datasets" / "ansel").iterdir()))}
    train = ["train", *words(again, "--recipe", str(recipe), "--dataset", context["dataset"], "--json")[1:]]
    assert main(train) == 0
    assert trained(again) == (second / "runs" / run.name / "adapter" / "adapters.safetensors").read_bytes()

    monkeypatch.setenv("MONDRIAN_SHARED", str(share))
    capsys.readouterr()
    assert main(["runs", "list", "--workspace", str(again), "--json"]) == 0
    listed = {each["name"]: each["decision"] for each in json.loads(capsys.readouterr().out)}
    assert listed[run.name] == output["decision"], "a third machine shows the run of the first two"
    machine_paths = (str(tmp_path / "a"), str(second))
    for file in share.rglob("*"):
        assert not file.is_file() or not [path for path in machine_paths if path.encode() in file.read_bytes()], file


def position(share: Path) -> int:
    """Steps of the newest published checkpoint."""
    storage = SharedStorage(str(share))
    names = sorted(storage.tokens("checkpoints"))
    found = storage.read(names[-1]) if names else None
    return max(found.facts["steps"]) if found else -1
