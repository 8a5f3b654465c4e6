"""Run a stage in a process of its own, under the machine's accelerator lock, and end it with its flow run.

A crash in native code, a timeout or a cancellation then ends the stage and nothing else. The process stays in the
process group of the run, so a cancellation reaches it too. Its output goes to a file in the run folder: a child that
kept the run's pipe open would hide a crash of the run from the worker. The lock is the one of
`mondrian_core.accelerator_lock`, which commands and services take too; the child inherits its descriptor, so it stays
locked while the child lives, even when the run was killed. No Prefect concurrency limit surrounds it: a lease that
expires while the machine sleeps would end the run (docs/decisions/0073).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.accelerator_lock import STAGE_MODULE, accelerator_lock_path, hold_work_lock, write_lock_holder
from mondrian_core.errors import (
    Broken,
    DiskFull,
    ModelProcessDied,
    MondrianError,
    error_with_status,
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
    """Run one stage in a process once the accelerator is free; `timeout` seconds count from its start.

    Raises:
        ModelProcessDied: when the process was killed or crashed.
        MondrianError: the error that the stage reported.
    """
    context = StageContext.load(context_file)

    def waiting(message: str) -> None:
        listen(StageNotice(stage, message))

    with hold_work_lock(accelerator_lock_path(), waiting, f"{stage} of {context.advisor}") as lock:
        process = StageProcess(stage=stage, context_file=context_file, run_folder=context.run_folder, timeout=timeout)
        run_stage_process(process, lock=lock, listen=listen)


@dataclass(frozen=True, kw_only=True)
class StageProcess:
    """A stage to run in a process.

    Attributes:
        stage: name of the stage.
        context_file: its `StageContext`.
        run_folder: folder for its output and its error.
        timeout: seconds until the process is stopped.
        program: the command before the stage's name.
    """

    stage: str
    context_file: Path
    run_folder: Path
    timeout: float
    program: Sequence[str] = (sys.executable, "-m", STAGE_MODULE)

    @property
    def log(self) -> Path:
        """File with its output."""
        return self.run_folder / f"{self.stage}.log"


def run_stage_process(process: StageProcess, *, lock: int, listen: EventListener) -> None:
    """Run a stage process to its end; the process never outlives this call.

    Args:
        process: what to run.
        lock: descriptor of the accelerator lock, which the process inherits.
        listen: receives the stage's events.

    Raises:
        Broken: it exceeded the time limit.
        MondrianError: as `stage_process_error`.
    """
    log = process.log
    offset = log.stat().st_size if log.exists() else 0
    with translate_foreign_errors(log), log.open("ab") as output:
        child = subprocess.Popen(
            [*process.program, process.stage, str(process.context_file), str(lock)],
            cwd=ROOT,
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        what = f"{process.stage} of {process.run_folder.name}"
        write_lock_holder(lock, what, pid=child.pid, run_pid=os.getpid())
        _follow_output(child, log, offset, time.monotonic() + process.timeout, listen)
    finally:
        terminate_child(child)
    if child.returncode:
        raise stage_process_error(process.stage, child.returncode, process.run_folder)


def _follow_output(
    child: subprocess.Popen[bytes], log: Path, offset: int, deadline: float, listen: EventListener
) -> None:
    """Turn the lines of the process's output into events until it ends.

    Raises:
        Broken: after `deadline`, a time of `time.monotonic`.
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
            problem = f"The stage '{log.stem}' exceeded its time limit and was stopped."
            raise Broken(problem, f"Its output so far is in {log}.")
        time.sleep(POLL_SECONDS)


def parse_event_line(line: bytes) -> StageEvent | None:
    """The event that a line of a stage process holds; None for any other output."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = EVENT_TYPES[values.pop("event")]
        return kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def terminate_child(child: subprocess.Popen[bytes]) -> None:
    """Terminate a process; kill it after `GRACE_SECONDS`."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def stage_process_error(stage: str, status: int, run_folder: Path) -> MondrianError:
    """The error of a stage process that ended with this exit status."""
    log = run_folder / f"{stage}.log"
    if status < 0:
        name = signal.Signals(-status).name
        memory = "; the system may have run out of memory" if -status == signal.SIGKILL else ""
        return ModelProcessDied(
            f"The process of the stage '{stage}' was stopped by {name}{memory}.", f"Its output: {log}."
        )
    if status == DISK_FULL_STATUS:
        return DiskFull(run_folder)
    try:
        reported = read_json(run_folder / f"{stage}.error.json")
    except (FileNotFoundError, ValueError):
        return ModelProcessDied(
            f"The process of the stage '{stage}' ended with status {status}.", f"Its output: {log}."
        )
    return error_with_status(status, reported["problem"], reported["next_step"])
