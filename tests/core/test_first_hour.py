"""The steps of the first hour, and the state of retrainings, from the files of a workspace."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.advisors import add_advisor
from mondrian_core.cli import parse_command
from mondrian_core.events import StageFinished, StageNotice, StageProgressed, StageStarted
from mondrian_core.first_hour import FirstHour, look_at_first_hour
from mondrian_core.registry import Registry
from mondrian_core.retraining_runs import (
    latest_retraining,
    progress_log_listener,
    retraining_lock_of,
    start_retraining,
)
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.plain_critiques import save_critiques

RUN = "20261128-180000-000000-ansel"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "runs" / "retrained").mkdir(parents=True)
    with Store.create(folder / "mondrian.db") as store:
        add_advisor(store, "Ansel Adams", advisor_id="ansel")
    return folder


def way(root: Path) -> FirstHour:
    with Store(root / "mondrian.db", read_only=True) as store:
        return look_at_first_hour(store, Registry(root.parent / "adapters"), root, store.advisor("ansel"))


def begin_run(root: Path, **files: dict[str, object]) -> Path:
    folder = root / "runs" / RUN
    folder.mkdir(exist_ok=True)
    context = {"advisor": "ansel", "recipe": {"name": "small-set"}}
    for name, values in {"context": context, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def register_version(root: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    made = root / "made"
    made.mkdir()
    pair = {name: np.ones((2, 2), np.float32) for name in ("layer.lora_a", "layer.lora_b")}
    save_file(pair, made / "adapters.safetensors")
    (made / "adapter_config.json").write_text("{}")
    Registry(root.parent / "adapters").register("ansel", made, {"base": {"name": "mini", "fingerprint": "fake"}})


def test_exactly_one_step_is_current_until_an_adapter_answers(root: Path) -> None:
    with Store(root / "mondrian.db", read_only=True) as store:
        nothing = look_at_first_hour(store, Registry(root.parent / "adapters"), root, None)
    seen = [nothing.current, way(root).current]
    save_critiques(root, "ansel", 3)
    seen.append(way(root).current)
    save_critiques(root, "ansel", 10)
    seen.append(way(root).current)
    register_version(root)
    begin_run(root, promote={"decision": "candidate", "version": "v0001", "sentence": "Kept.", "command": "mondrian x"})
    seen.append(way(root).current)
    registry = Registry(root.parent / "adapters")
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="a test", forced=True)
    seen.append(way(root).current)
    keys = [step.key for step in seen if step is not None]
    assert keys == ["advisor", "photographs", "photographs", "train", "report", "serve"]
    assert seen[4] is not None and "mondrian x" in seen[4].next_step
    for step in seen:
        assert step is not None and (step.next_step or step.key == "serve")


def test_progress_is_read_from_the_file_that_the_retraining_writes(root: Path) -> None:
    folder = begin_run(root)
    listen = progress_log_listener(folder)
    for event in (
        StageStarted("link"),
        StageFinished("link", {"path": root}),
        StageNotice("retrain", "a notice"),
        StageStarted("train"),
        StageProgressed("train", 30, 40, "epoch 3"),
    ):
        listen(event)
    with retraining_lock_of(root, "ansel"):
        found = latest_retraining(root, "ansel")
        assert found.at_work and (found.stage, found.done, found.total) == ("train", 30, 40)
        assert found.share == pytest.approx(2.75 / 6)
    found = latest_retraining(root, "ansel")
    assert found.interrupted and not found.decided
    (folder / "retrain.jsonl").write_bytes(b'\xff{"event": 3}\n[]\n{"stage": "train"}\n{"event": "Sta')
    assert latest_retraining(root, "ansel").stage == ""


def test_an_error_is_shown_until_a_later_run_decides(root: Path) -> None:
    result = root / "runs" / "retrained" / "ansel.json"
    result.write_text(json.dumps({"error": "The disk is full.", "next_step": "Free some."}))
    folder = begin_run(root)
    progress_log_listener(folder)(StageStarted("train"))
    assert latest_retraining(root, "ansel").problem == "The disk is full. Free some."
    begin_run(root, promote={"decision": "candidate", "version": "v0001", "sentence": "Kept."})
    os.utime(folder / "promote.json", (time.time() + 5,) * 2)
    found = latest_retraining(root, "ansel")
    assert found.problem == "" and found.decided
    result.write_text("not JSON")
    assert latest_retraining(root, "ansel").problem == ""


def test_a_listener_creates_no_folder(tmp_path: Path) -> None:
    progress_log_listener(tmp_path / "runs" / "x")(StageStarted("link"))
    assert list(tmp_path.iterdir()) == []


def test_a_started_retraining_continues_an_interrupted_run_in_a_session_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: begun.append((words, how)))
    settings = Settings(workspace=root, adapters=root.parent / "adapters", base_model="mini")
    (root / "runs" / "retrained" / "ansel.json").write_text(json.dumps({"error": "An old one.", "next_step": ""}))
    start_retraining(settings, "ansel")
    folder = begin_run(root)
    progress_log_listener(folder)(StageStarted("train"))
    start_retraining(settings, "ansel")
    (first, how), (second, _) = begun
    assert "--resume" not in first and second[-2:] == ["--resume", RUN]
    assert how["start_new_session"] and how["stdin"] == subprocess.DEVNULL
    assert latest_retraining(root, "ansel").problem == ""
    parse_command(second[second.index("retrain") :], lambda change: None)
