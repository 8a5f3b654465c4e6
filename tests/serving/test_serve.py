"""The service as its own process: start, exit statuses, Ctrl-C, kill. Only the model is a fake."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.registry import Registry
from mondrian_core.serving.engine.supervisor import is_process_alive
from mondrian_core.settings import Settings
from mondrian_core.store import Store

Start = Callable[..., Any]


def gone(pid: int, seconds: float = 60) -> bool:
    ends = time.monotonic() + seconds
    while is_process_alive(pid) and time.monotonic() < ends:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and " Z " in stat.read_text():
            return True
        time.sleep(0.05)
    return not is_process_alive(pid)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_graceful_shutdown_stops_model_process(
    start: Start, photograph: Callable[..., bytes], how: signal.Signals
) -> None:
    running = start()
    assert running.post(photograph()).headers["X-Model-Used"] == "base"
    pid = running.model_pid
    status, errors = running.leave(how)
    assert "Traceback" not in errors
    assert status in (0, -how), errors
    assert gone(pid)
    assert json.loads(errors.splitlines()[0])["about"] == "serve"


def test_graceful_shutdown_during_job(
    start: Start, photograph: Callable[..., bytes], control: Callable[..., None], settings: Settings
) -> None:
    control(tokens=1000, pace=0.05)
    running = start()
    running.post(photograph(), Prefer="respond-async")
    pid = running.model_pid
    status, errors = running.leave(signal.SIGTERM)
    assert "Traceback" not in errors
    assert status in (0, -signal.SIGTERM)
    assert gone(pid)
    with Store(settings.database) as store:
        assert [(job.status, job.attempts) for job in store.jobs()] == [("queued", 0)], "it doesn't wait for the answer"


def test_killed_service_loses_no_job(
    start: Start, photograph: Callable[..., bytes], control: Callable[..., None], settings: Settings
) -> None:
    control(tokens=1000, pace=0.05)
    running = start()
    ids = [running.post(photograph(seed), Prefer="respond-async").json()["job_id"] for seed in (1, 2)]
    pid = running.model_pid
    running.leave(signal.SIGKILL)
    assert gone(pid), "no orphan keeps the accelerator"
    control()
    again = start()
    for each in ids:
        again.get(f"/jobs/{each}/events")
        assert again.get(f"/jobs/{each}").json()["status"] == "completed"


def test_port_in_use_is_reported_at_once(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = start(port=taken.getsockname()[1])
        _, errors = running.process.communicate(timeout=90)
    assert running.process.returncode == 3
    assert f"is taken by process {os.getpid()}" in errors


def test_fine_tuned_without_adapter_exits_1_or_serves_the_base(
    start: Start, registry: Registry, photograph: Callable[..., bytes]
) -> None:
    refused = start(model_mode="fine_tuned")
    _, errors = refused.process.communicate(timeout=90)
    assert refused.process.returncode == 1
    assert "No adapter can be loaded" in errors
    assert "Traceback" not in errors
    running = start(model_mode="fine_tuned", fallback="base")
    assert running.post(photograph()).headers["X-Model-Used"] == "base"
    assert running.get("/health").json()["model_mode"] == "base"
    registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="the first")
    assert running.post(photograph(2)).headers["X-Adapter-Version"] == "v0002", "no restart is needed"
    assert running.get("/health").json()["model_mode"] == "fine_tuned"


def test_ab_test_without_adapter_warns_and_serves_the_base(
    start: Start, registry: Registry, photograph: Callable[..., bytes], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    running = start(model_mode="ab_test", ab_test_split=1.0, log=log)
    answer = running.post(photograph())
    assert (answer.headers["X-Model-Used"], answer.json()["arm"]) == ("base", None)
    assert "base answers where no version is promoted" in log.read_text()
    registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="the first")
    assert running.post(photograph(2)).headers["X-Model-Used"] == "ab_test_fine_tuned"


def test_ab_test_with_a_wrong_path_is_refused(start: Start, tmp_path: Path) -> None:
    refused = start(model_mode="ab_test", lora_path=str(tmp_path / "nowhere"))
    refused.process.communicate(timeout=90)
    assert refused.process.returncode == 1


def test_analysis_mode_lora_serves_the_adapter(
    start: Start, registry: Registry, photograph: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANALYSIS_MODE", "lora")
    refused = start(model_mode=None)
    _, errors = refused.process.communicate(timeout=90)
    assert refused.process.returncode == 1 and "mondrian adapters promote" in errors
    registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="the first")
    log = tmp_path / "log"
    running = start(model_mode=None, log=log)
    assert running.post(photograph()).headers["X-Adapter-Version"] == "v0002"
    assert running.get("/health").json()["model_mode"] == "fine_tuned"
    assert "ANALYSIS_MODE=lora: the model mode is fine_tuned" in log.read_text()


def test_lora_adapter_dir_accepts_a_registry(
    start: Start, registry: Registry, photograph: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="the first")
    moved = tmp_path / "older" / "adapters"
    moved.parent.mkdir()
    registry.root.rename(moved)
    monkeypatch.setenv("LORA_ADAPTER_DIR", str(moved))
    assert start(model_mode="fine_tuned").post(photograph()).headers["X-Adapter-Version"] == "v0002"


def test_fine_tuned_serves_the_named_version(
    start: Start, registry: Registry, photograph: Callable[..., bytes]
) -> None:
    running = start(model_mode="fine_tuned", lora_path=str(registry.root / "ansel" / "v0002"))
    answer = running.post(photograph())
    assert (answer.headers["X-Model-Used"], answer.headers["X-Adapter-Version"]) == ("fine_tuned", "v0002")


def test_adapter_for_another_base_exits_1(start: Start, registry: Registry, control: Callable[..., None]) -> None:
    control(unsound=["v0001"])
    refused = start(model_mode="fine_tuned", lora_path="v0001")
    _, errors = refused.process.communicate(timeout=90)
    assert refused.process.returncode == 1
    assert "it is unsound" in errors


def test_second_service_on_a_workspace_is_refused(start: Start) -> None:
    start()
    second = start()
    _, errors = second.process.communicate(timeout=90)
    assert second.process.returncode == 2
    assert "Another service" in errors


def test_unloadable_base_exits_2(start: Start, control: Callable[..., None]) -> None:
    control(no_base=True)
    refused = start()
    _, errors = refused.process.communicate(timeout=90)
    assert refused.process.returncode == 2
    assert "can't be loaded" in errors


def test_non_local_host_needs_a_token(start: Start, photograph: Callable[..., bytes]) -> None:
    refused = start(host="0.0.0.0")
    _, errors = refused.process.communicate(timeout=90)
    assert refused.process.returncode == 2
    assert "MONDRIAN_SERVICE_TOKEN" in errors
    os.environ["MONDRIAN_SERVICE_TOKEN"] = "a long random text"
    try:
        running = start(host="0.0.0.0")
    finally:
        del os.environ["MONDRIAN_SERVICE_TOKEN"]
    assert running.get("/advisors").status_code == 401
    assert running.get("/health").status_code == 200
    assert running.post(photograph(), Authorization="Bearer a long random text").status_code == 200


def test_service_files_are_private_to_the_owner(
    start: Start, photograph: Callable[..., bytes], settings: Settings
) -> None:
    root = settings.root
    (root / "analysis_md").mkdir(mode=0o755)
    settings.database.chmod(0o644)  # as an older project left them
    before = set(root.rglob("*"))
    running = start()
    assert running.post(photograph(7)).status_code == 200
    written = [path for path in root.rglob("*") if path not in before]
    assert {"source", "analysis_md", "service"} <= {path.parent.name for path in written}
    assert {path.name for path in written} >= {"model_process.log", "mondrian.db-wal", "mondrian.db-shm"}
    loose = {
        path.name: oct(path.stat().st_mode)
        for path in [*written, settings.database, root / "analysis_md"]
        if path.stat().st_mode & 0o077
    }
    assert loose == {}
