"""Train on whichever machine has a free accelerator, and hand a training over when its machine is gone.

The retraining runs where the database is. With a shared folder (MONDRIAN_SHARED) its training is a flow run of its own,
`train/dataset`, which any machine with an accelerator takes. The retraining watches the sign of life of that machine
(mondrian_core/shared_training.py) and schedules the run again when it stays away; the next machine continues from the
last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from mondrian_core.errors import Broken
from mondrian_core.settings import Settings
from mondrian_core.shared_storage.runs import RunTakenOver, publish_run, take_back_run
from mondrian_core.shared_training import (
    AttemptSign,
    SharedTraining,
    TrainingRequest,
    require_shared_folder,
)
from mondrian_core.stages import DatasetSummary, StageContext, TrainSummary, read_stage_summary
from tasks.reporting import log_listener
from tasks.retrain import current_flow_run
from tasks.train import publish_training_page, train_task

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

TRAIN_DEPLOYMENT = "train/dataset"
HANDED_OVER = "HandedOver"
RENEW_SECONDS = 10.0
LEASE_SECONDS = 90.0  # without a sign of life the machine counts as gone
POLL_SECONDS = 2.0
LONG_WAIT_SECONDS = 600.0  # between two warnings that no machine takes a training
MAX_ATTEMPTS = 5


def train_on_free_machine(context_file: Path) -> TrainSummary:
    """Train here; with a shared folder, on any machine with a free accelerator."""
    if Settings().shared_folder is None:
        return train_task(context_file)
    return train_elsewhere_task(context_file)


@task(name="train", cache_policy=NO_CACHE)
def train_elsewhere_task(context_file: Path) -> TrainSummary:
    """Publish the dataset, let a machine train, and bring the result into this run's folder.

    Raises:
        Broken: the training failed, was canceled, or lost its machine too often.
    """
    from mondrian_core.models.base_download import fetch_base
    from mondrian_core.models.base_model import base_fingerprint

    context, shared = StageContext.load(context_file), require_shared_folder(Settings().shared)
    storage = context.shared_storage()
    assert storage is not None
    fetch_base(context.base_model, log_listener())
    request = TrainingRequest(
        context.advisor,
        context.run,
        read_stage_summary(context, "dataset", DatasetSummary).digest,
        base_fingerprint(context.base_model),
    )
    training = SharedTraining(shared, request.name)
    training.publish_request(request)
    with suppress(RunTakenOver):  # the training has published more already, and this retraining was interrupted
        publish_run(storage, context.run_folder)  # with its dataset
    with _cancel_together() as started:
        follow_training(training, started)
    take_back_run(storage, context.run_folder)
    summary = read_stage_summary(context, "train", TrainSummary)
    publish_training_page(context, summary)
    return summary


@dataclass
class _ChildRun:
    """The flow run of the training, once it was started."""

    run: UUID | None = None


@contextmanager
def _cancel_together() -> Iterator[_ChildRun]:
    """Cancel the training when its retraining is canceled; when the retraining only stops, the training goes on."""
    started = _ChildRun()
    try:
        yield started
    except BaseException:
        parent = current_flow_run()
        if started.run is not None and parent is not None:
            from prefect.states import Cancelling

            with get_client(sync_client=True) as client:
                state = client.read_flow_run(parent.id).state
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    client.set_flow_run_state(started.run, Cancelling())
        raise


def follow_training(training: SharedTraining, started: _ChildRun) -> None:
    """Start the training's run, or find the one that runs, and follow it to its end.

    Raises:
        Broken: it failed, was canceled, or lost its machine `MAX_ATTEMPTS` times.
    """
    watched, waits_since = TrainingWatch(), time.monotonic()
    began = _start_run(training.read_request())
    started.run = began.id
    with get_client(sync_client=True) as client:
        while True:
            child = client.read_flow_run(began.id)
            if child.state is not None and child.state.is_completed():
                return
            if watched.machine_is_gone(child.state, training.sign()):
                if watched.attempts >= MAX_ATTEMPTS:
                    raise Broken(f"The training lost its machine {MAX_ATTEMPTS} times.", "The logs of its run say why.")
                reason = f"{watched.machine or 'Its machine'} gave no sign of life."
                get_run_logger().warning("%s Another machine continues the training.", reason)
                client.set_flow_run_state(child.id, handed_over_state(reason), force=True)
            elif child.state is not None and child.state.is_final():
                raise Broken(
                    f"The training ended as {child.state.name}: {child.state.message or 'without a message'}",
                    "Run the retraining again.",
                )
            elif child.state is None or not child.state.is_scheduled():
                waits_since = time.monotonic()
            elif time.monotonic() - waits_since > LONG_WAIT_SECONDS:
                get_run_logger().warning("No machine has taken the training yet; `mondrian doctor` shows the workers.")
                waits_since = time.monotonic()
            time.sleep(POLL_SECONDS)


def _start_run(request: TrainingRequest) -> FlowRun:
    """The run of this training: the same one when the retraining itself was interrupted and is run again."""
    parameters = {"advisor": request.advisor, "training": request.name}
    for number in range(1, 100):
        found = run_deployment(
            TRAIN_DEPLOYMENT,
            parameters=parameters,
            timeout=0,
            flow_run_name=f"train {request.run}",
            idempotency_key=f"train-{request.name}-{number}",
        )
        assert isinstance(found, FlowRun)  # outside of a coroutine
        if found.state is None or not (found.state.is_failed() or found.state.is_cancelled()):
            return found
    raise Broken("This training failed 99 times.", "Start another retraining.")


@dataclass
class TrainingWatch:
    """Decides whether the machine of a training is gone, by its signs of life and the clock of this process alone."""

    attempts: int = 1
    machine: str = ""
    last: AttemptSign = field(default_factory=AttemptSign)
    changed: float = field(default_factory=time.monotonic)

    def machine_is_gone(self, state: State[Any] | None, sign: AttemptSign, now: float | None = None) -> bool:
        """True when the run crashed, or was taken and its machine has been silent for `LEASE_SECONDS`."""
        now = time.monotonic() if now is None else now
        taken = state is not None and (state.is_running() or state.is_pending())
        if sign != self.last or not taken:
            self.last, self.machine, self.changed = sign, sign.machine, now
        gone = (state is not None and state.is_crashed()) or (taken and now - self.changed > LEASE_SECONDS)
        if gone:
            self.attempts, self.changed = self.attempts + 1, now
        return gone


def handed_over_state(reason: str) -> State[Any]:
    """The state of a run that another machine continues."""
    from prefect.states import Scheduled

    return Scheduled(name=HANDED_OVER, message=f"{reason} Another machine continues it from the last checkpoint.")
