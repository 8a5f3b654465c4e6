"""Which files belong to a backup: everything but what can be made again, or belongs to this machine alone.

In a backup the workspace's files stand under `workspace/`, the registry's under `adapters/`, with "/" on any system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

WORKSPACE, ADAPTERS = "workspace", "adapters"
DATABASE = "mondrian.db"
# Rows of a dataset, checkpoints and caches follow from the rest; their manifests and reports say what they were.
RECORD_SUFFIXES = frozenset({".json", ".jsonl", ".html", ".md", ".toml", ".csv", ".png"})
RECORD_ONLY_FOLDERS = ("datasets", "runs")
MAX_RECORD_BYTES = 32_000_000
_DATABASE_FILES = tuple(f"{DATABASE}{end}" for end in ("", "-wal", "-shm", "-journal"))


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not in a snapshot, with the reason."""

    path: str
    reason: str


OnSkipped = Callable[[SkippedFile], None]


@dataclass(frozen=True)
class BackupItem:
    """A file: its path in the backup, and where it lies."""

    path: str
    file: Path


def workspace_backup_items(root: Path, leave_out: tuple[Path, ...], told: OnSkipped) -> Iterator[BackupItem]:
    """The workspace's files but for the database itself; `leave_out` are folders in it that are not its own.

    Links are followed, so that a portfolio on another disk is in the backup.
    """
    for item in _walk(root, WORKSPACE, leave_out, told):
        inside = item.path.split("/")[1:]
        if len(inside) == 1 and inside[0] in _DATABASE_FILES:
            continue
        if inside[0] in RECORD_ONLY_FOLDERS and not _is_record(item.file, inside):
            continue
        yield item


def registry_backup_items(
    root: Path, advisor: str, leave_out: tuple[Path, ...], told: OnSkipped
) -> Iterator[BackupItem]:
    """The versions of one advisor, folder by folder; `books_of` are the files beside them."""
    home = root / advisor
    for item in _walk(home, f"{ADAPTERS}/{advisor}", leave_out, told):
        if item.path.count("/") > 2:
            yield item


def registry_state_items(root: Path, advisor: str) -> list[BackupItem]:
    """Pointer, history and rollouts of one advisor: small files that belong together."""
    home = root / advisor
    names = sorted(each.name for each in home.iterdir() if each.is_file() and not each.name.startswith("."))
    return [BackupItem(f"{ADAPTERS}/{advisor}/{name}", home / name) for name in names]


def registry_advisors(root: Path) -> list[str]:
    """Folders of a registry."""
    if not root.is_dir():
        return []
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _is_record(file: Path, inside: list[str]) -> bool:
    try:
        small = file.stat().st_size <= MAX_RECORD_BYTES
    except OSError:
        return False
    return file.suffix.lower() in RECORD_SUFFIXES and small and "checkpoints" not in inside


def _walk(top: Path, prefix: str, leave_out: tuple[Path, ...], told: OnSkipped) -> Iterator[BackupItem]:
    """Files below a folder by name, hidden ones left out; links followed, each folder once."""
    seen = {(found.st_dev, found.st_ino) for found in (each.stat() for each in leave_out if each.exists())}
    stack = [(top, prefix)]
    while stack:
        folder, path = stack.pop()
        try:
            here = folder.stat()
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            told(SkippedFile(path, f"the folder can't be read ({error.strerror})"))
            continue
        for entry in entries:
            inside = f"{path}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                stack.append((Path(entry.path), inside))
            elif entry.is_file():
                yield BackupItem(inside, Path(entry.path))
            elif entry.is_symlink():
                told(SkippedFile(inside, "a link that leads nowhere"))
