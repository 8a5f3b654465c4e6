"""Bringing a snapshot back: everything is written and checked beside its place, and moved there at the end."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mondrian_core.backup.file_selection import ADAPTERS, WORKSPACE
from mondrian_core.backup.snapshots import (
    DATABASE_PATH,
    BackupFolder,
    BackupSnapshot,
    DamagedBackup,
    SnapshotEntry,
    UnreadableFile,
    copy_with_hash,
    require_database_integrity,
    require_intact_files,
)
from mondrian_core.errors import BadInput, translate_foreign_errors
from mondrian_core.events import EventListener, StageProgressed, ignore_events
from mondrian_core.files import sync_folder


@dataclass(frozen=True)
class RestoreResult:
    """What was brought back, and where the folders went that stood in its place."""

    snapshot: BackupSnapshot
    moved_aside: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.snapshot.as_dict(), "moved_aside": [str(path) for path in self.moved_aside]}


def restore_backup(
    root: Path,
    workspace: Path,
    adapters: Path,
    *,
    snapshot: str | None = None,
    force: bool = False,
    listen: EventListener = ignore_events,
) -> RestoreResult:
    """Bring a snapshot (None: the last) of the backup folder `root` back to a workspace and a registry.

    Every file is checked against its hash while it is copied, and the database by SQLite, before anything is put in its
    place. Folders that are there and not empty are refused, with `force` moved aside; nothing is ever overwritten.

    Raises:
        BadInput: there is no such snapshot, or something is in its place.
        DamagedBackup: files are missing or changed; nothing was changed.
        DiskFull: nothing is left behind.
    """
    folder = BackupFolder(root)
    chosen = folder.read(snapshot)
    finals = {entry.path: _target_path(entry, workspace, adapters) for entry in chosen.entries}
    roots = _target_folders(chosen.entries, workspace, adapters)
    for place in roots:
        _require_free(place, force)
    require_intact_files(chosen.name, [entry.path for entry in chosen.entries if not folder.holds(entry)])
    staged = {place: place.parent / f".{place.name}-restoring-{secrets.token_hex(4)}" for place in roots}
    try:
        with translate_foreign_errors(workspace):
            for beside in staged.values():
                beside.parent.mkdir(parents=True, exist_ok=True)
                beside.mkdir(mode=0o700)
            for done, entry in enumerate(chosen.entries, 1):
                final = finals[entry.path]
                place = next(place for place in roots if final.is_relative_to(place))
                _restore_file(folder, entry, staged[place] / final.relative_to(place), chosen.name)
                listen(StageProgressed("restore", done, len(chosen.entries), entry.path))
            moved = _put_in_place(staged)
    except UnreadableFile as error:
        raise DamagedBackup(f"The backup can't be read: {error}.", "Nothing was changed; check that disk.") from error
    finally:
        for beside in staged.values():
            shutil.rmtree(beside, ignore_errors=True)
    return RestoreResult(chosen, moved)


def _target_path(entry: SnapshotEntry, workspace: Path, adapters: Path) -> Path:
    part, _, rest = entry.path.partition("/")
    return {WORKSPACE: workspace, ADAPTERS: adapters}[part] / rest


def _target_folders(entries: tuple[SnapshotEntry, ...], workspace: Path, adapters: Path) -> list[Path]:
    """The folders that are put in place as wholes: the workspace, and each advisor's of the registry outside it."""
    paths = [entry.path.split("/") for entry in entries]
    advisors = sorted({path[1] for path in paths if path[0] == ADAPTERS})
    homes = [adapters / advisor for advisor in advisors]
    return [workspace, *(home for home in homes if not home.is_relative_to(workspace))]


def _require_free(place: Path, force: bool) -> None:
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir():
        raise BadInput(f"{place} is a file.", "Name another folder with --workspace or --adapters.")
    if not force:
        raise BadInput(
            f"{place} is there and not empty; a restore overwrites nothing.",
            "Name an empty folder with --workspace and --adapters, or give --force: what is there is moved aside, "
            "not deleted. Stop the service and the worker first (`make down`).",
        )


def _restore_file(folder: BackupFolder, entry: SnapshotEntry, target: Path, name: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256, _ = copy_with_hash(folder.object(entry.sha256), target)
    require_intact_files(name, [entry.path] if sha256 != entry.sha256 else [])
    if entry.path == DATABASE_PATH:
        require_database_integrity(target)
    target.chmod(entry.mode)
    os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def _put_in_place(staged: dict[Path, Path]) -> tuple[Path, ...]:
    """Rename what was staged; when one of the folders can't be moved, all are as before."""
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside: dict[Path, Path] = {}
    placed: list[Path] = []
    try:
        for place, beside in staged.items():
            if place.exists():
                if any(place.iterdir()):
                    aside[place] = place.with_name(f"{place.name}.before-restore-{now}-{secrets.token_hex(2)}")
                    place.rename(aside[place])
                else:
                    place.rmdir()
            beside.rename(place)
            placed.append(place)
            sync_folder(place.parent)
    except OSError:
        for place in placed:
            place.rename(staged[place])
        for place, away in aside.items():
            away.rename(place)
        raise
    return tuple(aside.values())
