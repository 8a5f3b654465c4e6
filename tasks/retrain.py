"""Checks before a retraining: skip overdue or concurrent runs, require changed inputs, choose the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext

from mondrian_core import stages
from mondrian_core.errors import NegativeOutcome
from mondrian_core.stages import StageContext
from tasks.reporting import log_listener
from tasks.server_time import server_time

SKIPPED = "Skipped"
OVERDUE_AFTER = timedelta(minutes=2)  # a due run starts within seconds, so the machine was off or asleep


class RetrainSkipped(NegativeOutcome):
    """Another run does the work of this one."""


def current_flow_run() -> FlowRun | None:
    """The current flow run as the server knows it; None outside a flow run."""
    found = FlowRunContext.get()
    return found.flow_run if found else None


def skip_if_superseded() -> None:
    """End an overdue run when a later one with the same parameters is due too: the latest does the work once.

    Raises:
        RetrainSkipped: names the later run.
    """
    run = current_flow_run()
    if run is None or run.deployment_id is None or run.expected_start_time is None:
        return
    with get_client(sync_client=True) as client:
        now = server_time(client)
    if now - run.expected_start_time < OVERDUE_AFTER:
        return
    place = (run.expected_start_time, str(run.id))
    for other in _due_since(run.deployment_id, run.expected_start_time, now):
        if other.parameters == run.parameters and (other.expected_start_time, str(other.id)) > place:
            raise RetrainSkipped(
                f"Due at {run.expected_start_time:%Y-%m-%d %H:%M} UTC; {other.name} was due later, and retrains."
            )


def _due_since(deployment_id: Any, begin: datetime, end: datetime) -> list[FlowRun]:
    """Runs of a deployment that were due in that time and are not skipped or failed."""
    from prefect.client.schemas import filters

    chosen = filters.FlowRunFilter(
        expected_start_time=filters.FlowRunFilterExpectedStartTime(after_=begin, before_=end),  # type: ignore[arg-type]
        state=filters.FlowRunFilterState(
            type=filters.FlowRunFilterStateType(
                any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
            )
        ),
    )
    of = filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[deployment_id]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=chosen, deployment_filter=of)
    return [each for each in found if each.state is not None and each.state.name != SKIPPED]


@contextmanager
def exclusive_retraining(context_file: Path) -> Iterator[None]:
    """One retraining of an advisor at a time: a scheduled run is skipped while another runs, any other waits.

    Raises:
        RetrainSkipped: this run was scheduled, and another one is running.
    """
    context, run = StageContext.load(context_file), current_flow_run()
    lock: FileLock = stages.retraining_lock(context)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if run is not None and run.auto_scheduled:
            raise RetrainSkipped(f"Another retraining of '{context.advisor}' is running.") from None
        get_run_logger().warning("Another retraining of '%s' is running; waiting for it.", context.advisor)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def choose_run_recipe(context_file: Path) -> None:
    """Choose the recipe by the number of critiques, for a run without a chosen recipe."""
    stages.choose_recipe_by_size(StageContext.load(context_file), log_listener())


def require_changed_run_inputs(context_file: Path) -> None:
    """End a run that would only repeat the last retraining.

    Raises:
        NothingNewToTrain: names the version that was trained on the same inputs.
    """
    stages.require_changed_inputs(StageContext.load(context_file), log_listener())
