"""One accelerator, one job: a stage runs in a process of its own, behind two locks, and is ended with its run.

Why a process: a crash in native code, a time-out or a cancel then ends it and nothing else. It stays in the process
group of the run, so a cancel reaches it too; its output goes to a file in the run folder, because a child that keeps
the run's pipe open would hide the run's own crash from the worker. Why two locks: Prefect's limit shows who waits and
works over several machines; the file lock holds where Prefect's bookkeeping has a gap, and its descriptor is handed to
the child, so it stays taken while the child lives, even when the run was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mondrian_core.errors import AnswerIsNo, BadInput, Broken, ModelProcessDied, MondrianError, PrefectUnavailable
from mondrian_core.events import Advanced, Event, Finished, Listener, Noticed, Started
from mondrian_core.files import read_json
from mondrian_core.stages import Context

LIMIT = "accelerator"
LEASE_SECONDS = 60
MODULE = "mondrian_core.stage_process"
ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.3
GRACE_SECONDS = 10.0

EVENTS: dict[str, type[Started | Advanced | Finished | Noticed]] = {
    kind.__name__: kind for kind in (Started, Advanced, Finished, Noticed)
}


def run_on_accelerator(stage: str, context_file: Path, *, timeout: float, listen: Listener) -> None:
    """Run one stage as a process once the accelerator is free; `timeout` seconds count from its start.

    Raises:
        PrefectUnavailable: when the global limit was never made.
        ModelProcessDied: when the process was killed or crashed.
        MondrianError: what the stage itself reported.
    """
    context = Context.load(context_file)

    def waiting(message: str) -> None:
        listen(Noticed(stage, message))

    with _slot(), held(context.root / ".accelerator.lock", waiting) as lock:
        run_process(stage, context_file, context.run_folder, lock=lock, timeout=timeout, listen=listen)


@contextmanager
def _slot() -> Iterator[None]:
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    # A lease that can't be renewed (the server restarts) doesn't end hours of work: the file lock still holds.
    limit = concurrency(
        LIMIT, occupy=1, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False
    )
    try:
        with limit:
            yield
    except ConcurrencySlotAcquisitionError as error:
        raise PrefectUnavailable(f"The Prefect limit '{LIMIT}' can't be taken.", "`make up` makes it.") from error


@contextmanager
def held(path: Path, waiting: Callable[[str], None]) -> Iterator[int]:
    """The file lock; yields its descriptor, which the process that does the work inherits.

    A process whose run is gone while it still holds the lock is ended: nobody waits for its result any more.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(handle, path, waiting)
        os.ftruncate(handle, 0)
        yield handle
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)  # not LOCK_UN, which would release it for an inherited descriptor too


def _take(handle: int, path: Path, waiting: Callable[[str], None]) -> None:
    told, suspect = False, ""
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            written = path.read_text()
        if not told:
            waiting(f"The accelerator is in use ({written.strip() or 'by another process'}); waiting for it.")
            told = True
        if written and written == suspect and is_orphan(written):
            pid = json.loads(written)["pid"]
            waiting(f"Process {pid} held the accelerator although its run is gone; it was ended.")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        suspect = written
        time.sleep(1.0)


def is_orphan(written: str) -> bool:
    """True when the process that a lock file names is one of ours and its parent is no longer the run that began it."""
    try:
        holder = json.loads(written)
        pid, parent = int(holder["pid"]), int(holder["run_pid"])
    except (ValueError, KeyError, TypeError):
        return False
    try:
        now, command = (
            int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]),
            Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "),
        )
    except OSError:
        asked = (
            subprocess.run(["ps", "-o", "ppid=,command=", "-p", str(pid)], capture_output=True, text=True, check=False)
            if not Path("/proc/self").exists()
            else None
        )
        if asked is None or not asked.stdout.strip():
            return False
        first, _, command = asked.stdout.strip().partition(" ")
        now = int(first)
    return now != parent and MODULE in command


def run_process(
    stage: str,
    context_file: Path,
    run_folder: Path,
    *,
    lock: int,
    timeout: float,
    listen: Listener,
    program: Sequence[str] = (sys.executable, "-m", MODULE),
) -> None:
    """`python -m mondrian_core.stage_process` from start to end; it never outlives this call."""
    log = run_folder / f"{stage}.log"
    offset = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*program, stage, str(context_file)],
            cwd=ROOT,
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        os.pwrite(lock, json.dumps({"pid": child.pid, "run_pid": os.getpid(), "stage": stage}).encode(), 0)
        _follow(child, log, offset, time.monotonic() + timeout, listen)
    finally:
        end(child)
    if child.returncode:
        raise failure(stage, child.returncode, run_folder)


def _follow(child: subprocess.Popen[bytes], log: Path, offset: int, deadline: float, listen: Listener) -> None:
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
            event = event_of(line)
            if event is not None:
                listen(event)
        if ended:
            return
        if time.monotonic() > deadline:
            raise Broken(f"{log.stem} took longer than it may and was ended.", f"Its output so far is in {log}.")
        time.sleep(POLL_SECONDS)


def event_of(line: bytes) -> Event | None:
    """The event that a line of a stage process carries; None for anything else it prints."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = EVENTS[values.pop("event")]
        return kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then insist."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def failure(stage: str, status: int, run_folder: Path) -> MondrianError:
    """What a stage that ended with this status has to say."""
    log = run_folder / f"{stage}.log"
    if status < 0:
        name = signal.Signals(-status).name
        memory = "; the system may have been out of memory" if -status == signal.SIGKILL else ""
        return ModelProcessDied(
            f"The process of the stage '{stage}' was ended by {name}{memory}.", f"Its output: {log}."
        )
    kind = {1: AnswerIsNo, 2: BadInput, 3: Broken}.get(status, ModelProcessDied)
    try:
        told = read_json(run_folder / f"{stage}.error.json")
    except (FileNotFoundError, ValueError):
        return ModelProcessDied(
            f"The process of the stage '{stage}' ended with status {status}.", f"Its output: {log}."
        )
    return kind(told["problem"], told["next_step"])
