"""End the flow runs whose process is gone: crashed on a lone machine, handed to another one where there are several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.machines import registered_machines
from deployments.prefect_instance import POOL, PrefectInstance
from deployments.prefect_setup import ACTIVE_STATES, prefect_client
from tasks import liveness
from tasks.server_time import server_time

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

START_TIMEOUT_SECONDS = (
    120.0  # from a worker's claim of a run to the run's lock file; a second or two on an idle machine
)


def active_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Runs that a worker has claimed and that have not ended."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as OfType
    from prefect.client.schemas.objects import StateType

    states = OfType(any_=[StateType(name) for name in ACTIVE_STATES])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)))


def end_dead_runs(place: PrefectInstance, reason: str, *, worker_stopped: bool = False) -> list[str]:
    """Mark runs whose process is gone as crashed, and reschedule those that never started; returns their names.

    A run whose process exists, awake or asleep, is left alone. One that waited for a person here, and whose process is
    gone, begins again and asks again. With several machines only runs that began here are looked at, and a retraining
    is scheduled again: whichever machine has a free accelerator continues it.

    Args:
        place: the server and the home of its runs.
        reason: message of the new state.
        worker_stopped: no worker is left that could still be starting a process.
    """
    ended = []
    with prefect_client(place) as client:
        several = place.shared_url is not None or len(registered_machines(client)) > 1
        resumable = _resumable_deployments(client) if several else frozenset()
        now = server_time(client)
        for run in active_runs(client):
            age = (now - run.state.timestamp).total_seconds() if run.state is not None else 0.0
            if several and not _is_ours(place, run, age):
                continue
            may_start = not worker_stopped and age < START_TIMEOUT_SECONDS
            state = _state_for_dead_run(place, run, reason, may_start=may_start)
            if state is not None and state.is_crashed() and run.deployment_id in resumable:
                from tasks.handover import handed_over_state

                state = handed_over_state(reason)
            if state is not None:
                client.set_flow_run_state(run.id, state, force=True)
                ended.append(run.name)
    liveness.remove_stale_run_locks(place.home)
    return ended


def _is_ours(place: PrefectInstance, run: FlowRun, age: float) -> bool:
    """True for a run that began on this machine, and for one that a worker claimed `age` seconds ago in vain."""
    if liveness.has_run_lock_file(place.home, run.id):
        return True
    return run.state is not None and run.state.is_pending() and age >= START_TIMEOUT_SECONDS


def _resumable_deployments(client: SyncPrefectClient) -> frozenset[UUID]:
    from tasks.handover import TRAIN_DEPLOYMENT  # imports Prefect, which a command does after set_prefect_home

    return frozenset(client.read_deployment_by_name(name).id for name in ("retrain/scheduled", TRAIN_DEPLOYMENT))


def _state_for_dead_run(place: PrefectInstance, run: FlowRun, reason: str, *, may_start: bool) -> State[Any] | None:
    """The new state of a run without a process; None when the run must be left alone, as one that may be starting."""
    from prefect.states import Cancelled, Crashed, Scheduled

    ours = run.work_pool_name == POOL  # a run that a person started as a script has no pool
    if not ours or run.state is None or liveness.is_run_alive(place.home, run.id):
        return None
    started = liveness.has_run_lock_file(place.home, run.id)
    if run.state.is_paused():  # nobody would read the answer
        return Scheduled(message=f"{reason} It waited for an answer and asks again.") if started else None
    if not started and may_start:
        return None
    if run.state.is_cancelling():
        return Cancelled(message=reason)
    if run.state.is_pending() and not started:
        return Scheduled(message=f"{reason} It had not started and begins again.")
    return Crashed(message=f"{reason} Run it again; completed stages are kept in its folder under runs/.")
