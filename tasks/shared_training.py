"""The task of `train/dataset`: one attempt at a training that the shared folder describes, on this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prefect import get_run_logger

from mondrian_core.errors import BadInput, MondrianError
from mondrian_core.settings import Settings
from mondrian_core.shared_storage.publication import SharedStorage
from mondrian_core.shared_storage.runs import fetch_run
from mondrian_core.shared_training import (
    SharedTraining,
    TrainingAttempt,
    TrainingRequest,
    TrainingSuperseded,
    require_shared_folder,
)
from mondrian_core.stages import StageContext, TrainSummary
from tasks.handover import RENEW_SECONDS
from tasks.processes import child_processes, stop_process
from tasks.reporting import log_listener
from tasks.run_context import CONTEXT_FILE
from tasks.train import train_task


def train_shared(settings: Settings, name: str) -> TrainSummary:
    """Train what the shared folder asks for, from the furthest checkpoint that any machine has saved.

    When another machine takes over, this process ends and sets no state: the run is that machine's.

    Args:
        settings: of this machine.
        name: of the training (`TrainingRequest.name`).

    Raises:
        BadInput: the shared folder, the request or this machine's base model don't fit.
    """
    training, logger = SharedTraining(require_shared_folder(settings.shared), name), get_run_logger()
    request = training.read_request()
    attempt = training.begin_attempt(settings.machine_name)
    logger.info("Attempt %d, on %s.", attempt.number, attempt.machine)
    try:
        with _signs_of_life(attempt):
            summary = train_task(_fetch_context(settings, request))
    except TrainingSuperseded as superseded:
        logger.warning("%s This machine stops.", superseded)
        os._exit(0)  # the state of the run is the successor's to set
    return summary


def _fetch_context(settings: Settings, request: TrainingRequest) -> Path:
    """Bring the run into this workspace; gives the file with its context, which has this machine's paths."""
    from mondrian_core.models.base_download import fetch_base
    from mondrian_core.models.base_model import base_fingerprint  # loads MLX

    fetch_base(settings.base, log_listener())
    if base_fingerprint(settings.base) != request.base:
        raise BadInput(
            f"The base model of this machine, {settings.base}, is not the one that '{request.advisor}' is trained on.",
            "Set MONDRIAN_BASE_MODEL to the same model on every machine, and run `mondrian up` again.",
        )
    if "data" not in settings.roles:  # the data machine has the run already
        fetch_run(SharedStorage(str(settings.shared_root)), settings.root, request.run)
    path = settings.run_folder(request.run) / CONTEXT_FILE
    context = StageContext.load(path)
    own = replace(context, adapters=str(settings.adapters_root), base_model=settings.base)
    if own != context:
        own.save(path)
    return path


@contextmanager
def _signs_of_life(attempt: TrainingAttempt) -> Iterator[None]:
    """Give signs of life inside the block, from a thread.

    A share that doesn't answer for a while stops nothing here; the retraining decides whether this machine is gone.

    Raises:
        TrainingSuperseded: another machine has taken over.
    """
    logger, done, lost = get_run_logger(), threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                attempt.renew()
            except TrainingSuperseded:
                lost.set()
                for process in child_processes(os.getpid()):
                    stop_process(process)
                return
            except (OSError, MondrianError) as error:
                logger.warning("The shared folder can't be written: %s", error)

    attempt.renew()
    thread = threading.Thread(target=renew, daemon=True)
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
