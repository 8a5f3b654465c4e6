"""What a run survives on a machine that has joined a shared server: PostgreSQL, Redis and the network fail, and return.

The server runs on PostgreSQL and Redis; the machine `far` reaches it through a proxy. Everything is a real process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments import prefect_setup, run_watcher
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.registry import Registry
from tasks import liveness
from tests.dropping_proxy import DroppingProxy
from tests.flows.test_champions import register
from tests.flows.test_several_machines import training_of
from tests.shared_prefect import SharedMachine, SharedPrefect, shared_prefect
from tests.small_recipe import small_recipe
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1800)]

STAGES = ("link", "dataset", "train", "evaluate", "register", "promote")
LONG_CUT_SECONDS = 300.0
# A request that gets no answer is sent again after two seconds instead of a minute; everything else is as always.
IMPATIENT = '[profiles.default]\nPREFECT_API_REQUEST_TIMEOUT = "2"\n'


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A shared server, and a machine that reaches it through a proxy."""

    shared: SharedPrefect
    proxy: DroppingProxy
    far: SharedMachine

    def client(self) -> Any:
        """A client of the server, without the proxy."""
        return prefect_setup.prefect_client(self.shared.place)

    def state(self, run: UUID) -> Any:
        with self.client() as client:
            return client.read_flow_run(run).state

    def end_of(self, run: UUID) -> Any:
        """The state of a run after its end, or after its process is gone."""

        def ended() -> bool:
            started = liveness.has_run_lock_file(self.far.home, run)
            gone = started and not liveness.is_run_alive(self.far.home, run)
            return self.state(run).is_final() or gone

        wait_until(ended, "the end of the run", pause_seconds=0.5)
        return self.state(run)

    def wait_for_request_of(self, run: UUID) -> None:
        """Wait until the process of a run sends one more request about itself."""
        self.proxy.forget()
        wait_until(lambda: f"/flow_runs/{run}".encode() in self.proxy.sent, "a request of the run")

    def stages(self, run: UUID) -> dict[str, str]:
        """The state of each task of a run."""
        with self.client() as client:
            return run_watcher.read_flow_run_status(client, run).stages

    def postgres_fails(self) -> AbstractContextManager[None]:
        """PostgreSQL is down inside the block."""
        return stopped(self.shared.postgres.stop, self.shared.postgres.start)

    def redis_fails(self) -> AbstractContextManager[None]:
        """Redis is down inside the block."""
        return stopped(self.shared.redis.stop, self.shared.redis.start)

    def network_fails(self) -> AbstractContextManager[None]:
        """Whatever `far` sends to the server is lost inside the block."""
        return stopped(self.proxy.cut, self.proxy.restore)


@contextmanager
def stopped(stop: Callable[[], None], start: Callable[[], None]) -> Iterator[None]:
    stop()
    try:
        yield
    finally:
        start()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    with shared_prefect(folder, machine="studio", machine_roles="serving,data") as shared:
        create_workspace(shared.settings.root, sample=True, photographs=12)
        proxy = DroppingProxy(shared.place.port)
        try:
            far = shared.add_machine("far", ("control", "accelerator"), address=proxy.url, profile=IMPATIENT)
            yield Studio(shared=shared, proxy=proxy, far=far)
        finally:
            proxy.close()


def test_a_promotion_that_waits_survives_three_outages_and_happens_once(studio: Studio, tmp_path: Path) -> None:
    """Each outage lasts until the run has asked in vain; then a person approves."""
    version = register(studio.shared.settings, "ansel", "PASS", tmp_path / "version")
    given = {"advisor": "ansel", "version": version, "approve": True, "reason": "by eye"}
    run = run_watcher.start_deployment_run(studio.shared.place, "promote/manual", given)
    wait_until(lambda: studio.state(run).is_paused(), "the question")
    for outage in (studio.postgres_fails, studio.redis_fails, studio.network_fails):
        with outage():
            studio.wait_for_request_of(run)
    assert studio.state(run).is_paused()
    with studio.client() as client:
        client.resume_flow_run(run, run_input={"approve": True, "name": "Ansel"})
    ended = studio.end_of(run)
    assert ended.is_completed(), ended.message
    registry = Registry(studio.shared.settings.adapters_root)
    moves = [entry for entry in registry.history("ansel") if entry.moves_pointer]
    assert [move.after for move in moves] == [version] and registry.current("ansel") == version
    wait_until(lambda: set(studio.stages(run).values()) == {"COMPLETED"}, "the end of each task")
    assert studio.far.workers, "the worker gave up"


OUTAGES = {"postgres": Studio.postgres_fails, "redis": Studio.redis_fails, "network": Studio.network_fails}


@pytest.mark.mini
@pytest.mark.soak
@pytest.mark.parametrize("name", OUTAGES)
def test_a_training_that_ends_in_an_outage_ends_well(studio: Studio, name: str) -> None:
    """The outage begins in the training and outlasts it: neither the training nor the retraining can say so."""
    run = begin_retraining(studio, name)
    trained = studio.far.settings.run_folder(training_of(studio.shared, run).read_request().run) / "train.json"
    with OUTAGES[name](studio):
        wait_until(trained.is_file, "the trained adapter")
        studio.proxy.forget()
        wait_until(lambda: b"/flow_runs/" in studio.proxy.sent, "a request that is in vain")
    ended_once(studio, run, name)


@pytest.mark.mini
@pytest.mark.soak
def test_five_minutes_without_a_network(studio: Studio) -> None:
    run = begin_retraining(studio, "long")
    training_of(studio.shared, run)
    with studio.network_fails():
        time.sleep(LONG_CUT_SECONDS)
    ended_once(studio, run, "long")


def begin_retraining(studio: Studio, name: str) -> UUID:
    """A retraining of the data machine, into a registry of its own; `far` trains."""
    recipe = small_recipe(name, data={"test_from": 8}, train={"epochs": 3, "patience": 3})
    given = {"advisor": "ansel", "adapters": str(studio.shared.folder / name), "recipe": recipe}
    return run_watcher.start_deployment_run(studio.shared.place, "retrain/scheduled", given)


def ended_once(studio: Studio, run: UUID, name: str) -> None:
    """The run says what happened, each stage ended, there is one version, and the worker takes the next run."""
    wait_until(lambda: studio.state(run).is_final(), "the end of the retraining", pause_seconds=0.5)
    assert studio.state(run).is_completed(), studio.state(run).message
    done = dict.fromkeys(STAGES, "COMPLETED")
    wait_until(lambda: done.items() <= studio.stages(run).items(), "the end of each stage")  # besides the child's run
    assert training_of(studio.shared, run).sign().attempt == 1, "the training was handed over"
    registry = Registry(studio.shared.folder / name)
    assert [version.version for version in registry.versions("ansel")] == ["v0001"]
    assert sum(entry.moves_pointer for entry in registry.history("ansel")) <= 1
    following = run_watcher.start_deployment_run(studio.shared.place, "rollback/manual", {"advisor": "nobody"})
    assert "no adapters" in studio.end_of(following).message
