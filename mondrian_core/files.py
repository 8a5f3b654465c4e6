"""Writing files that matter: to a temporary name, flushed, renamed; a reader sees the old or the new, never half."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mondrian_core.errors import translated


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` in one step; half a character (a lone surrogate) in a text is written as its escape.

    Raises:
        DiskFull: when no space is left; the old file stays as it was.
    """
    payload = data.encode(errors="backslashreplace") if isinstance(data, str) else data

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


def stored_path(folder: Path, parts: Sequence[str]) -> Path:
    """The file or folder below `folder` that the names mean, as the file system spells them.

    macOS and some programs decompose an umlaut into letter and dots (NFD), others don't (NFC); either finds the other.
    What isn't there comes back as it was named.
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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
