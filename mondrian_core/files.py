"""Atomic file writes, private files and folders, JSON files, file hashes.

A file is written to a temporary name, flushed and renamed, so a reader sees the old or the new content, never a part.

Permissions: a new file or folder follows the umask; in a private folder (0700) it is private too (0600, 0700). A file
that is replaced keeps its permissions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import time
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mondrian_core.errors import DiskFull, translate_foreign_errors

MIN_FREE_BYTES = 16 << 20  # enough for a log, a database and their journals
USED_SECONDS = 86_400.0
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{12}(\.[^.]+)?", re.DOTALL)  # `replace_atomic` and `store_thumbnail` make them


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace the content of `path` atomically; a lone surrogate in a text is written as its escape.

    Raises:
        DiskFull: when no space is left; the old file is unchanged.
    """
    payload = data.encode(errors="backslashreplace") if isinstance(data, str) else data

    def write(temporary: Path) -> None:
        temporary.write_bytes(payload)

    replace_atomic(path, write)


def replace_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file next to `path` (same suffix), flush it to disk and rename it to `path`."""
    with translate_foreign_errors(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.stem[:80]}-{uuid.uuid4().hex[:12]}{path.suffix}")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, _file_mode(path.parent)))
        try:
            mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def is_temporary_name(name: str) -> bool:
    """True for the name of a file that is being written, or that a killed process left."""
    return _TEMPORARY.fullmatch(name) is not None


def mark_as_used(path: Path) -> None:
    """Give a cached file the present time, at most once a day, so that pruning deletes what nobody used for long."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > USED_SECONDS:
            path.touch(exist_ok=True)


def copy_atomic(source: Path, target: Path) -> None:
    """Replace `target` by a copy of the content of `source`, atomically."""

    def write(temporary: Path) -> None:
        shutil.copyfile(source, temporary)

    replace_atomic(target, write)


def require_free_space(folder: Path, least: int = MIN_FREE_BYTES) -> None:
    """Make sure that at least `least` bytes are free, before work starts that would fail in the middle.

    Raises:
        DiskFull: when less is free.
    """
    if shutil.disk_usage(folder).free < least:
        raise DiskFull(folder)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents; below a private folder they are private too."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(mode=0o700 if _is_private(folder.parent) else 0o777, exist_ok=True)


def make_private_folder(folder: Path) -> None:
    """Create a private folder (0700); an existing one is restricted as `restrict_to_owner` does."""
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    restrict_to_owner(folder)


def create_private(path: Path) -> None:
    """Create an empty private file (0600); an existing one is unchanged."""
    make_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def restrict_to_owner(path: Path) -> None:
    """Remove access by others from our own file or folder, if it exists.

    A group with write access was added on purpose and keeps it; read access alone is what a usual umask leaves.
    """
    try:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        wanted = mode & ~0o007 if mode & 0o020 else mode & ~0o077
        if status.st_uid == os.geteuid() and wanted != mode:
            path.chmod(wanted)
    except OSError:
        pass  # it doesn't exist, or the file system has no permissions


def _is_private(folder: Path) -> bool:
    return not folder.stat().st_mode & 0o077


def _file_mode(folder: Path) -> int:
    return 0o600 if _is_private(folder) else 0o666


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write readable JSON atomically."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; the caller handles a missing or damaged file."""
    return json.loads(path.read_text())


def path_as_spelled_on_disk(folder: Path, parts: Sequence[str]) -> Path:
    """The path below `folder` that the names refer to, as the file system spells it.

    macOS and some programs decompose an umlaut into letter and dots (NFD), others don't (NFC); each form finds the
    other. A missing path is returned unchanged.
    """
    whole = folder.joinpath(*parts)
    if whole.exists():
        return whole
    place = folder
    for part in parts:
        place = place / (part if (place / part).exists() else _spelled_otherwise(place, part))
    return place


def _spelled_otherwise(folder: Path, name: str) -> str:
    composed = unicodedata.normalize("NFC", name)
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError:
        return name
    return next((each for each in names if unicodedata.normalize("NFC", each) == composed), name)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
