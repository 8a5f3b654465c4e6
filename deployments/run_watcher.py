"""Follow a flow run through the API of the Prefect server: states of its stages and progress of the current one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from deployments.prefect_instance import PrefectInstance
from deployments.prefect_setup import prefect_client

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POLL_SECONDS = 1.0
TASK_END_TIMEOUT_SECONDS = 10.0
FINAL_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True, kw_only=True)
class FlowRunStatus:
    """A snapshot of a run. `stages`: state by task name, in order of start; `percent` (0-100) and `detail` by stage."""

    run: str
    state: str
    message: str
    final: bool
    stages: dict[str, str] = field(default_factory=dict)
    percent: dict[str, float] = field(default_factory=dict)
    detail: dict[str, str] = field(default_factory=dict)


def start_deployment_run(place: PrefectInstance, full_name: str, parameters: dict[str, Any]) -> UUID:
    """Create a run of a deployment and return its ID; the worker picks it up.

    Prefect's client sends a request again whose answer doesn't come in time, although the server may have created the
    run. The key makes the server return that run to the second request.
    """
    with prefect_client(place) as client:
        deployment = client.read_deployment_by_name(full_name)
        return client.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, idempotency_key=uuid4().hex
        ).id


def follow_flow_run(place: PrefectInstance, run: UUID, show: Callable[[FlowRunStatus], object]) -> FlowRunStatus:
    """Poll every second until the run has ended, calling `show` each time; returns the last snapshot.

    The server records the ends of tasks shortly after the end of their run, so the last snapshot waits for them.
    """
    with prefect_client(place) as client:
        ended = None
        while True:
            seen = read_flow_run_status(client, run)
            show(seen)
            ended = ended or (time.monotonic() if seen.final else None)
            settled = all(state in FINAL_STATES for state in seen.stages.values())
            if ended and (settled or time.monotonic() - ended > TASK_END_TIMEOUT_SECONDS):
                return seen
            time.sleep(POLL_SECONDS)


def read_flow_run_status(client: SyncPrefectClient, run: UUID) -> FlowRunStatus:
    """Read a snapshot of a run."""
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        ArtifactFilterType,
        FlowRunFilter,
        FlowRunFilterId,
    )

    flow_run = client.read_flow_run(run)
    state = flow_run.state
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    started = sorted((task for task in tasks if task.start_time), key=lambda task: task.start_time)  # type: ignore[arg-type,return-value]
    bars = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            type=ArtifactFilterType(any_=["progress"]), flow_run_id=ArtifactFilterFlowRunId(any_=[run])
        )
    )
    shown = [str(bar.description or "").partition(": ") for bar in bars]
    return FlowRunStatus(
        run=flow_run.name,
        state=state.name or "" if state else "",
        message=state.message or "" if state else "",
        final=bool(state and state.is_final()),
        stages={_stage(task.name): task.state.type.value if task.state else "" for task in started},
        percent={stage: _number(bar.data) for (stage, _, _), bar in zip(shown, bars, strict=True)},
        detail={stage: text for stage, _, text in shown},
    )


def _stage(task_name: str) -> str:
    """ "train-3f2" -> "train": Prefect appends a few digits to a task's name."""
    return task_name.rpartition("-")[0] or task_name


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
