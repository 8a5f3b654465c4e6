"""Lock files that show which processes are alive: the kernel frees a lock when its process ends, however it ends.

Heartbeats and leases can't distinguish a sleeping machine from a dead process; a lock can.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def hold_process_lock(path: Path) -> int:
    """Hold the lock of that file until the descriptor is closed or this process ends; waits while another holds it.

    Child processes don't inherit it.
    """
    handle = _locked(path, fcntl.LOCK_EX)
    assert handle is not None  # it waits
    return handle


def try_process_lock(path: Path) -> int | None:
    """Like `hold_process_lock`, but None while another process holds it."""
    return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked(path: Path, operation: int) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, operation)
        except BlockingIOError:
            os.close(handle)
            return None
        with suppress(FileNotFoundError):  # its last holder removed it
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def release_process_lock(path: Path, handle: int) -> None:
    """Remove the file and release its lock, in this order: who opens it again makes another file."""
    path.unlink(missing_ok=True)
    os.close(handle)


def is_process_lock_held(path: Path) -> bool:
    """True while a process holds that file's lock, also when the process is stopped or sleeping."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
