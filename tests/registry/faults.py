"""A disk that stops at the n-th operation: the process dies there, or the disk is full from there on.

Every call that changes files counts as one operation; a write counts as two, for it can stop half-way. The lock file is
left out: the kernel looks after it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

DEAD = 137
NEEDS_NO_SPACE = frozenset({"unlink", "rmdir", "ftruncate", "chmod"})
CALLS = ("open", "fsync", "ftruncate", "replace", "rename", "mkdir", "chmod", "unlink", "rmdir")


@dataclass
class Disk:
    """Counts operations; at `stop_at` calls `stop(name)`, which kills the process or raises. -1: only count."""

    stop_at: int = -1
    stop: Callable[[str], None] = lambda name: None
    count: int = 0
    names: list[str] = field(default_factory=list)

    def passes(self, name: str) -> None:
        """One operation; may not come back."""
        here, self.count = self.count, self.count + 1
        self.names.append(name)
        if self.stop_at >= 0 and here >= self.stop_at:
            self.stop(name)


def die(name: str) -> None:
    """The process is gone: no handler runs, no lock is released explicitly."""
    os._exit(DEAD)


def full(name: str) -> None:
    """From here on the disk takes nothing more; deleting still works."""
    if name not in NEEDS_NO_SPACE:
        raise OSError(errno.ENOSPC, "No space left on device")


@contextlib.contextmanager
def faulty(disk: Disk) -> Iterator[Disk]:
    """Put `disk` under everything that this process writes."""
    real = {name: getattr(os, name) for name in (*CALLS, "write")}
    real_copy, real_open = shutil.copyfile, io.open

    def call(name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            reading = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not reading and not str(arguments[0]).endswith(".lock"):
                disk.passes(name)
            return real[name](*arguments, **options)

        return wrapped

    def write(handle: int, data: bytes) -> int:
        disk.passes("write")
        half = len(data) // 2
        written: int = real["write"](handle, data[:half])
        disk.passes("write half")
        return written + int(real["write"](handle, data[half:]))

    def copy(source: Path, target: Path, **options: Any) -> Any:
        disk.passes("create")
        data = Path(source).read_bytes()
        with real_open(target, "wb") as stream:
            stream.write(data[: len(data) // 2])
        disk.passes("copy half")
        return real_copy(source, target, **options)

    def opening(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real_open(path, mode, *arguments, **options)
        disk.passes("create")
        return Halved(real_open(path, mode, *arguments, **options), disk)

    with contextlib.ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(mock.patch.object(os, name, call(name)))
        stack.enter_context(mock.patch.object(os, "write", write))
        stack.enter_context(mock.patch.object(shutil, "copyfile", copy))
        stack.enter_context(mock.patch.object(io, "open", opening))
        yield disk


class Halved:
    """A file whose writes can stop half-way."""

    def __init__(self, stream: Any, disk: Disk) -> None:
        self.stream, self.disk = stream, disk

    def write(self, data: Any) -> int:
        self.disk.passes("write")
        half = len(data) // 2
        self.stream.write(data[:half])
        self.stream.flush()
        self.disk.passes("write half")
        self.stream.write(data[half:])
        return len(data)

    def __enter__(self) -> Halved:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def killed_at(point: int, operation: Callable[[], object]) -> bool:
    """Run `operation` in a child that dies at `point`; True when it died there."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only touches files
        child = os.fork()
    if child == 0:
        sys.settrace(None)  # its coverage is lost anyway
        status = 1
        try:
            with faulty(Disk(point, die)):
                operation()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, DEAD), f"the operation failed with {status} at point {point}"
    return status == DEAD
