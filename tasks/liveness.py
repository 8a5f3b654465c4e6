"""Run locks: which flow runs have a running process on this machine.

`mondrian up` ends runs without a process and leaves the others alone, however long they have been silent.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from mondrian_core.process_locks import hold_process_lock, is_process_lock_held
from tasks.processes import ManagedProcess, process_start_token

RUN_LOCK_FOLDER = "processes"
KEPT_SECONDS = 24 * 3600.0


def hold_run_lock(home: Path, run: UUID | str) -> int:
    """Hold the lock of a flow run until this process ends; gives the descriptor, which nobody closes.

    Child processes don't inherit it: a stage that outlives its run does not keep the run alive.
    """
    handle = hold_process_lock(_path(home, run))
    with suppress(OSError):  # a full disk: the lock alone is enough
        process = ManagedProcess(f"run {run}", os.getpid(), process_start_token(os.getpid()) or "", "")
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(process)).encode(), 0)
    return handle


def has_run_lock_file(home: Path, run: UUID | str) -> bool:
    """True when a process of this machine has started that run, whether it still lives or not."""
    return _path(home, run).exists()


def is_run_alive(home: Path, run: UUID | str) -> bool:
    """True while the process of that run exists, also when it is stopped or sleeping."""
    return is_process_lock_held(_path(home, run))


def live_run_process(home: Path, run: UUID | str) -> ManagedProcess | None:
    """The process of a run; None when it has ended, or its lock file can't be read."""
    if not is_run_alive(home, run):
        return None
    try:
        return ManagedProcess.from_record(json.loads(_path(home, run).read_text()))
    except (OSError, ValueError):
        return None


def live_run_processes(home: Path) -> list[ManagedProcess]:
    """The processes of all running flow runs of this machine, without asking the server."""
    processes = [live_run_process(home, path.stem) for path in (home / RUN_LOCK_FOLDER).glob("*.lock")]
    return [process for process in processes if process is not None]


def remove_stale_run_locks(home: Path) -> None:
    """Remove the lock files of runs that ended more than KEPT_SECONDS ago."""
    for path in (home / RUN_LOCK_FOLDER).glob("*.lock"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS and not is_run_alive(home, path.stem):
                path.unlink()


def _path(home: Path, run: UUID | str) -> Path:
    return home / RUN_LOCK_FOLDER / f"{run}.lock"
