"""JSON Lines files (.jsonl): append one object per line, and read past a last line that a crash left incomplete.

A line counts once its newline is written. The operating system may write an interrupted append in part, so a reader
ignores what follows the last newline, and a writer that resumes a file cuts it off first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.files import sync_folder


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file that end in a newline, without it; none when there is no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return data.split(b"\n")[:-1]


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a file's complete lines; lines that don't hold a JSON object are skipped."""
    for line in complete_lines(path):
        try:
            value = json.loads(line)
        except ValueError:  # damaged JSON, or bytes that aren't UTF-8
            continue
        if isinstance(value, dict):
            yield value


def cut_incomplete_line(path: Path) -> None:
    """Remove what follows a file's last newline, so that the next line starts on its own."""
    content = path.read_bytes()
    size = content.rfind(b"\n") + 1
    if size < len(content):
        with path.open("rb+") as stream:
            stream.truncate(size)


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one object and hand it to the operating system; a killed process loses nothing, a power cut may.

    Raises:
        DiskFull: when no space is left; earlier lines stay readable.
    """
    with translate_foreign_errors(path), path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def append_line_durably(path: Path, line: str, size: int) -> None:
    """Append one line behind the first `size` bytes, which the caller has read as complete, and flush it to disk.

    Raises:
        DiskFull: when no space is left; the file ends after its first `size` bytes.
    """
    is_new = not path.exists()
    with translate_foreign_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.ftruncate(handle, size)
            try:
                _write_all(handle, f"{line}\n".encode())
                os.fsync(handle)
                if is_new:
                    sync_folder(path.parent)
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def _write_all(handle: int, payload: bytes) -> None:
    while payload:
        payload = payload[os.write(handle, payload) :]
