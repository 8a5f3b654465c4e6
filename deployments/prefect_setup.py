"""Set up Prefect's work pool, queues and deployments. All steps are repeatable."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deployments.automations import apply_automations, declared_automations
from deployments.prefect_instance import ACCELERATOR_LIMIT, POOL, ROOT, PrefectInstance
from deployments.prepared_deploy import PreparedDeploy
from mondrian_core.domain_events import EventServer, begin_relay, relay_now
from mondrian_core.errors import PrefectUnavailable
from mondrian_core.rollout import update_rollout_schedule

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

QUEUES = {"control": 1, "serving": 2, "data": 5, "accelerator": 10}  # priority: the lower number goes first
WORKER_TIMEOUT_SECONDS = 180.0  # it takes two seconds on an idle machine
ZOMBIE_AUTOMATION = "mondrian: runs whose process died"
# A run must not change anything about its process. Prefect's own template lets the creator of a run choose command,
# environment and folder. `env` must be absent rather than empty: Prefect merges a run's `env` into an existing one.
# `command`: without one the worker starts Prefect twice, first to prepare a folder for the run and then to run it
# (docs/decisions/0144). A run begins a session of its own, so that what ends the worker's group doesn't end the run.
RUN_COMMAND = """python -c "import os, runpy; os.setsid(); runpy.run_module('prefect.engine', run_name='__main__')\""""
JOB_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"stream_output": True, "command": RUN_COMMAND},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
# Names of earlier releases, with the flow that tells them from a user's deployment of the same name.
FORMER_DEPLOYMENTS = {
    "evaluate/manual": "flows/evaluate.py:evaluate_flow",
    "synthesize/manual": "flows/synthesize.py:synthesize_flow",
}
ACTIVE_STATES = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")


def prefect_client(place: PrefectInstance) -> SyncPrefectClient:
    """A client for this server, with its password. It ignores proxies of the environment."""
    from prefect.client.orchestration import SyncPrefectClient

    return SyncPrefectClient(api=place.api, auth_string=place.auth, httpx_settings={"trust_env": False})


def set_up_prefect(place: PrefectInstance, deploy: PreparedDeploy) -> None:
    """Create or correct the work pool and its queues, apply prefect.yaml and the automations, and send waiting events.

    Raises:
        PrefectUnavailable: prefect.yaml can't be applied.
        BadInput: MONDRIAN_NOTIFICATIONS names no notification block.
    """
    with prefect_client(place) as client:
        _ensure_pool(client)
        _ensure_queues(client)
        deploy.apply()
        _drop_removed_schedules(client)
        _remove_obsolete_limits(client)
        _remove_former_deployments(client)
        flows = {wanted["full_name"].partition("/")[0] for wanted in declared_deployments()}
        apply_automations(client, declared_automations(client, place.settings.notifications, sorted(flows)))
    update_rollout_schedule(place.settings, report_ended=True)
    begin_relay(EventServer(place.api, place.auth))
    relay_now(place.settings, None)


def _ensure_pool(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(POOL)
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=JOB_TEMPLATE))
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=JOB_TEMPLATE))


def _ensure_queues(client: SyncPrefectClient) -> None:
    for name, priority in QUEUES.items():
        ensure_queue(client, name, priority)


def ensure_queue(client: SyncPrefectClient, name: str, priority: int) -> None:
    """Create or correct a work queue; none has a limit."""
    from prefect.exceptions import ObjectNotFound

    try:
        queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
        client.update_work_queue(queue.id, priority=priority, concurrency_limit=None)
    except ObjectNotFound:
        client.create_work_queue(name, work_pool_name=POOL, priority=priority)


def _remove_obsolete_limits(client: SyncPrefectClient) -> None:
    """Remove an automation and concurrency limits that earlier versions created: they end runs that only slept.

    Prefect keeps a deployment's limit after it was deleted from prefect.yaml, so it is removed here.
    """
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.exceptions import ObjectNotFound

    for automation in client.read_automations_by_name(ZOMBIE_AUTOMATION):
        client.delete_automation(automation.id)
    with suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(ACCELERATOR_LIMIT)
    for wanted in declared_deployments():
        if "concurrency_limit" not in wanted:
            deployment = client.read_deployment_by_name(wanted["full_name"])
            if deployment.global_concurrency_limit is not None:
                client.update_deployment(deployment.id, DeploymentUpdate(concurrency_limit=None))


def _remove_former_deployments(client: SyncPrefectClient) -> None:
    """Delete deployments under names of earlier releases, except one with runs that have not ended.

    A deployment that prefect.yaml declares stays, and so does any other deployment of a user.
    """
    from prefect.exceptions import ObjectNotFound

    declared = {wanted["full_name"] for wanted in declared_deployments()}
    for name, entrypoint in FORMER_DEPLOYMENTS.items():
        if name in declared:
            continue
        with suppress(ObjectNotFound):
            deployment = client.read_deployment_by_name(name)
            if deployment.entrypoint == entrypoint and not _has_unfinished_runs(client, deployment.id):
                client.delete_deployment(deployment.id)


def _has_unfinished_runs(client: SyncPrefectClient, deployment: UUID) -> bool:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as OfType
    from prefect.client.schemas.objects import TERMINAL_STATES, StateType

    unfinished = OfType(any_=[each for each in StateType if each not in TERMINAL_STATES])
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    runs = FlowRunFilter(state=FlowRunFilterState(type=unfinished))
    return bool(client.read_flow_runs(flow_run_filter=runs, deployment_filter=chosen, limit=1))


def declared_deployments() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml, with their full name under "full_name"."""
    values = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return [{**value, "full_name": f"{_flow_name(value['entrypoint'])}/{value['name']}"} for value in values]


def _flow_name(entrypoint: str) -> str:
    """The name in the `@flow` decorator, which Prefect reads from the source without importing the flow."""
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


def wait_for_worker(
    place: PrefectInstance, name: str, patience: float = WORKER_TIMEOUT_SECONDS, log: Path | str | None = None
) -> None:
    """Wait until the worker reports to the server, for at most `patience` seconds.

    Args:
        place: the server.
        name: of the worker.
        patience: seconds.
        log: its log, for the error.

    Raises:
        PrefectUnavailable: it did not.
    """
    until = time.monotonic() + patience
    with prefect_client(place) as client:
        while time.monotonic() < until:
            workers = client.read_workers_for_work_pool(POOL)
            if any(worker.name == name and str(worker.status).endswith("ONLINE") for worker in workers):
                return
            time.sleep(0.3)
    raise PrefectUnavailable("The worker did not report to the server.", f"Its log: {log or place.home / 'worker.log'}")


def count_upcoming_runs(place: PrefectInstance, full_name: str, patience: float = 30.0) -> int:
    """Number of runs that a deployment's schedule has created; 0 after `patience` seconds without one.

    With mismatched package versions a schedule looks active but creates no runs, so this counts the runs themselves.
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
