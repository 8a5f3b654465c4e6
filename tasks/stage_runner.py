"""One accelerator, one job: a stage runs in a process of its own, behind the machine's lock, and is ended with its run.

Why a process: a crash in native code, a time-out or a cancel then ends it and nothing else. It stays in the process
group of the run, so a cancel reaches it too; its output goes to a file in the run folder, because a child that keeps
the run's pipe open would hide the run's own crash from the worker. The lock is that of
`mondrian_core.accelerator_lock`, which commands and services take too; its descriptor is handed to the child, so it stays
taken while the child lives, even when the run was killed. No limit of Prefect's is around it: a lease that lapses while
the machine sleeps would end the run (docs/decisions/0073).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mondrian_core.accelerator_lock import STAGE_MODULE, accelerator_lock_path, hold_work_lock, write_lock_holder
from mondrian_core.errors import (
    BadInput,
    Broken,
    DiskFull,
    ModelProcessDied,
    MondrianError,
    NegativeOutcome,
    translate_foreign_errors,
)
from mondrian_core.events import EventListener, StageEvent, StageFinished, StageNotice, StageProgressed, StageStarted
from mondrian_core.files import read_json
from mondrian_core.stage_process import DISK_FULL_STATUS
from mondrian_core.stages import StageContext

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.3
GRACE_SECONDS = 10.0

EVENT_TYPES: dict[str, type[StageStarted | StageProgressed | StageFinished | StageNotice]] = {
    kind.__name__: kind for kind in (StageStarted, StageProgressed, StageFinished, StageNotice)
}


def run_on_accelerator(stage: str, context_file: Path, *, timeout: float, listen: EventListener) -> None:
    """Run one stage as a process once the accelerator is free; `timeout` seconds count from its start.

    Raises:
        ModelProcessDied: when the process was killed or crashed.
        MondrianError: what the stage itself reported.
    """
    context = StageContext.load(context_file)

    def waiting(message: str) -> None:
        listen(StageNotice(stage, message))

    with hold_work_lock(accelerator_lock_path(), waiting, f"{stage} of {context.advisor}") as lock:
        run_stage_process(stage, context_file, context.run_folder, lock=lock, timeout=timeout, listen=listen)


def run_stage_process(
    stage: str,
    context_file: Path,
    run_folder: Path,
    *,
    lock: int,
    timeout: float,
    listen: EventListener,
    program: Sequence[str] = (sys.executable, "-m", STAGE_MODULE),
) -> None:
    """`python -m mondrian_core.stage_process` from start to end; it never outlives this call."""
    log = run_folder / f"{stage}.log"
    offset = log.stat().st_size if log.exists() else 0
    with translate_foreign_errors(log), log.open("ab") as output:
        child = subprocess.Popen(
            [*program, stage, str(context_file), str(lock)],
            cwd=ROOT,
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        write_lock_holder(lock, f"{stage} of {run_folder.name}", pid=child.pid, run_pid=os.getpid())
        _follow_output(child, log, offset, time.monotonic() + timeout, listen)
    finally:
        terminate_child(child)
    if child.returncode:
        raise stage_process_error(stage, child.returncode, run_folder)


def _follow_output(
    child: subprocess.Popen[bytes], log: Path, offset: int, deadline: float, listen: EventListener
) -> None:
    """Turn the lines that the process writes into events until it ends.

    Raises:
        Broken: after the deadline.
    """
    rest = b""
    while True:
        ended = child.poll() is not None
        with log.open("rb") as stream:
            stream.seek(offset)
            fresh = stream.read()
        offset += len(fresh)
        *lines, rest = (rest + fresh).split(b"\n")
        for line in lines:
            event = parse_event_line(line)
            if event is not None:
                listen(event)
        if ended:
            return
        if time.monotonic() > deadline:
            raise Broken(f"{log.stem} took longer than it may and was ended.", f"Its output so far is in {log}.")
        time.sleep(POLL_SECONDS)


def parse_event_line(line: bytes) -> StageEvent | None:
    """The event that a line of a stage process carries; None for anything else it prints."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = EVENT_TYPES[values.pop("event")]
        return kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def terminate_child(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then insist."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def stage_process_error(stage: str, status: int, run_folder: Path) -> MondrianError:
    """What a stage that ended with this status has to say."""
    log = run_folder / f"{stage}.log"
    if status < 0:
        name = signal.Signals(-status).name
        memory = "; the system may have been out of memory" if -status == signal.SIGKILL else ""
        return ModelProcessDied(
            f"The process of the stage '{stage}' was ended by {name}{memory}.", f"Its output: {log}."
        )
    if status == DISK_FULL_STATUS:
        return DiskFull(run_folder)
    kind = {1: NegativeOutcome, 2: BadInput, 3: Broken}.get(status, ModelProcessDied)
    try:
        told = read_json(run_folder / f"{stage}.error.json")
    except (FileNotFoundError, ValueError):
        return ModelProcessDied(
            f"The process of the stage '{stage}' ended with status {status}.", f"Its output: {log}."
        )
    return kind(told["problem"], told["next_step"])
