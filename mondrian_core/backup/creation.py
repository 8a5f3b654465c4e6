"""Create a snapshot: the database first, then the files that it names, the list of files last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from mondrian_core.backup.file_selection import (
    DATABASE,
    BackupItem,
    SkippedFile,
    registry_advisors,
    registry_backup_items,
    registry_state_items,
    workspace_backup_items,
)
from mondrian_core.backup.snapshots import (
    DATABASE_PATH,
    OBJECTS,
    BackupFolder,
    BackupSnapshot,
    DamagedBackup,
    SnapshotEntry,
    UnreadableFile,
    require_database_integrity,
)
from mondrian_core.errors import BadInput, DiskFull, MondrianError, NoWorkspace, RegistryBusy
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.store import Store

COPY_TRIES = 3  # for a file that changes while it is copied
REGISTRY_LOCK = ".lock"
LOCK_SECONDS = 30.0


class NoRoomForBackup(DiskFull):
    """The new contents don't fit on the disk; raised before anything is copied."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        MondrianError.__init__(
            self,
            f"The backup needs {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free.",
            "Free some space, name a folder on another disk, or delete old snapshots with --keep.",
        )


@dataclass(frozen=True)
class BackupResult:
    """A new snapshot, the number and bytes of its new files, and the names of deleted snapshots."""

    snapshot: BackupSnapshot
    new_files: int
    new_bytes: int
    deleted: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.snapshot.as_dict(),
            "new_files": self.new_files,
            "new_bytes": self.new_bytes,
            "deleted": list(self.deleted),
        }


def create_backup(
    workspace: Path, adapters: Path | None, to: Path, *, keep: int | None = None, listen: EventListener = ignore_events
) -> BackupResult:
    """Add a snapshot of a workspace and its registry (None: without one) to the backup folder `to`.

    Only contents that the folder lacks are copied; a file with the size and modification time of the last snapshot is
    not read again. Every copy is read back, and the database's integrity is checked.

    Args:
        workspace: the workspace.
        adapters: the registry's folder; None: without a registry.
        to: the backup folder.
        keep: delete all but this many snapshots afterwards; None: delete none.
        listen: receives events.

    Raises:
        NoWorkspace, NoDatabase: there is nothing to back up.
        BadInput: the backup folder is inside the workspace or the registry.
        DiskFull: what this call had copied is removed.
        BackupBusy: another process is writing to the folder.
        DamagedBackup: the database is damaged, or a copy reads back differently; earlier snapshots stay.
    """
    if not workspace.is_dir():
        raise NoWorkspace(workspace)
    if keep is not None and keep < 1:
        raise BadInput(f"--keep {keep} would keep nothing.", "Keep at least one snapshot.")
    for source in (workspace, adapters):
        if source is not None and to.resolve().is_relative_to(source.resolve()):
            raise BadInput(f"{to} is inside {source}, which it should back up.", "Name a folder on another disk.")
    folder = BackupFolder(to)
    with Store(workspace / DATABASE, read_only=True) as store, folder.writing():
        made = _BackupJob(folder=folder, workspace=workspace, adapters=adapters, listen=listen)
        with made.remove_added_when_full():
            snapshot = made.snapshot(store)
            folder.write(snapshot)
        deleted = folder.prune(keep) if keep else []
    return BackupResult(snapshot, made.new_files, made.new_bytes, tuple(deleted))


@dataclass(kw_only=True)
class _BackupJob:
    """State of one backup in progress."""

    folder: BackupFolder
    workspace: Path
    adapters: Path | None
    listen: EventListener
    entries: dict[str, SnapshotEntry] = field(default_factory=dict)
    left_out: list[SkippedFile] = field(default_factory=list)
    added: list[Path] = field(default_factory=list)
    new_bytes: int = 0

    @property
    def new_files(self) -> int:
        return len(self.added)

    def snapshot(self, store: Store) -> BackupSnapshot:
        now = datetime.now(UTC)
        known = self._known()
        self._copy_database(store)  # first: the photographs that it names exist already
        for advisor in registry_advisors(self.adapters) if self.adapters else []:
            self._copy_registry_state(advisor)
        items = sorted(self._items(), key=lambda item: item.path)
        self._require_free_space(items, known)
        for done, item in enumerate(items, 1):
            self._take(item, known.get(item.path))
            self.listen(StageProgressed("backup", done, len(items), item.path))
        entries = tuple(self.entries[path] for path in sorted(self.entries))
        left_out = tuple((each.path, each.reason) for each in self.left_out)
        return BackupSnapshot(
            name=self._name(now),
            made_at=now.isoformat(timespec="seconds"),
            program=metadata.version("mondrian"),
            entries=entries,
            left_out=left_out,
        )

    @contextmanager
    def remove_added_when_full(self) -> Iterator[None]:
        """Free the disk that this backup filled: other processes write to it."""
        try:
            yield
        except DiskFull:
            for path in self.added:
                path.unlink(missing_ok=True)
            raise

    def _items(self) -> Iterator[BackupItem]:
        inside = (self.adapters,) if self.adapters else ()
        parts = [workspace_backup_items(self.workspace, inside, self._leave_out)]
        for advisor in registry_advisors(self.adapters) if self.adapters else []:
            assert self.adapters is not None
            parts.append(registry_backup_items(self.adapters, advisor, (self.workspace,), self._leave_out))
        return chain.from_iterable(parts)

    def _name(self, now: datetime) -> str:
        taken, name = set(self.folder.names()), f"{now:%Y%m%dT%H%M%SZ}"
        return name if name not in taken else f"{now:%Y%m%dT%H%M%SZ}-{now.microsecond:06d}"

    def _known(self) -> dict[str, SnapshotEntry]:
        """Entries of the most recent readable snapshot, by path."""
        for name in reversed(self.folder.names()):
            try:
                return {entry.path: entry for entry in self.folder.read(name).entries}
            except (DamagedBackup, BadInput) as error:
                self.listen(StageNotice("backup", str(error)))
        return {}

    def _require_free_space(self, items: list[BackupItem], known: dict[str, SnapshotEntry]) -> None:
        """Fail before hours of copying when the new files can't fit.

        Only files that are new by name or size count: one with a new modification time may have known content.
        """
        sizes = {entry.bytes for entry in known.values()}
        needed = 0
        for item in items:
            try:
                size = item.file.stat().st_size
                needed += 0 if size in sizes or self._unchanged(item, known.get(item.path)) else size
            except (OSError, UnreadableFile):
                continue
        free = shutil.disk_usage(self.folder.root).free
        if needed > free:
            raise NoRoomForBackup(self.folder.root, needed, free)

    def _unchanged(self, item: BackupItem, before: SnapshotEntry | None) -> bool:
        now = _file_stat(item.file)
        return (
            before is not None
            and (now.st_size, now.st_mtime_ns) == (before.bytes, before.mtime_ns)
            and self.folder.holds(before)
        )

    def _copy_database(self, store: Store) -> None:
        copy = self.folder.incoming(self.folder.root / OBJECTS)
        try:
            store.copy_to(copy)
            require_database_integrity(copy)
            self._keep(DATABASE_PATH, copy, (self.workspace / DATABASE).stat().st_mode)
        finally:
            copy.unlink(missing_ok=True)

    def _copy_registry_state(self, advisor: str) -> None:
        """Copy pointer and history under the registry's lock, so that they are consistent."""
        from filelock import FileLock, Timeout

        assert self.adapters is not None
        path = self.adapters / advisor / REGISTRY_LOCK
        with ExitStack() as held:
            if path.exists() and os.access(path, os.W_OK):  # nobody writes to a read-only registry
                try:
                    held.enter_context(FileLock(path).acquire(timeout=LOCK_SECONDS))
                except Timeout:
                    raise RegistryBusy(path) from None
            for item in registry_state_items(self.adapters, advisor):
                self._take(item, None)

    def _take(self, item: BackupItem, before: SnapshotEntry | None) -> None:
        try:
            for _ in range(COPY_TRIES):
                if before is not None and self._unchanged(item, before):
                    self.entries[item.path] = before
                    return
                was = _file_stat(item.file)
                self._keep(item.path, item.file, was.st_mode)
                now = _file_stat(item.file)
                if (was.st_size, was.st_mtime_ns) == (now.st_size, now.st_mtime_ns):
                    return
        except UnreadableFile as error:
            self.entries.pop(item.path, None)
            if error.removed:  # during the backup: it doesn't belong to this snapshot
                self.listen(StageNotice("backup", f"{item.path}: {error.reason}"))
            else:
                self._leave_out(SkippedFile(item.path, error.reason))
            return
        self.listen(
            StageNotice("backup", f"{item.path} changed while it was copied; the snapshot holds one of its states")
        )

    def _keep(self, path: str, file: Path, mode: int) -> None:
        changed = _file_stat(file).st_mtime_ns
        sha256, size, new = self.folder.store_file(file)
        if new:
            self.added.append(self.folder.object(sha256))
            self.new_bytes += size
        self.entries[path] = SnapshotEntry(path=path, sha256=sha256, bytes=size, mtime_ns=changed, mode=mode & 0o777)

    def _leave_out(self, left: SkippedFile) -> None:
        self.left_out.append(left)
        self.listen(StageNotice("backup", f"{left.path} is not in the backup: {left.reason}"))


def _file_stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise UnreadableFile(file, error) from error
