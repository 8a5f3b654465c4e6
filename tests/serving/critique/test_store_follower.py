"""A service follows the champion in an object store, and publishes what it observes of a rollout."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.events import StageEvent, StageNotice
from mondrian_core.object_store import ObjectStore, open_object_store
from mondrian_core.registry import Registry
from mondrian_core.rollout import ObservationLog, RolloutPlan, RolloutStep
from mondrian_core.runs import RunCatalogue
from mondrian_core.serving.critique.store_follower import FOLLOW_SECONDS, ChampionUpdates, RunUpdates, StoreFollower
from mondrian_core.serving.jobs.worker import IDLE_SECONDS
from mondrian_core.settings import Settings, cache_folder_from_url
from mondrian_core.shared_storage import SharedStorage, publish_run
from tests.rollout.conftest import begin_rollout
from tests.s3_server import Machine, machine, s3_server, url
from tests.serving.conftest import Running
from tests.waiting import wait_until

__all__ = ["machine", "s3_server", "url"]  # fixtures


@pytest.fixture
def adapters(url: str, tmp_path: Path) -> Path:
    """The serving machine's copy of the registry in the store."""
    return cache_folder_from_url(url, tmp_path / "serving")


@pytest.fixture
def settings(settings: Settings, adapters: Path) -> Settings:
    return settings.model_copy(update={"adapters": adapters})


@pytest.mark.slow
def test_a_service_follows_the_store_without_a_request(
    registry: Registry,
    promote: Callable[[str | None], None],
    start: Callable[..., Running],
    photograph: Callable[..., bytes],
    machine: Machine,
    url: str,
) -> None:
    assert FOLLOW_SECONDS + 2 * IDLE_SECONDS < 10.0
    promote("v0001")
    service, other = start(model_mode="fine_tuned"), machine("other")
    assert service.post(photograph(1)).headers["X-Adapter-Version"] == "v0001"

    def serves(version: str | None) -> Callable[[], bool]:
        return lambda: service.get("/health").json()["adapters"].get("ansel") == version

    began = time.monotonic()
    other.promote("ansel", "v0002", expected="v0001", actor="person:other", reason="better")
    wait_until(serves("v0002"), "the new champion")
    print(f"followed after {time.monotonic() - began:.1f} s")
    assert service.post(photograph(2)).headers["X-Adapter-Version"] == "v0002"

    other.rollback("ansel", actor="person:other", reason="no")
    wait_until(serves("v0001"), "the rollback")

    plan = RolloutPlan(steps=(RolloutStep(0.5, 1000, 24.0), RolloutStep(1.0, 0, 0.0)), cool_down_hours=0.0)
    rollout = begin_rollout(other, "v0002", plan)
    log = ObservationLog(open_object_store(url), rollout)
    sent = iter(range(3, 1000))

    def observed() -> bool:
        service.post(photograph(next(sent)))
        return {request.candidate for request in log.requests()} == {True, False}

    wait_until(observed, "answers of both arms in the store")
    assert all(request.machine for request in log.requests())


def noted_call(name: str, asked: list[str]) -> Callable[..., Any]:
    """The method of `ObjectStore`, which appends its name to `asked`."""
    real = getattr(ObjectStore, name)

    def call(self: ObjectStore, *given: Any) -> Any:
        asked.append(name)
        return real(self, *given)

    return call


def test_a_round_without_changes_is_one_request_without_content(
    registry: Registry, promote: Callable[[str | None], None], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("v0001")
    asked: list[str] = []
    for name in ("token", "listing", "read", "download", "folders"):
        monkeypatch.setattr(ObjectStore, name, noted_call(name, asked))
    there = machine("b")
    champions = ChampionUpdates(there, there.known_advisors)
    champions.update()
    assert asked == [], "an advisor whom nobody asked for costs no request"
    there.current("ansel")
    champions.update()
    asked.clear()
    champions.update()
    assert asked == ["token"]
    promote("v0002")
    asked.clear()
    champions.update()
    assert asked[0] == "token" and "read" in asked and "download" not in asked
    assert '"version": "v0002"' in (there.root / "ansel" / "promoted.json").read_text()


def test_a_store_that_does_not_answer_is_asked_less_often_and_told_of_once(
    registry: Registry, promote: Callable[[str | None], None], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("v0001")
    there, told = machine("b"), []
    there.current("ansel")

    def listen(event: StageEvent) -> None:
        assert isinstance(event, StageNotice)
        told.append(event.message)

    champions = ChampionUpdates(there, there.known_advisors)
    follower = StoreFollower(champions.update, "The registry", FOLLOW_SECONDS, listen)
    follower.follow()
    assert follower.pause_seconds == FOLLOW_SECONDS and told == []

    def down(self: ObjectStore, path: str) -> Any:
        with self._translate_errors():
            raise ConnectionError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "token", down)
        pauses = []
        for _ in range(5):
            follower.follow()
            pauses.append(follower.pause_seconds)
    assert pauses == [6.0, 12.0, 24.0, 30.0, 30.0]
    assert len(told) == 1 and "can't be followed" in told[0]
    promote("v0002")
    follower.follow()
    assert follower.pause_seconds == FOLLOW_SECONDS and "answers again" in told[1]
    assert '"version": "v0002"' in (there.root / "ansel" / "promoted.json").read_text()


def test_runs_of_other_machines_appear_and_a_damaged_one_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    storage = SharedStorage(str(tmp_path / "share"))
    run = tmp_path / "a" / "runs" / "tuesday"
    run.mkdir(parents=True)
    (run / "context.json").write_text('{"advisor": "ansel"}')
    publish_run(storage, run)
    storage.store.write("runs/broken.json", b"[]")
    told: list[StageEvent] = []
    runs = RunUpdates(storage, tmp_path / "b", told.append)
    runs.update()
    runs.update()
    assert [each.name for each in RunCatalogue(tmp_path / "b").runs()] == ["tuesday"] and len(told) == 1
    (run / "promote.json").write_text('{"decision": "rejected", "sentence": "no", "version": "v0001"}')
    publish_run(storage, run)
    runs.update()
    assert RunCatalogue(tmp_path / "b").run("tuesday").decision == "rejected"
