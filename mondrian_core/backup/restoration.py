"""Restore a snapshot: write and check everything in temporary folders, and rename them into place at the end."""

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
    """The restored snapshot, and the new names of folders that were in its place."""

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
    """Restore a snapshot to a workspace and a registry.

    Every file is checked against its hash while it is copied, and the database by SQLite, before anything is moved into
    place. Nothing is ever overwritten.

    Args:
        root: the backup folder.
        workspace: where to restore the workspace.
        adapters: where to restore the registry.
        snapshot: name of the snapshot; None: the last.
        force: rename folders that are not empty instead of refusing them.
        listen: receives events.

    Raises:
        BadInput: no snapshot has that name, or a target folder is not empty.
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
            for temporary in staged.values():
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.mkdir(mode=0o700)
            for done, entry in enumerate(chosen.entries, 1):
                final = finals[entry.path]
                place = next(place for place in roots if final.is_relative_to(place))
                _restore_file(folder, entry, staged[place] / final.relative_to(place), chosen.name)
                listen(StageProgressed("restore", done, len(chosen.entries), entry.path))
            moved = _put_in_place(staged)
    except UnreadableFile as error:
        raise DamagedBackup(f"The backup can't be read: {error}.", "Nothing was changed; check that disk.") from error
    finally:
        for temporary in staged.values():
            shutil.rmtree(temporary, ignore_errors=True)
    return RestoreResult(chosen, moved)


def _target_path(entry: SnapshotEntry, workspace: Path, adapters: Path) -> Path:
    part, _, rest = entry.path.partition("/")
    return {WORKSPACE: workspace, ADAPTERS: adapters}[part] / rest


def _target_folders(entries: tuple[SnapshotEntry, ...], workspace: Path, adapters: Path) -> list[Path]:
    """The folders to rename into place: the workspace, and each advisor's folder of a registry outside it."""
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
            f"{place} is not empty; a restore overwrites nothing.",
            "Name an empty folder with --workspace and --adapters, or add --force: the present content is renamed, "
            "not deleted. Stop the service and the worker first (`mondrian down`).",
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
    """Rename the staged folders into place; when one can't be renamed, undo all."""
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside: dict[Path, Path] = {}
    placed: list[Path] = []
    try:
        for place, temporary in staged.items():
            if place.exists():
                if any(place.iterdir()):
                    aside[place] = place.with_name(f"{place.name}.before-restore-{now}-{secrets.token_hex(2)}")
                    place.rename(aside[place])
                else:
                    place.rmdir()
            temporary.rename(place)
            placed.append(place)
            sync_folder(place.parent)
    except OSError:
        for place in placed:
            place.rename(staged[place])
        for place, away in aside.items():
            away.rename(place)
        raise
    return tuple(aside.values())
