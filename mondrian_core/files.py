"""Writing files that matter: to a temporary name, flushed, renamed; a reader sees the old or the new, never half."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mondrian_core.errors import DiskFull, translated

LEAST_FREE = 16 << 20  # a log, a database and their journals can still be written


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` in one step.

    Raises:
        DiskFull: when no space is left; the old file stays as it was.
    """
    payload = data.encode() if isinstance(data, str) else data

    def write(temporary: Path) -> None:
        temporary.write_bytes(payload)

    replace_atomic(path, write)


def replace_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path` (same suffix), flush it to disk and rename it to `path`."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def require_room(folder: Path, least: int = LEAST_FREE) -> None:
    """Refuse to begin what writes files while fewer than `least` bytes are free: it would break in the middle.

    Raises:
        DiskFull: there is less.
    """
    if shutil.disk_usage(folder).free < least:
        raise DiskFull(folder)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write readable JSON atomically."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; the caller translates what is missing or damaged."""
    return json.loads(path.read_text())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
