"""The task of `train/dataset`: one attempt at a training that the shared folder describes, on this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger

from mondrian_core.errors import BadInput, MondrianError
from mondrian_core.recipes import recorded_recipe
from mondrian_core.settings import Settings
from mondrian_core.shared_training import (
    SharedTraining,
    TrainingAttempt,
    TrainingRequest,
    TrainingSuperseded,
    fetch_dataset,
    require_shared_folder,
)
from mondrian_core.stages import StageContext, TrainSummary
from tasks.handover import RENEW_SECONDS
from tasks.processes import child_processes, stop_process
from tasks.run_context import CONTEXT_FILE
from tasks.train import train_task


def train_shared(settings: Settings, name: str) -> TrainSummary:
    """Train what the shared folder asks for, from the furthest checkpoint that any machine has saved.

    When another machine takes over, this process ends without a word to the server: the run is that machine's.

    Args:
        settings: of this machine.
        name: of the training (`TrainingRequest.name`).

    Raises:
        BadInput: the shared folder, the request or this machine's base model don't fit.
    """
    shared, logger = require_shared_folder(settings.shared), get_run_logger()
    training = SharedTraining(shared, name)
    request = training.read_request()
    run_folder = settings.run_folder(request.run)
    attempt = training.begin_attempt(settings.machine_name)
    try:
        with _published(attempt, run_folder):
            context_file = _prepare(settings, shared, request)
            step = training.restore_checkpoint(run_folder, attempt.number)
            begin = f"from step {step} of a checkpoint" if step >= 0 else "from the start"
            logger.info("Attempt %d on %s, %s.", attempt.number, attempt.machine, begin)
            summary = train_task(context_file)
        attempt.finish(run_folder)
    except TrainingSuperseded as superseded:
        logger.warning("%s This machine stops.", superseded)
        os._exit(0)  # the state of the run is the successor's to set
    return summary


def _prepare(settings: Settings, shared: Path, request: TrainingRequest) -> Path:
    """The run folder of this machine, with a context for the request; gives the context's file."""
    from mondrian_core.models.base_model import base_fingerprint  # loads MLX

    if base_fingerprint(settings.base) != request.base:
        raise BadInput(
            f"The base model of this machine, {settings.base}, is not the one that '{request.advisor}' is trained on.",
            "Set MONDRIAN_BASE_MODEL to the same model on every machine, and run `mondrian up` again.",
        )
    dataset = fetch_dataset(shared, request.advisor, request.dataset, settings.root / "datasets")
    context = StageContext(
        workspace=str(settings.root),
        adapters=str(settings.adapters_root),
        base_model=settings.base,
        advisor=request.advisor,
        run=request.run,
        recipe=recorded_recipe(request.recipe, "the request"),
        actor="flow",
        dataset=str(dataset),
    )
    path = context.run_folder / CONTEXT_FILE
    if not path.is_file():  # on the data machine the retraining's own context stays
        context.save(path)
    return path


@contextmanager
def _published(attempt: TrainingAttempt, run_folder: Path) -> Iterator[None]:
    """Publish checkpoints and signs of life inside the block, from a thread.

    A share that doesn't answer for a while stops nothing here; the retraining decides whether this machine is gone.

    Raises:
        TrainingSuperseded: another machine has taken over.
    """
    logger, done, lost = get_run_logger(), threading.Event(), threading.Event()

    def publish() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                attempt.renew()
                attempt.publish(run_folder)
            except TrainingSuperseded:
                lost.set()
                for process in child_processes(os.getpid()):
                    stop_process(process)
                return
            except (OSError, MondrianError) as error:
                logger.warning("The shared folder can't be written: %s", error)

    attempt.renew()
    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    except MondrianError:
        if lost.is_set():
            attempt.renew()  # raises the reason
        raise
    finally:
        done.set()
        thread.join()
