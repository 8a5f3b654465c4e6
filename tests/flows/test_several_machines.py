"""Several machines for real, each with a home, a workspace and a checkout of its own, on PostgreSQL and Redis.

The soak tests train; `make soak` runs them. What they rest on is tested without a server in tests/core.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments import prefect_setup, run_watcher
from deployments.machines import registered_machines
from mondrian_core import stages
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.registry import Registry
from mondrian_core.shared_training import SharedTraining, require_shared_folder
from mondrian_core.stages import StageContext
from tasks.handover import HANDED_OVER
from tasks.liveness import live_run_processes
from tasks.processes import child_processes
from tests.shared_prefect import SharedMachine, SharedPrefect, shared_prefect
from tests.small_recipe import small_recipe
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.mini, pytest.mark.timeout(3600)]
ENDED_WELL = ("Promoted", "Candidate", "Rejected")
LONG_ENOUGH = small_recipe(data={"test_from": 8}, train={"epochs": 12, "patience": 12})


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPrefect]:
    """The data machine with two advisors, and two machines with an accelerator."""
    with shared_prefect(
        tmp_path_factory.mktemp("studio"), machine="studio", machine_roles="control,serving,data"
    ) as shared:
        create_workspace(shared.settings.root, sample=True, photographs=12)
        add_second_advisor(shared.settings.database)
        for name in ("first", "second"):
            shared.add_machine(name)
        yield shared


def add_second_advisor(database: Path) -> None:
    """Edward has Ansel's critiques under his own name."""
    with sqlite3.connect(database) as connection:
        for table, key in (("advisors", "id"), ("dimensional_profiles", "advisor_id")):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            chosen = [f"'edward-' || {name}" if name == "id" and key != "id" else name for name in columns]
            chosen = [
                "'edward'" if name == key else expression for name, expression in zip(columns, chosen, strict=True)
            ]
            into, rows = f"{table} ({', '.join(columns)})", f"{table} WHERE {key} = 'ansel'"
            connection.execute(f"INSERT INTO {into} SELECT {', '.join(chosen)} FROM {rows}")
    connection.close()


def retrain(studio: SharedPrefect, advisor: str, **more: Any) -> UUID:
    given = {"advisor": advisor, "recipe": LONG_ENOUGH, **more}
    return run_watcher.start_deployment_run(studio.place, "retrain/scheduled", given)


def training_of(studio: SharedPrefect, run: UUID) -> SharedTraining:
    """Its training, once a machine has begun it."""
    shared = require_shared_folder(studio.settings.shared)

    def begun() -> SharedTraining | None:
        for folder in (shared / "trainings").glob(f"*-{str(run)[:8]}-*"):
            training = SharedTraining(folder.parents[1], folder.name)
            if training.sign().beat > 0:
                return training
        return None

    return wait_until(begun, "an attempt at the training")


def end_of(studio: SharedPrefect, run: UUID) -> run_watcher.FlowRunStatus:
    return run_watcher.follow_flow_run(studio.place, run, lambda glance: None)


@pytest.mark.soak
def test_two_machines_train_two_advisors_at_once_and_one_advisor_never_twice(studio: SharedPrefect) -> None:
    runs = {advisor: retrain(studio, advisor) for advisor in ("ansel", "edward")}
    trainings = {advisor: training_of(studio, run) for advisor, run in runs.items()}
    again = retrain(studio, "ansel")  # waits for the first one, and finds nothing new
    at_work = {training.sign().machine for training in trainings.values()}
    assert at_work == {"first", "second"}
    for advisor, run in runs.items():
        assert (ended := end_of(studio, run)).state in ENDED_WELL, (advisor, ended)
    assert end_of(studio, again).state == "NothingNew"
    registry = Registry(studio.settings.adapters_root)
    assert {advisor: len(registry.versions(advisor)) for advisor in runs} == {"ansel": 1, "edward": 1}
    assert [training.sign().attempt for training in trainings.values()] == [1, 1]


@pytest.mark.soak
def test_a_dead_machines_training_is_continued_by_another_with_the_same_bytes(studio: SharedPrefect) -> None:
    """Worker, run and stage are killed at once, as a power cut does; nobody is left to report it."""
    run = retrain(studio, "ansel", seed=5)
    training = training_of(studio, run)
    first = next(machine for machine in studio.machines if machine.name == training.sign().machine)
    checkpoints = training.folder.parents[1] / "checkpoints" / training.read_request().run
    wait_until(lambda: list(checkpoints.glob("*.json")), "a published checkpoint")
    cut_power(first)
    ended = end_of(studio, run)
    assert ended.state in ENDED_WELL, ended
    sign = training.sign()
    assert sign.attempt == 2 and sign.machine != first.name
    with prefect_setup.prefect_client(studio.place) as client:
        named = f"train {training.read_request().run}"
        child = next(each for each in client.read_flow_runs(limit=200) if each.name == named)
        states = [state.name for state in client.read_flow_run_states(child.id)]
    assert HANDED_OVER in states and states[-1] == "Completed"

    request = training.read_request()
    context = StageContext.load(studio.settings.run_folder(request.run) / "context.json")
    result, dataset = context.run_folder / "adapter", context.root / "datasets" / "ansel" / request.dataset
    alone = replace(context, workspace=str(studio.folder / "alone"), dataset=str(dataset))
    alone.run_folder.mkdir(parents=True)
    stages.train_stage(alone)
    assert adapter_bytes(result) == adapter_bytes(alone.run_folder)


def adapter_bytes(run_folder: Path) -> bytes:
    return next(run_folder.rglob("adapters.safetensors")).read_bytes()


def cut_power(machine: SharedMachine) -> None:
    family = [*machine.workers, *live_run_processes(machine.home)]
    pids = [process.pid for process in family]
    pids += [child.pid for process in family for child in child_processes(process.pid)]
    assert len(pids) > len(family)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.soak
def test_machines_are_registered_with_their_roles(studio: SharedPrefect) -> None:
    with prefect_setup.prefect_client(studio.place) as client:
        found = {machine.name: machine.roles for machine in registered_machines(client)}
    assert found == {
        "first": ("accelerator",),
        "second": ("accelerator",),
        "studio": ("control", "serving", "data"),
    }
