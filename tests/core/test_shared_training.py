"""What machines exchange through the shared folder: complete or invisible, and one attempt that counts."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mondrian_core.errors import BadInput, Broken
from mondrian_core.files import file_sha256, read_json, write_json
from mondrian_core.shared_training import (
    AttemptSign,
    SharedTraining,
    TrainingRequest,
    TrainingSuperseded,
    checkpoint_step,
    fetch_dataset,
    publish_dataset,
    read_shared_id,
    require_shared_folder,
)

REQUEST = TrainingRequest(advisor="ansel", run="20261128-a", dataset="d" * 64, base="b" * 64, recipe={"name": "small"})


@pytest.fixture
def training(tmp_path: Path) -> SharedTraining:
    found = SharedTraining(tmp_path / "shared", REQUEST.name)
    found.publish_request(REQUEST)
    return found


def write_checkpoint(run_folder: Path, step: int) -> None:
    header = json.dumps({"__metadata__": {"progress": json.dumps({"step": step})}}).encode()
    run_folder.mkdir(parents=True, exist_ok=True)
    (run_folder / "checkpoint.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def test_a_request_is_read_back(training: SharedTraining, tmp_path: Path) -> None:
    assert training.read_request() == REQUEST
    with pytest.raises(BadInput, match="MONDRIAN_SHARED"):
        SharedTraining(tmp_path, "another").read_request()


def test_only_one_of_many_machines_gets_an_attempt(training: SharedTraining) -> None:
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda number: training.begin_attempt(f"m{number}"), range(24)))
    assert sorted(attempt.number for attempt in attempts) == list(range(1, 25))


def test_a_holder_that_wakes_up_stops_and_changes_nothing(training: SharedTraining, tmp_path: Path) -> None:
    asleep = training.begin_attempt("first")
    asleep.renew()
    successor = training.begin_attempt("second")
    write_checkpoint(tmp_path / "late", 99)
    asleep.publish(tmp_path / "late")
    for step in (asleep.renew, lambda: asleep.finish(tmp_path / "late")):
        with pytest.raises(TrainingSuperseded, match="2"):
            step()
    assert not training.fetch_result(tmp_path / "result")

    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "adapter" / "adapters.safetensors").write_bytes(b"second")
    successor.finish(tmp_path / "run")
    assert training.fetch_result(tmp_path / "result")
    assert (tmp_path / "result" / "adapter" / "adapters.safetensors").read_bytes() == b"second"
    assert not (tmp_path / "result" / "checkpoint.safetensors").exists()


def test_the_next_attempt_begins_with_the_furthest_checkpoint(training: SharedTraining, tmp_path: Path) -> None:
    for machine, step in (("first", 30), ("second", 20)):
        write_checkpoint(tmp_path / machine, step)
        (tmp_path / machine / "training_log.jsonl").write_text(f"{step}\n")
        (tmp_path / machine / "context.json").write_text("its own")
        training.begin_attempt(machine).publish(tmp_path / machine)
    third = training.begin_attempt("third")
    run_folder = tmp_path / "third"
    assert training.restore_checkpoint(run_folder, third.number) == checkpoint_step(run_folder) == 30
    assert (run_folder / "training_log.jsonl").read_text() == "30\n"
    assert not (run_folder / "context.json").exists()
    write_checkpoint(run_folder, 40)
    assert training.restore_checkpoint(run_folder, third.number) == 40, "this machine is further"


def test_only_changed_files_are_copied_again(training: SharedTraining, tmp_path: Path) -> None:
    run_folder, attempt = tmp_path / "run", training.begin_attempt("first")
    write_checkpoint(run_folder, 1)
    attempt.publish(run_folder)
    copy = attempt.folder / "files" / "checkpoint.safetensors"
    before = copy.stat().st_ino
    attempt.publish(run_folder)
    assert copy.stat().st_ino == before
    write_checkpoint(run_folder, 22)
    attempt.publish(run_folder)
    assert checkpoint_step(attempt.folder) == 22


def test_signs_of_life_grow(training: SharedTraining) -> None:
    assert training.sign() == AttemptSign()
    attempt = training.begin_attempt("first")
    assert training.sign() == AttemptSign(1)
    seen = []
    for _ in range(2):
        attempt.renew()
        seen.append(training.sign())
    assert seen == [AttemptSign(1, "first", 1), AttemptSign(1, "first", 2)]


def make_dataset(folder: Path) -> Path:
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "rows").write_bytes(b"rows")
    files = {"train/rows": file_sha256(folder / "train" / "rows")}
    values = {"digest": folder.name, "advisor": "ansel", "photographs": {}, "rows": {}, "files": files}
    write_json(folder / "manifest.json", values)
    return folder


def test_a_dataset_travels_and_is_verified(tmp_path: Path) -> None:
    shared, digest = tmp_path / "shared", "a" * 64
    with pytest.raises(BadInput, match="not in"):
        fetch_dataset(shared, "ansel", digest, tmp_path / "there")
    published = publish_dataset(shared, make_dataset(tmp_path / "here" / digest), "ansel", digest)
    assert publish_dataset(shared, tmp_path / "here" / digest, "ansel", digest) == published
    assert sorted(path.name for path in published.parent.iterdir()) == [digest]
    fetched = fetch_dataset(shared, "ansel", digest, tmp_path / "there")
    assert read_json(fetched / "manifest.json")["digest"] == digest
    (fetched / "train" / "rows").write_bytes(b"rots")
    with pytest.raises(Broken, match="train/rows"):
        fetch_dataset(shared, "ansel", digest, tmp_path / "there")
    assert fetch_dataset(shared, "ansel", digest, tmp_path / "there") == fetched, "the next one copies it again"


def test_the_shared_folder_is_known_by_its_identity(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no mondrian-shared"):
        read_shared_id(tmp_path)
    identity = read_shared_id(tmp_path, create=True)
    assert read_shared_id(tmp_path) == read_shared_id(tmp_path, create=True) == identity


@pytest.mark.parametrize(
    ("given", "problem"), [(None, "none is set"), (Path("s3://bucket/x"), "folder only"), (Path("/no/such"), "exist")]
)
def test_what_is_not_a_shared_folder_is_refused(given: Path | None, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        require_shared_folder(given)
