"""Select the files of a backup: everything except what can be recreated or belongs to this machine only.

In a backup the workspace's files are under `workspace/`, the registry's under `adapters/`, with "/" on every system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

WORKSPACE, ADAPTERS = "workspace", "adapters"
DATABASE = "mondrian.db"
# Dataset rows, checkpoints and caches can be recreated; their manifests and reports are kept as records.
RECORD_SUFFIXES = frozenset({".json", ".jsonl", ".html", ".md", ".toml", ".csv", ".png"})
RECORD_ONLY_FOLDERS = ("datasets", "runs")
CACHE_FOLDERS = ("thumbnails",)
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
    """A file to back up: its path in the backup and on disk."""

    path: str
    file: Path


def workspace_backup_items(root: Path, leave_out: tuple[Path, ...], on_skipped: OnSkipped) -> Iterator[BackupItem]:
    """The workspace's files except the database; `leave_out` are folders inside that belong to something else.

    Links are followed, so that a portfolio on another disk is included.
    """
    for item in _walk(root, WORKSPACE, leave_out, on_skipped):
        inside = item.path.split("/")[1:]
        if len(inside) == 1 and inside[0] in _DATABASE_FILES:
            continue
        if inside[0] in CACHE_FOLDERS:
            continue
        if inside[0] in RECORD_ONLY_FOLDERS and not _is_record(item.file, inside):
            continue
        yield item


def registry_backup_items(
    root: Path, advisor: str, leave_out: tuple[Path, ...], on_skipped: OnSkipped
) -> Iterator[BackupItem]:
    """The version folders of one advisor; `registry_state_items` are the files next to them."""
    home = root / advisor
    for item in _walk(home, f"{ADAPTERS}/{advisor}", leave_out, on_skipped):
        if item.path.count("/") > 2:
            yield item


def registry_state_items(root: Path, advisor: str) -> list[BackupItem]:
    """Pointer, history and rollouts of one advisor: small files that must be consistent."""
    home = root / advisor
    names = sorted(each.name for each in home.iterdir() if each.is_file() and not each.name.startswith("."))
    return [BackupItem(f"{ADAPTERS}/{advisor}/{name}", home / name) for name in names]


def registry_advisors(root: Path) -> list[str]:
    """Names of the advisors' folders in a registry."""
    if not root.is_dir():
        return []
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _is_record(file: Path, inside: list[str]) -> bool:
    try:
        small = file.stat().st_size <= MAX_RECORD_BYTES
    except OSError:
        return False
    return file.suffix.lower() in RECORD_SUFFIXES and small and "checkpoints" not in inside


def _walk(top: Path, prefix: str, leave_out: tuple[Path, ...], on_skipped: OnSkipped) -> Iterator[BackupItem]:
    """Files below a folder by name, without hidden ones; links are followed, each folder is visited once."""
    seen = {(found.st_dev, found.st_ino) for found in (each.stat() for each in leave_out if each.exists())}
    stack = [(top, prefix)]
    while stack:
        folder, path = stack.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            on_skipped(SkippedFile(path, f"the folder can't be read ({error.strerror})"))
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
                on_skipped(SkippedFile(inside, "a broken link"))
