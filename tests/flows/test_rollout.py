"""rollout/advance, and promotions that begin as a rollout, on a real server, a real worker and a real jobs table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prefect.events.worker import EventsWorker
from safetensors.numpy import load_file, save_file

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from flows.promote import promote_flow
from flows.rollout import rollout_flow
from mondrian_core.events import ignore_events
from mondrian_core.prefect_server import auth_string_path
from mondrian_core.promotion import ManualPromotion, promote_manually
from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    ROLLOUT_DEPLOYMENT,
    SERVICE_ACTOR,
    Rollout,
    RolloutPlan,
    activate_rollout_schedule,
    active_rollout,
    check_rollout,
    update_rollout_schedule,
)
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.serving.jobs.rollback_guard import RollbackGuard
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.registry.conftest import served_record
from tests.rollout.conftest import assigned_jobs
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
GATES = ("integrity", "effect", "format_compliance", "latency_overhead", "score_error", "health")
PLAN = {"steps": [{"share": 0.2, "requests": 20, "hours": 0}, {"share": 1.0, "requests": 0, "hours": 0}]}


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings.adapters_root)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    path = settings.database
    store = Store(path) if path.exists() else Store.create(path)
    yield store
    store.close()


def register(registry: Registry, advisor: str, folder: Path, **manifest: Any) -> str:
    """A version whose files are sound and whose gates all pass."""
    folder.mkdir()
    draw = np.random.default_rng(len(list(folder.parent.iterdir())))  # no version is a copy of another
    arrays = {
        f"layers.0.q_proj.{name}": draw.normal(size=shape).astype(np.float32)
        for name, shape in (("lora_a", (8, 2)), ("lora_b", (2, 8)))
    }
    save_file(arrays, folder / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 2.0, "keys": ["layers.0.q_proj"]}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    gates = [{"name": name, "verdict": "PASS", "sentence": f"{name} passed."} for name in GATES]
    report = {"verdict": "PASS", "gates": gates, **served_record()}
    return registry.register(advisor, folder, {"gate_report": report, **manifest}, actor="person:test").version


def champion_and_candidate(registry: Registry, advisor: str, room: Path) -> tuple[str, str]:
    first = register(registry, advisor, room / "a")
    second = register(registry, advisor, room / "b", parent=first)
    registry.promote(advisor, first, expected=None, actor="person:test", reason="first")
    return first, second


def in_force(registry: Registry, advisor: str) -> Rollout:
    found = active_rollout(registry, advisor)
    assert found is not None
    return found


def answer_jobs(store: Store, rollout: Rollout, advisor: str, **how: Any) -> None:
    made = assigned_jobs(rollout, 400, began=datetime.now(UTC), hours=0.0005, **how)
    store.import_jobs(replace(job, id=f"{advisor}-{job.id}", advisor=advisor) for job in made)


def page_of(machine: RunningPrefect, key: str) -> str:
    with prefect_setup.prefect_client(machine.place) as client:
        pages = [each for each in client.read_artifacts() if each.key == key]
    return str(max(pages, key=lambda each: each.created or datetime.min.replace(tzinfo=UTC)).data)


def events_of(machine: RunningPrefect, advisor: str) -> list[str]:
    """Names of our events about an advisor, as the server has them."""
    resources = [f"mondrian.adapter.{advisor}", f"mondrian.advisor.{advisor}"]
    wanted = {"filter": {"resource": {"id": resources}}}
    with httpx.Client(base_url=machine.place.api, auth=machine.place.basic_auth, trust_env=False) as client:
        found = client.post("/events/filter", json=wanted).raise_for_status().json()["events"]
    return [event["event"] for event in found]


def test_promoted_at_a_fifth_then_advanced_by_the_worker(
    machine: RunningPrefect,
    prefect_here: AbstractContextManager[object],
    settings: Settings,
    registry: Registry,
    store: Store,
    tmp_path: Path,
) -> None:
    first, second = champion_and_candidate(registry, "ro-worker", tmp_path)
    where: dict[str, Any] = {"workspace": str(settings.root), "adapters": str(settings.adapters_root)}
    with prefect_here:
        state = promote_flow(advisor="ro-worker", version=second, plan=PLAN, **where, return_state=True)
    assert state.name == "RolloutStarted" and "begins at 20%" in str(state.message), state
    assert is_scheduled(machine), "a rollout that begins is checked"
    begun = in_force(registry, "ro-worker")
    assert (begun.version, begun.control, begun.share) == (second, first, 0.2)
    answer_jobs(store, begun, "ro-worker")
    run = run_watcher.start_deployment_run(machine.place, "rollout/advance", {"advisor": "ro-worker"})
    seen = run_watcher.follow_flow_run(machine.place, run, lambda _: None)
    assert seen.state == "Completed" and "Advanced from 20% to 100%" in seen.message, seen
    assert active_rollout(registry, "ro-worker") is None and registry.current("ro-worker") == second
    assert not is_scheduled(machine), "without a rollout nothing is left to check"
    last = registry.history("ro-worker")[-1]
    assert (last.event, last.actor, last.detail["share"]) == ("rollout", f"flow:{seen.run}", 1.0)
    assert "Advanced from 20% to 100%" in page_of(machine, "rollout-ro-worker")


def is_scheduled(machine: RunningPrefect) -> bool:
    with prefect_setup.prefect_client(machine.place) as client:
        [schedule] = client.read_deployment_by_name(ROLLOUT_DEPLOYMENT).schedules
    return schedule.active


def test_rollout_that_began_without_a_server_is_scheduled_by_up_and_by_the_service(
    machine: RunningPrefect, settings: Settings, registry: Registry, store: Store, tmp_path: Path
) -> None:
    """The password file is away meanwhile, so nobody reaches the server."""
    _, second = champion_and_candidate(registry, "ro-alone", tmp_path)
    password = auth_string_path(settings)
    away = password.rename(password.with_name("away"))
    request = ManualPromotion(
        settings=settings, advisor="ro-alone", version=second, expected=registry.reference("ro-alone")
    )
    try:
        promote_manually(request, actor="person:test", inspect=lambda _: (), plan=RolloutPlan.from_dict(PLAN))
        assert update_rollout_schedule(settings) is None
    finally:
        away.rename(password)
    assert not is_scheduled(machine)

    assert update_rollout_schedule(settings) is True and is_scheduled(machine), "what `mondrian up` does"
    with prefect_setup.prefect_client(machine.place) as client:
        deployment = client.read_deployment_by_name(ROLLOUT_DEPLOYMENT)
        client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)

    adapters = ActiveAdapters(registry, None, lambda _folder: ())
    guard = RollbackGuard(store, adapters, ignore_events, lambda: activate_rollout_schedule(settings))
    [job] = assigned_jobs(in_force(registry, "ro-alone"), 1, began=datetime.now(UTC))
    guard.check_finished_job(replace(job, advisor="ro-alone"))
    assert is_scheduled(machine), "what a service does that nobody restarts"

    registry.rollback("ro-alone", actor="person:test", reason="by hand")
    assert update_rollout_schedule(settings) is False and not is_scheduled(machine)


def test_held_and_rolled_back_each_with_a_page_and_an_event(
    machine: RunningPrefect,
    prefect_here: AbstractContextManager[object],
    settings: Settings,
    registry: Registry,
    store: Store,
    tmp_path: Path,
) -> None:
    first, second = champion_and_candidate(registry, "ro-here", tmp_path)
    where: dict[str, Any] = {"workspace": str(settings.root), "adapters": str(settings.adapters_root)}
    with prefect_here:
        quiet = rollout_flow(advisor="ro-here", **where, return_state=True)
        assert quiet.name == "NothingToDo"
        promote_flow(advisor="ro-here", version=second, plan=PLAN, **where)
        held = rollout_flow(advisor="ro-here", **where, return_state=True)
        assert held.name == "Held" and "0 of 20 requests" in str(held.message)
        assert "Held at 20%" in page_of(machine, "rollout-ro-here")
        answer_jobs(store, in_force(registry, "ro-here"), "ro-here", failing=lambda ours, number: ours)
        back = rollout_flow(**where, return_state=True)
    assert back.name == "RolledBack" and "answers in a row failed" in str(back.message)
    assert registry.current("ro-here") == first
    assert registry.history("ro-here")[-1].reason in str(back.message)
    page = page_of(machine, "rollout-ro-here")
    assert "Rolled back" in page.splitlines()[0] and "| 20% |" in page
    EventsWorker.drain_all()
    wanted = {"mondrian.adapter.promoted", "mondrian.rollout.held", "mondrian.rollout.rolled-back"}
    wait_until(lambda: wanted <= set(events_of(machine, "ro-here")), f"the events {wanted}")


def test_automatic_rollback_is_reported_once(
    machine: RunningPrefect,
    prefect_here: AbstractContextManager[object],
    settings: Settings,
    registry: Registry,
    store: Store,
    tmp_path: Path,
) -> None:
    first, second = champion_and_candidate(registry, "ro-service", tmp_path)
    where: dict[str, Any] = {"workspace": str(settings.root), "adapters": str(settings.adapters_root)}
    with prefect_here:
        promote_flow(advisor="ro-service", version=second, plan=PLAN, **where)
        begun = in_force(registry, "ro-service")
        answer_jobs(store, begun, "ro-service", failing=lambda ours, number: ours)
        check_rollout(
            registry,
            "ro-service",
            store.jobs("ro-service", since=begun.started),
            actor=SERVICE_ACTOR,
            carry_out="rollback",
        )
        assert registry.current("ro-service") == first
        reported = rollout_flow(advisor="ro-service", **where, return_state=True)
        again = rollout_flow(advisor="ro-service", **where, return_state=True)
    assert reported.name == "RolledBack" and "answers in a row failed" in str(reported.message)
    assert again.name == "NothingToDo"
    page = page_of(machine, "rollout-ro-service")
    assert "Position: rolled back" in page and "| 20% |" in page
    EventsWorker.drain_all()
    wait_until(lambda: "mondrian.rollout.rolled-back" in events_of(machine, "ro-service"), "the event")


def test_a_plan_with_a_mistake_promotes_nobody(
    machine: RunningPrefect,
    prefect_here: AbstractContextManager[object],
    settings: Settings,
    registry: Registry,
    store: Store,
    tmp_path: Path,
) -> None:
    first, second = champion_and_candidate(registry, "ro-plan", tmp_path)
    where: dict[str, Any] = {"workspace": str(settings.root), "adapters": str(settings.adapters_root)}
    with prefect_here:
        done = promote_flow(advisor="ro-plan", version=second, plan={"stepps": []}, **where, return_state=True)
        quiet = promote_flow(advisor="ro-plan", version=second, rollout=True, **where, return_state=True)
    assert done.name == "Failed" and "docs/explanation/rollout.md" in str(done.message)
    assert quiet.name == "RolloutStarted" and "begins in the shadow" in str(quiet.message)
    assert in_force(registry, "ro-plan").control == first


@pytest.mark.mini
def test_a_version_that_does_not_fit_its_base_is_quarantined_instead(
    machine: RunningPrefect,
    prefect_here: AbstractContextManager[object],
    settings: Settings,
    registry: Registry,
    tmp_path: Path,
) -> None:
    """Its hashes and its gates are fine: only the base it names can tell that its keys belong nowhere."""
    from mondrian_core.models.base_model import base_fingerprint

    base = {"name": "mini", "fingerprint": base_fingerprint("mini")}
    version = register(registry, "ro-base", tmp_path / "a", base=base)
    assert load_file(registry.get("ro-base", version).weights) and registry.verify("ro-base", version) == ()
    with prefect_here:
        done = promote_flow(advisor="ro-base", version=version, adapters=str(settings.adapters_root), return_state=True)
    assert done.name == "Failed" and "not a layer of the base" in str(done.message)
    assert registry.get("ro-base", version).state == "quarantined" and registry.current("ro-base") is None
    assert "not a layer of the base" in page_of(machine, "version-ro-base")
