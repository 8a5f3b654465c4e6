"""The whole loop by a real worker on mini: small, but every stage real; and what a cancel leaves behind."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from flows.retrain import retrain_flow
from mondrian_core.accelerator_lock import accelerator_lock_path, is_orphaned_stage
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tasks.processes import process_start_token
from tests.small_recipe import small_recipe
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

SMALL = small_recipe(data={"test_from": 8})
ENDLESS = small_recipe(data={"test_from": 8}, train={"epochs": 100, "patience": 100})


def begin(machine: RunningPrefect, settings: Settings, sample: Path, recipe: dict[str, Any]) -> Any:
    given = {"advisor": "ansel", "workspace": str(sample), "adapters": str(settings.adapters_root), "recipe": recipe}
    return run_watcher.start_deployment_run(machine.place, "retrain/scheduled", given)


@pytest.fixture(scope="module")
def retrained(machine: RunningPrefect, settings: Settings, sample: Path) -> run_watcher.FlowRunStatus:
    """The end of a whole retraining."""
    return run_watcher.follow_flow_run(machine.place, begin(machine, settings, sample, SMALL), lambda glance: None)


@pytest.mark.mini
@pytest.mark.slow
def test_overdue_runs_are_skipped_but_one_and_nothing_new_ends_well(
    machine: RunningPrefect, settings: Settings, sample: Path, retrained: run_watcher.FlowRunStatus
) -> None:
    """Two weeks of a machine that was off; nobody wrote a critique meanwhile."""
    from prefect.states import Scheduled

    given: dict[str, Any] = {
        "advisor": "ansel",
        "workspace": str(sample),
        "adapters": str(settings.adapters_root),
        "recipe": SMALL,
        "force": False,  # explicit: the run before had other parameters, so it does not belong to this schedule
    }
    now = datetime.now(UTC)
    with prefect_setup.prefect_client(machine.place) as client:
        deployment = client.read_deployment_by_name("retrain/scheduled")
        runs = [
            client.create_flow_run_from_deployment(
                deployment.id, parameters=given, state=Scheduled(scheduled_time=now - timedelta(weeks=weeks))
            ).id
            for weeks in (1, 2)
        ]
    seen = [run_watcher.follow_flow_run(machine.place, run, lambda glance: None) for run in runs]
    assert [each.state for each in seen] == ["NothingNew", "Skipped"]
    assert "v0001" in seen[0].message and "force=true" in seen[0].message
    folder = sample / "runs" / seen[0].run
    assert (folder / "link.json").exists() and not (folder / "dataset.json").exists()
    assert not any((sample / "runs" / each.run).exists() for each in seen[1:]), "a skipped run does nothing"


def test_retrain_flow_accepts_recipe_name(
    machine: RunningPrefect, prefect_here: AbstractContextManager[object], sample: Path
) -> None:
    """What `-p recipe=small-set` sends; a name that isn't one is refused before a run exists."""
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.states import Scheduled

    given: dict[str, Any] = {"advisor": "nobody", "workspace": str(sample), "recipe": "small-set"}
    with prefect_setup.prefect_client(machine.place) as client:
        deployment = client.read_deployment_by_name("retrain/scheduled").id
        far = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(weeks=99))
        accepted = client.create_flow_run_from_deployment(deployment, parameters=given, state=far)
        client.delete_flow_run(accepted.id)
        with pytest.raises(PrefectHTTPStatusError, match="recipe"):
            client.create_flow_run_from_deployment(deployment, parameters={**given, "recipe": "smal-set"}, state=far)
    before = set((sample / "runs").glob("*/context.json"))
    with prefect_here:
        assert retrain_flow(**given, return_state=True).name == "Failed", "nobody has no critiques"
    [context] = set((sample / "runs").glob("*/context.json")) - before
    assert json.loads(context.read_text())["recipe"]["name"] == "small-set"


@pytest.mark.mini
@pytest.mark.slow
def test_retrain_flow_runs_all_stages(
    machine: RunningPrefect, settings: Settings, sample: Path, retrained: run_watcher.FlowRunStatus
) -> None:
    seen = retrained
    assert seen.state in ("Promoted", "Candidate", "Rejected"), seen.message
    assert list(seen.stages) == ["link", "dataset", "train", "evaluate", "register", "promote"]
    with prefect_setup.prefect_client(machine.place) as client:
        [run] = [each.id for each in client.read_flow_runs() if each.name == seen.run]

        def stages() -> set[str]:  # a busy server records the end of a task after that of its run
            return set(run_watcher.read_flow_run_status(client, run).stages.values())

        wait_until(lambda: stages() == {"COMPLETED"}, "the end of each stage")
    assert seen.percent["train"] == seen.percent["evaluate"] == 100.0
    folder = sample / "runs" / seen.run
    outcome = json.loads((folder / "promote.json").read_text())
    version = Registry(settings.adapters_root).get("ansel", outcome["version"])
    assert version.manifest["run"] == seen.run
    assert outcome["sentence"] in seen.message
    with prefect_setup.prefect_client(machine.place) as client:
        found = {each.key: str(each.data) for each in client.read_artifacts() if each.key and "ansel" in each.key}
    assert {"link-ansel", "dataset-ansel", "training-ansel", "gates-ansel", "version-ansel", "promotion-ansel"} <= set(
        found
    )
    assert "data:image/" in found["dataset-ansel"] and "data:image/" in found["training-ansel"]
    assert "score_error" in found["gates-ansel"]
    nobodys_business(texts_on_server(machine), sample, settings.adapters_root)
    archive = Registry(settings.adapters_root).export("ansel", outcome["version"], sample / "runs")
    nobodys_business(
        written_below(folder, sample / "datasets", settings.adapters_root, archive), sample, settings.adapters_root
    )


def texts_on_server(machine: RunningPrefect) -> dict[str, str]:
    """All that the server keeps for people: artifacts, and the messages of runs and tasks."""
    with prefect_setup.prefect_client(machine.place) as client:
        texts = {f"artifact {each.key}": f"{each.description} {each.data}" for each in client.read_artifacts()}
        texts |= {f"run {each.name}": f"{each.state.message}" for each in client.read_flow_runs() if each.state}
    return texts


def written_below(*places: Path) -> dict[str, str]:
    """Every text that a run, a dataset, a registry or an archive holds; logs of processes stay on the machine."""
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    texts = {".json", ".jsonl", ".html", ".md", ".csv", ".toml", ".tar"}
    return {
        str(file): file.read_bytes().decode("utf-8", "replace")
        for file in files
        if file.is_file() and file.suffix in texts
    }


def nobodys_business(texts: dict[str, str], workspace: Path, adapters: Path) -> None:
    """No folder of this machine is named anywhere, and so no user."""
    assert len(texts) > 5
    for name, text in texts.items():
        for secret in (workspace, workspace.parent, adapters.parent, Path.home()):
            assert f"{secret}/" not in text and f'{secret}"' not in text, (name, secret)


@pytest.mark.mini
def test_cancel_ends_the_process_that_trains(machine: RunningPrefect, settings: Settings, sample: Path) -> None:
    from prefect.states import Cancelling

    lock = accelerator_lock_path()
    run = begin(machine, settings, sample, ENDLESS)

    def training() -> str:
        text = lock.read_text() if lock.exists() else ""
        return text if "train of" in text and 'run_pid": null' not in text else ""

    text = wait_until(training, "the training")
    holder = json.loads(text)
    assert process_start_token(holder["pid"]) and not is_orphaned_stage(text)
    with prefect_setup.prefect_client(machine.place) as client:
        client.set_flow_run_state(run, Cancelling())
    seen = run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
    assert seen.state == "Cancelled"
    assert process_start_token(holder["pid"]) is None and process_start_token(holder["run_pid"]) is None
    handle = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)
