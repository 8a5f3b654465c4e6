"""Locks on the machine's accelerator, which flows, commands and the service share.

There are two locks. The *work* lock is held during a training, an evaluation or other long work: one at a time on this
machine, in any workspace and by any user. The *turn* lock is held while the accelerator computes. Long work passes it
on between two steps (`yielding_turns`), so the service answers a photograph between two steps of a training instead of
hours later, and never at the same time. Each lock is a `flock`, which the system releases when the process ends,
however it ends. The content of the lock file only says who holds it.
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
from mondrian_core.settings import current_settings

STAGE_MODULE = "mondrian_core.stage_process"
LOCK_FILE_NAME = "mondrian-accelerator.lock"
# The same for every user and environment of a machine, and not cleaned during a run (TMPDIR differs between users).
LOCK_FOLDERS = ("/Users/Shared", "/var/tmp", "/tmp") if sys.platform == "darwin" else ("/var/tmp", "/tmp")
WORK_POLL_SECONDS = 1.0
TURN_POLL_SECONDS = 0.02
ALIVE_INTERVAL_SECONDS = 5.0
TURN_TIMEOUT_SECONDS = 300.0  # longer than any training step; loading a large base takes about a minute

OnWaitMessage = Callable[[str], object]

_WORK: ContextVar[int | None] = ContextVar("accelerator_work", default=None)
_TURN: ContextVar[_TurnLock | None] = ContextVar("accelerator_turn", default=None)


def accelerator_lock_path() -> Path:
    """The path of the work lock: MONDRIAN_ACCELERATOR_LOCK, otherwise one file that all users of the machine share."""
    named = current_settings().accelerator_lock
    if named is not None:
        return named.expanduser().absolute()
    folder = next((each for each in LOCK_FOLDERS if os.access(each, os.W_OK)), LOCK_FOLDERS[-1])
    return Path(folder) / LOCK_FILE_NAME


@contextmanager
def exclusive_work(what: str, waiting: OnWaitMessage, *, wait: bool = True) -> Iterator[None]:
    """Hold the accelerator for long work inside the block; nested calls have no effect.

    Args:
        what: description for those who wait, such as "train of ansel".
        waiting: called once with the holder if this has to wait.
        wait: False raises instead of waiting.

    Raises:
        AcceleratorBusy: the lock is held and `wait` is False; names the holder.
    """
    with ExitStack() as stack:
        if _WORK.get() is None:
            stack.enter_context(hold_work_lock(accelerator_lock_path(), waiting, what, wait=wait))
        if _TURN.get() is None:
            stack.enter_context(compute_turn(patience=None))
        yield


def adopt_inherited_work_lock(descriptor: int) -> None:
    """Record that this process inherited the work lock from the process that started it."""
    _WORK.set(descriptor)


@contextmanager
def hold_work_lock(path: Path, waiting: OnWaitMessage, what: str = "", *, wait: bool = True) -> Iterator[int]:
    """Hold the work lock inside the block; yields its descriptor, which a child process may inherit.

    An orphaned stage that holds the lock is ended, because no run waits for its result any more.

    Args:
        path: the lock file.
        waiting: called once with the holder if this has to wait.
        what: description for those who wait.
        wait: False raises instead of waiting.

    Raises:
        AcceleratorBusy: the lock is held and `wait` is False.
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
    """Write into the lock file who holds it.

    Args:
        handle: descriptor of the lock file.
        what: description of the work.
        pid: the process that works; None: this one.
        run_pid: the run that waits for its result; without that run the process is orphaned.
    """
    holder = {
        "what": what,
        "user": _user(),
        "pid": pid or os.getpid(),
        "run_pid": run_pid,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(handle, json.dumps(holder).encode())


def record_work_memory(nbytes: int) -> None:
    """Add to the lock file how many bytes the work of this process takes at its peak, for services that start now."""
    handle = _WORK.get()
    if handle is not None:
        holder = _as_record(os.pread(handle, 4096, 0).decode(errors="replace"))
        _write(handle, json.dumps({**holder, "memory": nbytes}).encode())


def memory_of_other_work() -> tuple[int, str]:
    """(bytes that work of another process takes at its peak, its holder for people); (0, "") without such work."""
    path = accelerator_lock_path()
    if _WORK.get() is not None or not path.exists():
        return 0, ""
    handle = _open(path)
    try:
        if _try_lock(handle):
            return 0, ""
    finally:
        os.close(handle)
    written = _read(path)
    found = _as_record(written).get("memory")
    return (found, format_lock_holder(written)) if isinstance(found, int) and found > 0 else (0, "")


def _as_record(written: str) -> dict[str, Any]:
    """The content of a lock file; {} if it isn't a record, because any user may have written it."""
    try:
        found = json.loads(written)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def format_lock_holder(written: str) -> str:
    """The holder, for people: "train of ansel, started by anna, process 4711, since 09:12 UTC".

    Any user of the machine may have written the text, so only short printable words are taken from it.
    """
    try:
        holder: dict[str, Any] = json.loads(written)
        what, user, pid = (_printable(holder.get(key)) for key in ("what", "user", "pid"))
        since = datetime.fromisoformat(str(holder["since"])).astimezone(UTC)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "another process"
    return f"{what or 'another process'}, started by {user}, process {pid}, since {since:%H:%M} UTC"


def is_orphaned_stage(written: str) -> bool:
    """True if the process in the lock file is a stage of Mondrian and no longer a child of the run that started it."""
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
    """Hold the turn lock inside the block: no other process of this machine computes on the accelerator meanwhile.

    Args:
        patience: seconds to wait for the lock; None: without limit.
        alive: called every few seconds while this waits.

    Raises:
        AcceleratorBusy: the lock didn't become free in that time.
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
    """A listener that passes events on and, after each step of long work, gives the turn to those who wait."""

    def on_event(event: StageEvent) -> None:
        mine = _TURN.get()
        if isinstance(event, StageProgressed) and mine is not None:
            mine.yield_turn()
        listen(event)

    return on_event


class _TurnLock:
    """The turn lock, with a gate in front of it: whoever wants another turn queues behind those who wait already."""

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
        last_sign = time.monotonic()
        while not _try_lock(handle):
            now = time.monotonic()
            if now >= until:
                raise AcceleratorBusy(format_lock_holder(_read(self._path)))
            if now - last_sign >= ALIVE_INTERVAL_SECONDS:
                last_sign = now
                self._alive()
            time.sleep(TURN_POLL_SECONDS)


def _acquire(path: Path, waiting: OnWaitMessage, wait: bool) -> int:
    announced, suspect = False, ""
    while True:
        handle = _open(path)
        if _try_lock(handle):
            if _is_at(handle, path):
                return handle
            os.close(handle)  # the file was replaced: a lock on the old one keeps nobody out
            continue
        os.close(handle)
        written = _read(path)
        if not wait:
            raise AcceleratorBusy(format_lock_holder(written))
        if not announced:
            waiting(f"The accelerator is in use ({format_lock_holder(written)}); waiting for it.")
            announced = True
        if written and written == suspect and is_orphaned_stage(written):
            pid = json.loads(written)["pid"]
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                waiting(f"Process {pid} held the accelerator, but its run no longer exists; the process was ended.")
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
    """Open a lock file that every user of the machine may lock; it is created if necessary.

    The folder may be writable for everybody, so links aren't followed and only a regular file is accepted.

    Raises:
        Broken: the file can't be opened or isn't a regular file.
    """
    safe = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Linux forbids O_CREAT on another user's file in a sticky folder (fs.protected_regular), so try to open first.
        for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR, os.O_RDONLY):
            try:
                handle = os.open(path, flags | safe, 0o666)
            except (FileNotFoundError, FileExistsError, PermissionError):
                continue
            if flags & os.O_CREAT:
                with suppress(OSError):
                    os.fchmod(handle, 0o666)  # despite the umask, because other users take the same lock
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
    """Replace the content of the lock file; a full disk or another user's file must not stop the work."""
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
