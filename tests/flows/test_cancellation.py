"""Cancelling through Prefect's API: at the end of every stage, where most is at stake, and while a person is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from deployments.run_watcher import FlowRunStatus
from mondrian_core import accelerator_lock
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tasks import liveness
from tests.flows.conftest import Hold
from tests.flows.test_champions import register
from tests.flows.test_lifecycle import logged_steps
from tests.small_recipe import small_recipe
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(1800)]

STAGES = ("link", "dataset", "train", "evaluate", "register", "promote")


def cancel(machine: RunningPrefect, run: UUID) -> FlowRunStatus:
    """Cancel a run as the UI does; its last state, once its process has ended."""
    from prefect.states import Cancelling

    with prefect_setup.prefect_client(machine.place) as client:
        client.set_flow_run_state(run, Cancelling())
    seen = run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
    wait_until(lambda: not liveness.is_run_alive(machine.place.home, run), "the end of its process")
    return seen


def retry(machine: RunningPrefect, run: UUID) -> None:
    """Start a run again, as the button of the UI does."""
    from prefect.states import AwaitingRetry

    with prefect_setup.prefect_client(machine.place) as client:
        client.set_flow_run_state(run, AwaitingRetry())


def is_paused(machine: RunningPrefect, run: UUID) -> bool:
    with prefect_setup.prefect_client(machine.place) as client:
        state = client.read_flow_run(run).state
    return state is not None and state.is_paused()


@pytest.mark.parametrize("moment", ["while a person is asked", "before the pointer moves", "after the pointer moved"])
def test_a_cancelled_promotion_has_happened_or_not_and_never_happens_twice(
    machine: RunningPrefect, settings: Settings, hold: Hold, tmp_path: Path, moment: str
) -> None:
    advisor = moment.replace(" ", "-")
    version = register(settings, advisor, "PASS", tmp_path / "version")
    registry, home = Registry(settings.adapters_root), settings.adapters_root / advisor
    asked = moment == "while a person is asked"
    given = {"advisor": advisor, "version": version, "approve": asked}
    files = {"before the pointer moves": f"{home}/.promoted-*.json", "after the pointer moved": str(home)}
    with hold.opening(files.get(moment, "nothing")) as held:
        run = run_watcher.start_deployment_run(machine.place, "promote/manual", given)
        wait_until(lambda: is_paused(machine, run) if asked else held(), moment)
        assert cancel(machine, run).state == "Cancelled"
    moved = moment == "after the pointer moved"
    assert registry.current(advisor) == (version if moved else None)
    assert registry.check(advisor) == ()
    if asked:
        return
    retry(machine, run)
    run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
    assert registry.current(advisor) == version
    assert [entry.after for entry in registry.history(advisor) if entry.moves_pointer] == [version]
    assert registry.check(advisor) == ()


@pytest.mark.mini
@pytest.mark.soak
def test_a_retraining_cancelled_at_every_stage_ends_as_one(
    machine: RunningPrefect, settings: Settings, hold: Hold, sample: Path
) -> None:
    """One run, cancelled just before each stage records its result, and retried: it trains once and registers once."""
    adapters = settings.adapters_root.parent / "cancelled"
    recipe = small_recipe("cancelled everywhere", data={"test_from": 8}, train={"epochs": 2, "patience": 2})
    where = {"workspace": str(sample), "adapters": str(adapters)}
    given: dict[str, Any] = {"advisor": "ansel", **where, "recipe": recipe}
    run: UUID | None = None
    steps: list[str] = []
    for stage in STAGES:
        with hold.opening(f"*/runs/*/.{stage}-*.json") as held:
            if run is None:
                run = run_watcher.start_deployment_run(machine.place, "retrain/scheduled", given)
            else:
                retry(machine, run)
            wait_until(held, f"the end of {stage}")
            seen = cancel(machine, run)
            assert seen.state == "Cancelled", (stage, seen.message)
        [folder] = (sample / "runs").glob(f"*{str(run)[:8]}")
        assert not (folder / f"{stage}.json").exists()
        steps = logged_steps(folder) if stage == "train" else steps
        with accelerator_lock.exclusive_work("test", print, wait=False):
            pass
    assert run is not None
    retry(machine, run)
    seen = run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
    with prefect_setup.prefect_client(machine.place) as client:
        state = client.read_flow_run(run).state
    assert state is not None and state.is_completed(), seen.message
    registry = Registry(adapters)
    assert [version.version for version in registry.versions("ansel")] == ["v0001"]
    assert sum(entry.moves_pointer for entry in registry.history("ansel")) <= 1
    assert steps and logged_steps(folder) == steps, "the training began again instead of resuming"
