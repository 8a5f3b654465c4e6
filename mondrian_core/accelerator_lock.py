"""Locks for the one accelerator of a machine. Flows, commands and the service take the same locks.

There are two locks. The *work* lock is held during a training, an evaluation or other long work: one at a time on this
machine, whatever the workspace and the user. The *turn* lock is held while the accelerator computes: long work passes
it on between two steps (`yielding_turns`), so a service answers a photograph between two steps of a training instead of
hours later, and never at the same time. Every lock is a `flock`: the kernel frees it when the process ends, so nothing
stays locked; the file's content only names the holder.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from mondrian_core.errors import AcceleratorBusy, Broken
from mondrian_core.events import EventListener, StageEvent, StageProgressed
from mondrian_core.settings import Settings

STAGE_MODULE = "mondrian_core.stage_process"
LOCK_FILE_NAME = "mondrian-accelerator.lock"
# The same for every user and environment of a machine, and not emptied during work (TMPDIR differs).
LOCK_FOLDERS = ("/Users/Shared", "/var/tmp", "/tmp") if sys.platform == "darwin" else ("/var/tmp", "/tmp")
WORK_POLL_SECONDS = 1.0
TURN_POLL_SECONDS = 0.02
ALIVE_INTERVAL_SECONDS = 5.0
TURN_TIMEOUT_SECONDS = 300.0  # longer than any step of a training; loading a large base takes about a minute

OnWaitMessage = Callable[[str], object]

_WORK: ContextVar[int | None] = ContextVar("accelerator_work", default=None)
_TURN: ContextVar[_TurnLock | None] = ContextVar("accelerator_turn", default=None)


def accelerator_lock_path() -> Path:
    """The work lock of this machine: MONDRIAN_ACCELERATOR_LOCK, else one file that all its users share."""
    named = Settings().accelerator_lock
    if named is not None:
        return named.expanduser().absolute()
    folder = next((each for each in LOCK_FOLDERS if os.access(each, os.W_OK)), LOCK_FOLDERS[-1])
    return Path(folder) / LOCK_FILE_NAME


@contextmanager
def exclusive_work(what: str, waiting: OnWaitMessage, *, wait: bool = True) -> Iterator[None]:
    """Hold the accelerator for long work; nested calls do nothing.

    Args:
        what: shown to waiting programs, such as "train of ansel".
        waiting: receives, once, a sentence about the holder.
        wait: False: raise instead of waiting.

    Raises:
        AcceleratorBusy: it is held and `wait` is False; the error names the holder.
    """
    with ExitStack() as stack:
        if _WORK.get() is None:
            stack.enter_context(hold_work_lock(accelerator_lock_path(), waiting, what, wait=wait))
        if _TURN.get() is None:
            stack.enter_context(compute_turn(patience=None))
        yield


def adopt_inherited_work_lock(descriptor: int) -> None:
    """Register the work lock that this process inherited from its parent."""
    _WORK.set(descriptor)


@contextmanager
def hold_work_lock(path: Path, waiting: OnWaitMessage, what: str = "", *, wait: bool = True) -> Iterator[int]:
    """Hold the work lock; yields its descriptor, which a child process may inherit.

    A stage process that holds the lock although its run has ended is killed: nobody waits for its result.

    Args:
        path: the lock file.
        waiting: receives, once, a sentence about the holder.
        what: shown to waiting programs.
        wait: False: raise instead of waiting.

    Raises:
        AcceleratorBusy: it is held and `wait` is False.
    """
    handle = _acquire(path, waiting, wait)
    token = _WORK.set(handle)
    try:
        write_lock_holder(handle, what)
        yield handle
        _write(handle, b"")
    finally:
        _WORK.reset(token)
        os.close(handle)  # not LOCK_UN, which would release it for an inherited descriptor too


def write_lock_holder(handle: int, what: str, *, pid: int | None = None, run_pid: int | None = None) -> None:
    """Record the holder in the lock file; `run_pid` is the run whose end makes the process `pid` an orphan."""
    holder = {
        "what": what,
        "user": _user(),
        "pid": pid or os.getpid(),
        "run_pid": run_pid,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(handle, json.dumps(holder).encode())


def format_lock_holder(written: str) -> str:
    """Describe the holder: "train of ansel, started by anna, process 4711, since 09:12 UTC".

    Any user of the machine may have written the file, so only short printable words are used.
    """
    try:
        holder: dict[str, Any] = json.loads(written)
        what, user, pid = (_printable(holder.get(key)) for key in ("what", "user", "pid"))
        since = datetime.fromisoformat(str(holder["since"])).astimezone(UTC)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "another process"
    return f"{what or 'another process'}, started by {user}, process {pid}, since {since:%H:%M} UTC"


def is_orphaned_stage(written: str) -> bool:
    """True when the lock's holder is a stage process that is no longer a child of the run that started it."""
    try:
        holder = json.loads(written)
        pid, parent = int(holder["pid"]), int(holder["run_pid"])
    except (ValueError, KeyError, TypeError):
        return False
    try:
        process = psutil.Process(pid)
        return process.ppid() != parent and STAGE_MODULE in process.cmdline()
    except psutil.Error:
        return False


@contextmanager
def compute_turn(
    *, patience: float | None = TURN_TIMEOUT_SECONDS, alive: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Hold the turn lock: no other process of this machine computes on the accelerator meanwhile.

    Args:
        patience: seconds to wait; None: no limit.
        alive: called every few seconds while this waits.

    Raises:
        AcceleratorBusy: it stayed in use for that time.
    """
    if _TURN.get() is not None:
        yield
        return
    mine = _TurnLock(accelerator_lock_path(), alive)
    try:
        mine.take(patience)
        token = _TURN.set(mine)
        try:
            yield
        finally:
            _TURN.reset(token)
    finally:
        mine.close()


def yielding_turns(listen: EventListener) -> EventListener:
    """Wrap a listener: after each step of long work, waiting programs get a turn."""

    def heard(event: StageEvent) -> None:
        mine = _TURN.get()
        if isinstance(event, StageProgressed) and mine is not None:
            mine.yield_turn()
        listen(event)

    return heard


class _TurnLock:
    """The turn lock with a gate in front: a program that wants another turn queues behind waiting ones."""

    def __init__(self, path: Path, alive: Callable[[], object]) -> None:
        self._path, self._alive = path, alive
        self._handle = _open(path.with_name(f"{path.name}.turn"))

    def take(self, patience: float | None) -> None:
        gate = _open(self._path.with_name(f"{self._path.name}.gate"))
        until = None if patience is None else time.monotonic() + patience
        try:
            self._lock(gate, until)
            self._lock(self._handle, until)
        finally:
            os.close(gate)

    def yield_turn(self) -> None:
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        self.take(None)

    def close(self) -> None:
        os.close(self._handle)

    def _lock(self, handle: int, until: float | None) -> None:
        if until is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return
        told = time.monotonic()
        while not _try_lock(handle):
            now = time.monotonic()
            if now >= until:
                raise AcceleratorBusy(format_lock_holder(_read(self._path)))
            if now - told >= ALIVE_INTERVAL_SECONDS:
                told = now
                self._alive()
            time.sleep(TURN_POLL_SECONDS)


def _acquire(path: Path, waiting: OnWaitMessage, wait: bool) -> int:
    told, suspect = False, ""
    while True:
        handle = _open(path)
        if _try_lock(handle):
            if _is_at(handle, path):
                return handle
            os.close(handle)  # the file was replaced meanwhile: this lock would exclude nobody
            continue
        os.close(handle)
        written = _read(path)
        if not wait:
            raise AcceleratorBusy(format_lock_holder(written))
        if not told:
            waiting(f"The accelerator is in use ({format_lock_holder(written)}); waiting for it.")
            told = True
        if written and written == suspect and is_orphaned_stage(written):
            pid = json.loads(written)["pid"]
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                waiting(f"Process {pid} held the accelerator although its run is gone; it was killed.")
        suspect = written
        time.sleep(WORK_POLL_SECONDS)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    """Open or create a lock file that every user of the machine may lock; gives the descriptor.

    The folder may be world-writable, so links are not followed and only a regular file is accepted.

    Raises:
        Broken: it can't be opened, or is not a regular file.
    """
    careful = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Linux forbids O_CREAT on another user's file in a sticky folder (fs.protected_regular), so open comes first.
        for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR, os.O_RDONLY):
            try:
                handle = os.open(path, flags | careful, 0o666)
            except (FileNotFoundError, FileExistsError, PermissionError):
                continue
            if flags & os.O_CREAT:
                with suppress(OSError):
                    os.fchmod(handle, 0o666)  # whatever the umask: other users take the same lock
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return handle
            os.close(handle)
            raise OSError(errno.EINVAL, "it is not a regular file")
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise Broken(
            f"The accelerator's lock {path} can't be used: {error.strerror}.",
            "Remove that file or give it mode 0666, or name another for every user with MONDRIAN_ACCELERATOR_LOCK.",
        ) from error


def _read(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.pread(handle, 4096, 0).decode(errors="replace")
    finally:
        os.close(handle)


def _write(handle: int, text: bytes) -> None:
    """Replace the lock file's content; a full disk or another user's file must not stop the work."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text, 0)


def _printable(value: Any) -> str:
    return "".join(each for each in str(value) if each.isprintable())[:60]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
