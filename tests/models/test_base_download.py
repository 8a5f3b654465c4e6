"""Downloading a base model: interruptions are repaired, only what is missing is downloaded, each refusal says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest
from huggingface_hub import constants

from mondrian_core.base_checks import base_model_checks
from mondrian_core.errors import BaseModelUnavailable
from mondrian_core.events import StageEvent, StageNotice, StageProgressed, StageStarted
from mondrian_core.models.base_download import fetch_base, plan_download
from mondrian_core.models.base_model import local_base_path, resolve_base_path
from mondrian_core.serving.http.json_log import json_log_listener
from tests.hub_server import (
    INDEX,
    REPOSITORY,
    SHARDS,
    HubServer,
    mondrian_command,
    snapshot_folder,
)


def _complaint(action: Callable[[str], Any] = fetch_base) -> str:
    with pytest.raises(BaseModelUnavailable) as caught:
        action(REPOSITORY)
    return str(caught.value)


def _assert_complete(hub: HubServer, home: Path) -> None:
    folder = snapshot_folder(home)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files


def test_a_complete_base_is_found_without_the_hub(hub: HubServer, tmp_path: Path) -> None:
    assert plan_download(REPOSITORY).missing_bytes == sum(map(len, hub.files.values()))
    assert not hub.gets
    assert fetch_base(REPOSITORY) == snapshot_folder(tmp_path)
    _assert_complete(hub, tmp_path)
    hub.forget()
    assert fetch_base(REPOSITORY) == resolve_base_path(REPOSITORY) == snapshot_folder(tmp_path)
    assert hub.requests == 0


def test_progress_counts_the_bytes(hub: HubServer) -> None:
    hub.files["merges.txt"] = bytes(3 << 20)
    events: list[StageEvent] = []
    fetch_base(REPOSITORY, events.append)
    total = sum(map(len, hub.files.values())) >> 20
    assert next(each for each in events if isinstance(each, StageStarted)).total == total
    assert [(each.done, each.total) for each in events if isinstance(each, StageProgressed)][-1] == (total, total)


def test_a_service_logs_the_download(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files["merges.txt"] = bytes(3 << 20)
    fetch_base(REPOSITORY, json_log_listener())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0]["about"] == "download" and REPOSITORY in lines[0]["message"]
    assert "3 of 3 MiB" in lines[-2]["message"] and lines[-1]["message"] == "download ended"


def test_a_cut_connection_is_continued(hub: HubServer, tmp_path: Path) -> None:
    hub.cuts = {SHARDS[0]: [1000]}
    fetch_base(REPOSITORY)
    _assert_complete(hub, tmp_path)
    assert hub.gets[SHARDS[0]] == 2


def test_a_killed_download_is_completed(hub: HubServer, tmp_path: Path) -> None:
    hub.stalls = {SHARDS[1]}
    with _download_process(hub, tmp_path) as first:
        assert hub.reached.wait(60)
        first.kill()
    hub.stalls = set()
    hub.go.set()
    blobs = snapshot_folder(tmp_path).parent.parent / "blobs"
    assert list(blobs.glob("*.incomplete"))
    whole = {path.name for path in snapshot_folder(tmp_path).iterdir()}
    hub.forget()
    assert SHARDS[1] in _complaint(resolve_base_path)
    assert hub.requests == 0
    fetch_base(REPOSITORY)
    _assert_complete(hub, tmp_path)
    assert set(hub.gets) == set(hub.files) - whole
    assert not list(blobs.glob("*.incomplete"))


def _download_process(hub: HubServer, home: Path) -> subprocess.Popen[str]:
    command = mondrian_command("download")
    return subprocess.Popen(command, env=hub.environment(home), stdout=PIPE, stderr=STDOUT, text=True)


def _break_cache(home: Path) -> set[str]:
    """Cut two files off, as a copy of the cache to another disk may, and lose a third; gives their names."""
    folder = snapshot_folder(home)
    for name in (SHARDS[0], "tokenizer.json"):
        blob = (folder / name).resolve()
        os.truncate(blob, blob.stat().st_size // 2)
    (folder / SHARDS[1]).resolve().unlink()
    (folder / SHARDS[1]).unlink()
    damaged = (folder / "config.json").resolve()
    damaged.write_bytes(bytes(damaged.stat().st_size))  # of the right length
    return {SHARDS[0], SHARDS[1], "tokenizer.json", "config.json"}


@pytest.mark.parametrize("listed", [True, False], ids=["", "a cache that another program filled"])
def test_only_missing_and_damaged_files_are_downloaded_again(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    fetch_base(REPOSITORY)
    broken = _break_cache(tmp_path)
    if not listed:
        shutil.rmtree(snapshot_folder(tmp_path).parent.parent / "trees")
    hub.forget()
    for said in (_complaint(resolve_base_path), _offline_complaint(monkeypatch)):
        assert all(name in said for name in broken - {"config.json"})
        assert "is cut off" in said and f"mondrian download --base-model {REPOSITORY}" in said
    assert hub.requests == 0 and local_base_path(REPOSITORY) is None
    fetch_base(REPOSITORY)
    _assert_complete(hub, tmp_path)
    assert set(hub.gets) == broken


def _offline_complaint(monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        said = _complaint()
    assert "HF_HUB_OFFLINE is set" in said
    return said


def test_a_hub_that_serves_too_little_is_noticed_and_repaired(hub: HubServer, tmp_path: Path) -> None:
    hub.cut_off = {SHARDS[0]}
    assert f"{SHARDS[0]} is cut off" in _complaint()
    assert f"{SHARDS[0]} is cut off" in _complaint(resolve_base_path)
    hub.cut_off = set()
    fetch_base(REPOSITORY)
    _assert_complete(hub, tmp_path)


def test_two_processes_download_once(hub: HubServer, tmp_path: Path) -> None:
    hub.stalls = {SHARDS[0]}
    with _download_process(hub, tmp_path) as first:
        assert hub.reached.wait(60)
        notices: list[StageEvent] = []

        def listen(event: StageEvent) -> None:
            notices.append(event)
            hub.go.set()

        fetch_base(REPOSITORY, listen)
        assert first.wait(60) == 0
    assert [type(each) for each in notices] == [StageNotice] and "Another process" in str(notices)
    _assert_complete(hub, tmp_path)
    assert set(hub.gets.values()) == {1}


def test_what_cannot_be_downloaded_is_explained(hub: HubServer) -> None:
    hub.refusal = "GatedRepo"
    assert "accepted its conditions" in (said := _complaint()) and "hf auth login" in said
    hub.refusal = "RepoNotFound"
    assert "has no model" in _complaint()
    hub.refusal = None
    hub.listed_sizes = {SHARDS[0]: 10**15}
    assert "1000000.0 GB" in (said := _complaint()) and "HF_HOME" in said
    assert not hub.gets


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"config.json": b'{"model_type": "llama"}'}, "'llama'"),
        ({SHARDS[0]: None, SHARDS[1]: None, INDEX: None, "model.gguf": b"x"}, "no weights as safetensors"),
        ({"config.json": None}, "no config.json on the hub"),
    ],
)
def test_another_kind_of_model_is_refused_before_its_weights(
    hub: HubServer, changed: dict[str, bytes | None], expected: str
) -> None:
    hub.files = {name: data for name, data in (hub.files | changed).items() if data is not None}
    assert expected in _complaint()
    assert not set(hub.gets) - {"config.json"}


def test_a_base_that_is_incomplete_on_the_hub_is_named(hub: HubServer) -> None:
    del hub.files["tokenizer.json"]
    assert "tokenizer.json is missing" in (said := _complaint()) and "on the hub itself" in said


def test_changed_bytes_of_the_right_length_are_found_by_hashing(hub: HubServer, tmp_path: Path) -> None:
    fetch_base(REPOSITORY)
    checks = {each.name: each for each in base_model_checks(REPOSITORY, 0, deep=True)}
    assert checks["weights"].ok is True
    shard = snapshot_folder(tmp_path) / SHARDS[0]
    with shard.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    assert {each.name for each in base_model_checks(REPOSITORY, 0)} == {"base model", "memory"}
    checks = {each.name: each for each in base_model_checks(REPOSITORY, 0, deep=True)}
    assert checks["weights"].ok is False and SHARDS[0] in checks["weights"].finding
    assert "--verify" in checks["weights"].next_step
    hub.forget()
    fetch_base(REPOSITORY)
    assert hub.requests == 0
    fetch_base(REPOSITORY, verify=True)
    _assert_complete(hub, tmp_path)
    assert set(hub.gets) == {SHARDS[0]}


def test_without_a_network_the_missing_files_are_named(hub: HubServer, tmp_path: Path) -> None:
    fetch_base(REPOSITORY)
    (snapshot_folder(tmp_path) / SHARDS[1]).unlink()
    hub.close()
    said = _complaint()
    assert SHARDS[1] in said and "can't be completed" in said and f"mondrian download --base-model {REPOSITORY}" in said
