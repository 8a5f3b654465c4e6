"""What the server must know: pool, queues, deployments; which runs have ended. Each step may be repeated."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from deployments.prefect_instance import ACCELERATOR_LIMIT, POOL, ROOT, PrefectInstance
from mondrian_core.errors import PrefectUnavailable
from tasks import liveness

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

QUEUES = {"control": 1, "accelerator": 10}  # priority: the lower number goes first
ZOMBIE_AUTOMATION = "mondrian: runs whose process died"
# What a run may change about its process: nothing. Prefect's own template lets whoever creates a run choose command,
# environment and folder. `env` must be missing, not empty: a run's would be merged into a dictionary that is there.
JOB_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"stream_output": True},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
ACTIVE_STATES = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")
START_TIMEOUT_SECONDS = 120.0  # from the worker's taking a run to its mark; seconds, on a busy machine more


def prefect_client(place: PrefectInstance) -> SyncPrefectClient:
    """A client for the server of that place, with its password; proxies of the environment are left alone."""
    from prefect.client.orchestration import SyncPrefectClient

    return SyncPrefectClient(api=place.api, auth_string=place.auth, httpx_settings={"trust_env": False})


def set_up_prefect(place: PrefectInstance) -> None:
    """Make pool and queues as they should be, then apply prefect.yaml.

    Raises:
        PrefectUnavailable: when prefect.yaml can't be applied.
    """
    with prefect_client(place) as client:
        _ensure_pool(client)
        _ensure_queues(client)
        deploy_all(place)
        _drop_removed_schedules(client)
        _remove_obsolete_limits(client)


def _ensure_pool(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(POOL)
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=JOB_TEMPLATE))
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=JOB_TEMPLATE))


def _ensure_queues(client: SyncPrefectClient) -> None:
    from prefect.exceptions import ObjectNotFound

    for name, priority in QUEUES.items():
        try:
            queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
            client.update_work_queue(queue.id, priority=priority, concurrency_limit=None)
        except ObjectNotFound:
            client.create_work_queue(name, work_pool_name=POOL, priority=priority)


def _remove_obsolete_limits(client: SyncPrefectClient) -> None:
    """Remove what earlier versions set up, and what ends a run that only slept: the automation, limits with leases.

    Prefect keeps a deployment's limit when prefect.yaml has none any more, so it is taken off here.
    """
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.exceptions import ObjectNotFound

    for each in client.read_automations_by_name(ZOMBIE_AUTOMATION):
        client.delete_automation(each.id)
    with suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(ACCELERATOR_LIMIT)
    for wanted in declared_deployments():
        if "concurrency_limit" not in wanted:
            deployment = client.read_deployment_by_name(wanted["full_name"])
            if deployment.global_concurrency_limit is not None:
                client.update_deployment(deployment.id, DeploymentUpdate(concurrency_limit=None))


def deploy_all(place: PrefectInstance) -> None:
    """`prefect deploy --all` in the repository."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        text=True,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        told = " ".join((done.stdout + done.stderr).split())[-600:]
        raise PrefectUnavailable(f"prefect.yaml could not be applied: {told}", "Mend it and run `make up` again.")


def declared_deployments() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml, with their full name under "full_name"."""
    values = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return [{**value, "full_name": f"{_flow_name(value['entrypoint'])}/{value['name']}"} for value in values]


def _flow_name(entrypoint: str) -> str:
    """The name that the `@flow` decorator gives, read from the source: Prefect's own reader, nothing is imported."""
    from prefect.flows import load_flow_arguments_from_entrypoint

    return str(load_flow_arguments_from_entrypoint(str(ROOT / entrypoint), {"name"})["name"])


def _drop_removed_schedules(client: SyncPrefectClient) -> None:
    """Delete schedules that are no longer in prefect.yaml: Prefect keeps them active."""
    for wanted in declared_deployments():
        deployment = client.read_deployment_by_name(wanted["full_name"])
        slugs = {schedule["slug"] for schedule in wanted.get("schedules", [])}
        for schedule in deployment.schedules:
            if schedule.slug not in slugs and schedule.id is not None:
                client.delete_deployment_schedule(deployment.id, schedule.id)


def wait_for_worker(place: PrefectInstance, name: str, patience: float = 60.0) -> None:
    """Until the worker says it is there.

    Raises:
        PrefectUnavailable: when it doesn't.
    """
    until = time.monotonic() + patience
    with prefect_client(place) as client:
        while time.monotonic() < until:
            workers = client.read_workers_for_work_pool(POOL)
            if any(worker.name == name and str(worker.status).endswith("ONLINE") for worker in workers):
                return
            time.sleep(0.3)
    raise PrefectUnavailable("The worker did not report to the server.", f"Its log: {place.home / 'worker.log'}")


def count_upcoming_runs(place: PrefectInstance, full_name: str, patience: float = 30.0) -> int:
    """Runs that the schedule of a deployment has made; 0 after `patience` seconds.

    With mismatched packages the schedule looks active while no run is ever made, so this looks for the runs themselves.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as OfType
    from prefect.client.schemas.objects import StateType

    scheduled = FlowRunFilter(state=FlowRunFilterState(type=OfType(any_=[StateType.SCHEDULED])))
    until = time.monotonic() + patience
    with prefect_client(place) as client:
        deployment = client.read_deployment_by_name(full_name)
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        while not (found := client.read_flow_runs(flow_run_filter=scheduled, deployment_filter=chosen)):
            if time.monotonic() > until:
                return 0
            time.sleep(1.0)
    return len(found)


def active_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Runs that a worker holds."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as OfType
    from prefect.client.schemas.objects import StateType

    states = OfType(any_=[StateType(name) for name in ACTIVE_STATES])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)))


def end_dead_runs(place: PrefectInstance, reason: str, *, worker_stopped: bool = False) -> list[str]:
    """Call runs crashed whose process is gone, and let those begin again that never began; gives their names.

    A run whose process lives, awake or asleep, stays as it is; so does one that waits for a person.

    Args:
        worker_stopped: no worker is left that could still be starting a process.
    """
    ended = []
    with prefect_client(place) as client:
        for run in active_runs(client):
            state = _state_for_dead_run(place, run, reason, worker_stopped)
            if state is not None:
                client.set_flow_run_state(run.id, state, force=True)
                ended.append(run.name)
    liveness.remove_stale_run_locks(place.home)
    return ended


def _state_for_dead_run(place: PrefectInstance, run: FlowRun, reason: str, worker_stopped: bool) -> State[Any] | None:
    """What a run without a process becomes; None for one that is to be left alone."""
    from prefect.states import Cancelled, Crashed, Scheduled

    ours = run.work_pool_name == POOL  # not one that a person started as a script
    if not ours or run.state is None or run.state.is_paused() or liveness.is_run_alive(place.home, run.id):
        return None
    begun = liveness.has_run_lock_file(place.home, run.id)
    age = (datetime.now(UTC) - run.state.timestamp).total_seconds()
    if not begun and not worker_stopped and age < START_TIMEOUT_SECONDS:
        return None
    if run.state.is_cancelling():
        return Cancelled(message=reason)
    if run.state.is_pending() and not begun:
        return Scheduled(message=f"{reason} It had not begun and begins again.")
    return Crashed(message=f"{reason} Run it again; what was complete is in its folder under runs/.")
