"""Digests of large files, kept on disk with what the file system says of the files.

A base model of 3 GB would otherwise be hashed by every process. A digest is used only while path, length, device, inode
and both times of every file are those it was computed from. The time of the last change of the inode (ctime) can't be
set by programs, so a replaced file is noticed even if its modification time was restored. Not noticed: bytes that
change below the file system (a failing disk), and writes while the clock is set back; `fresh` hashes again for that.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mondrian_core.errors import MondrianError
from mondrian_core.files import read_json, write_json
from mondrian_core.settings import current_settings

FileStats = tuple[tuple[str, int, int, int, int, int], ...]

DIGESTS_SUBFOLDER = "digests"  # folder of the cache
# A file that changed this recently may change again without another time: the coarsest file systems count 2 s.
_SETTLED_NANOSECONDS = 3_000_000_000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_in_process: dict[FileStats, str] = {}
_MOST_IN_PROCESS = 8


def file_stats(folder: Path, names: tuple[str, ...]) -> FileStats:
    """(path, bytes, device, inode, modified ns, changed ns) of the files that are there, links followed."""
    found = []
    for name in dict.fromkeys(names):
        path = folder / name
        if path.is_file():
            seen = path.stat()
            found.append(
                (str(path.absolute()), seen.st_size, seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns)
            )
    return tuple(found)


def remembered_digest(facts: FileStats, compute: Callable[[FileStats], str], *, fresh: bool = False) -> str:
    """The digest of these files: remembered by this process or on disk, otherwise computed and remembered.

    Processes may store the same digest at once: each replaces the file as a whole. A cache that can't be read or
    written costs time, never an error.

    Args:
        facts: of the files, from `file_stats`.
        compute: reads the files and gives 64 hexadecimal digits.
        fresh: compute even if the digest is remembered.
    """
    place = _place(facts)
    if not fresh and (known := _in_process.get(facts) or _stored(place, facts)) is not None:
        return known
    began = time.time_ns()
    digest = compute(facts)
    if _unchanged(facts):
        while len(_in_process) >= _MOST_IN_PROCESS:
            _in_process.pop(next(iter(_in_process)), None)
        _in_process[facts] = digest
        if all(max(modified, changed) < began - _SETTLED_NANOSECONDS for *_, modified, changed in facts):
            with suppress(OSError, MondrianError):
                write_json(place, {"files": [list(each) for each in facts], "sha256": digest})
    return digest


def _place(facts: FileStats) -> Path:
    paths = json.dumps([path for path, *_ in facts])
    name = hashlib.sha256(paths.encode()).hexdigest()[:32]
    return current_settings().cache.expanduser() / DIGESTS_SUBFOLDER / f"{name}.json"


def _stored(place: Path, facts: FileStats) -> str | None:
    try:
        value = read_json(place)
        digest = str(value["sha256"])
        same = value["files"] == [list(each) for each in facts]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if same and _DIGEST.fullmatch(digest) else None


def _unchanged(facts: FileStats) -> bool:
    """False when a file changed while it was read."""
    try:
        return all(file_stats(Path(each[0]).parent, (Path(each[0]).name,)) == (each,) for each in facts)
    except OSError:
        return False
