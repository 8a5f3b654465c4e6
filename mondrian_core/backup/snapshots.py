"""BackupFolder: contents stored by hash, and one list of files per snapshot."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mondrian_core.backup.file_selection import ADAPTERS, DATABASE, WORKSPACE
from mondrian_core.errors import BadInput, Broken, NegativeOutcome, translate_foreign_errors
from mondrian_core.events import EventListener, StageProgressed, ignore_events
from mondrian_core.files import file_sha256, sync_folder
from mondrian_core.store.database import integrity_problems

FORMAT = 1
OBJECTS, SNAPSHOTS, LOCK = "objects", "snapshots", ".lock"
INCOMING_PREFIX = ".incoming-"
DATABASE_PATH = f"{WORKSPACE}/{DATABASE}"
_BLOCK = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9A-Za-z-]{1,40}")


class DamagedBackup(Broken):
    """A snapshot whose list or contents differ from what was written."""


class UnreadableFile(Exception):
    """A file to copy can't be read; `reason` in words, `removed` when it no longer exists."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.removed = isinstance(error, FileNotFoundError)
        self.reason = (
            "it was removed during the backup" if self.removed else f"it can't be read ({error.strerror or error})"
        )
        super().__init__(f"{path}: {self.reason}")


class BackupBusy(NegativeOutcome):
    """Another process is writing to the same backup folder."""


@dataclass(frozen=True, kw_only=True)
class SnapshotEntry:
    """A file of a snapshot: path in the backup, SHA-256, size in bytes, modification time in ns, permission bits."""

    path: str
    sha256: str
    bytes: int
    mtime_ns: int
    mode: int


@dataclass(frozen=True, kw_only=True)
class BackupSnapshot:
    """The list of files of one backup. `left_out` are unreadable files, as (path, reason)."""

    name: str
    made_at: str
    program: str
    entries: tuple[SnapshotEntry, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that it restores."""
        return sum(entry.bytes for entry in self.entries)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for people and programs, without the list of files."""
        return {
            "snapshot": self.name,
            "made_at": self.made_at,
            "files": len(self.entries),
            "bytes": self.bytes,
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
        }


class BackupFolder:
    """The files of a backup folder. Objects are written once; a snapshot's list is written last."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder, and remove what a crashed process left incomplete.

        Raises:
            BackupBusy: another process holds the lock.
        """
        from filelock import FileLock, Timeout

        with translate_foreign_errors(self.root):
            for folder in (self.root, self.root / OBJECTS, self.root / SNAPSHOTS):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                lock = FileLock(self.root / LOCK).acquire(timeout=0)
            except Timeout:
                raise BackupBusy(f"Another backup is writing to {self.root}.", "Wait until it is done.") from None
            with lock:
                for place in (self.root / OBJECTS, self.root / SNAPSHOTS):
                    for left in place.glob(f"{INCOMING_PREFIX}*"):
                        left.unlink()
                yield

    def object(self, sha256: str) -> Path:
        """Path of the content with a hash."""
        return self.root / OBJECTS / sha256[:2] / sha256

    def holds(self, entry: SnapshotEntry) -> bool:
        """True when the object exists with its size; the content is not read."""
        try:
            return self.object(entry.sha256).stat().st_size == entry.bytes
        except OSError:
            return False

    def store_file(self, file: Path) -> tuple[str, int, bool]:
        """Store a file and read the copy back; gives SHA-256, size in bytes, and whether the content is new.

        Raises:
            UnreadableFile: the file can't be read.
            DamagedBackup: the copy reads back differently.
            DiskFull: nothing is left behind.
        """
        with translate_foreign_errors(self.root):
            temporary = self.incoming(self.root / OBJECTS)
            try:
                sha256, size = copy_with_hash(file, temporary)
                place = self.object(sha256)
                if place.exists() and place.stat().st_size == size:
                    return sha256, size, False
                if file_sha256(temporary) != sha256:
                    raise DamagedBackup(f"{file} reads back differently from {self.root}.", "Check that disk.")
                place.parent.mkdir(exist_ok=True, mode=0o700)
                temporary.replace(place)
                sync_folder(place.parent)
                return sha256, size, True
            finally:
                temporary.unlink(missing_ok=True)

    def incoming(self, folder: Path) -> Path:
        """A temporary name for an incomplete file."""
        return folder / f"{INCOMING_PREFIX}{secrets.token_hex(8)}"

    def write(self, snapshot: BackupSnapshot) -> None:
        """Write a snapshot's list atomically."""
        entries = [asdict(entry) for entry in snapshot.entries]
        values = {
            "format": FORMAT,
            "made_at": snapshot.made_at,
            "program": snapshot.program,
            "entries": entries,
            "entries_sha256": _digest(entries),
            "left_out": list(map(list, snapshot.left_out)),
        }
        folder = self.root / SNAPSHOTS
        with translate_foreign_errors(folder):
            temporary = self.incoming(folder)
            try:
                with open_private(temporary) as stream:
                    stream.write(json.dumps(values, indent=1).encode())
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(folder / f"{snapshot.name}.json")
                sync_folder(folder)
            finally:
                temporary.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Names of the snapshots, oldest first."""
        return sorted(path.stem for path in (self.root / SNAPSHOTS).glob("*.json") if _NAME.fullmatch(path.stem))

    def read(self, name: str | None = None) -> BackupSnapshot:
        """A snapshot (None: the last).

        Raises:
            BadInput: no snapshot has that name.
            DamagedBackup: its list was changed or can't be read.
        """
        names = self.names()
        if not names or (name is not None and name not in names):
            have = f"It has {', '.join(names[-5:])}." if names else "Make one with `mondrian backup FOLDER`."
            raise BadInput(f"{self.root} holds no snapshot{f' {name}' if name else ''}.", have)
        chosen = name or names[-1]
        try:
            values = json.loads((self.root / SNAPSHOTS / f"{chosen}.json").read_bytes())
            if values["format"] != FORMAT:
                raise BadInput(f"The snapshot {chosen} has format {values['format']}.", "Use a newer program.")
            if values["entries_sha256"] != _digest(values["entries"]):
                raise ValueError("its list was changed")
            entries = tuple(_entry(each) for each in values["entries"])
            left_out = tuple((str(path), str(reason)) for path, reason in values["left_out"])
            return BackupSnapshot(
                name=chosen, made_at=values["made_at"], program=values["program"], entries=entries, left_out=left_out
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedBackup(f"The snapshot {chosen} can't be read: {error}.", "Name an earlier one.") from error

    def prune(self, keep: int) -> list[str]:
        """Delete all but the last `keep` snapshots and their unshared contents; gives the deleted names."""
        names = self.names()
        gone, kept = names[:-keep], names[-keep:]
        if not gone:
            return []
        needed = {entry.sha256 for name in kept for entry in self.read(name).entries}
        for name in gone:
            (self.root / SNAPSHOTS / f"{name}.json").unlink()
        for place in (self.root / OBJECTS).glob("??/*"):
            if place.name not in needed:
                place.unlink()
        return gone


def list_snapshots(root: Path) -> list[BackupSnapshot]:
    """Every snapshot of a backup folder, oldest first."""
    folder = BackupFolder(root)
    return [folder.read(name) for name in folder.names()]


def verify_backup(root: Path, name: str | None = None, listen: EventListener = ignore_events) -> BackupSnapshot:
    """Read every file of a snapshot (None: the last) and check its hash, and the database's integrity.

    Raises:
        DamagedBackup: names the missing or changed files.
    """
    folder = BackupFolder(root)
    snapshot = folder.read(name)
    wrong = []
    for done, entry in enumerate(snapshot.entries, 1):
        place = folder.object(entry.sha256)
        if not folder.holds(entry) or file_sha256(place) != entry.sha256:
            wrong.append(entry.path)
        listen(StageProgressed("verify", done, len(snapshot.entries), entry.path))
    require_intact_files(snapshot.name, wrong)
    for entry in snapshot.entries:
        if entry.path == DATABASE_PATH:
            with tempfile.TemporaryDirectory(prefix="mondrian-verify-") as place_to_open:
                copied = Path(place_to_open) / DATABASE
                copy_with_hash(folder.object(entry.sha256), copied)
                require_database_integrity(copied)
    return snapshot


def require_intact_files(name: str, wrong: Sequence[str]) -> None:
    """Refuse a snapshot with files that are missing or changed."""
    if wrong:
        raise DamagedBackup(
            f"In the snapshot {name} {len(wrong)} files are missing or changed, the first: {wrong[0]}.",
            "Name an earlier snapshot with --snapshot, and make a new backup to another disk.",
        )


def require_database_integrity(database: Path) -> None:
    """Refuse a database that SQLite finds damaged."""
    if problems := integrity_problems(database):
        raise DamagedBackup(
            f"SQLite finds the database damaged: {'; '.join(problems)}.", "Use an earlier snapshot (`--list`)."
        )


def copy_with_hash(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file to a new private one and flush it; gives SHA-256 and size in bytes.

    Raises:
        UnreadableFile: the source can't be read.
        OSError: the target can't be written.
    """
    digest, size = hashlib.sha256(), 0
    with open_private(target) as copy:
        for block in _blocks(source):
            digest.update(block)
            copy.write(block)
            size += len(block)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest(), size


def _blocks(source: Path) -> Iterator[bytes]:
    try:
        stream = source.open("rb")
    except OSError as error:
        raise UnreadableFile(source, error) from error
    with stream:
        while True:
            try:
                block = stream.read(_BLOCK)
            except OSError as error:
                raise UnreadableFile(source, error) from error
            if not block:
                return
            yield block


def open_private(path: Path) -> Any:
    """Create a file that only its owner may read, open for writing bytes."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _entry(values: dict[str, Any]) -> SnapshotEntry:
    """An entry from its stored values; paths outside the backup are refused."""
    entry = SnapshotEntry(**values)
    path = PurePosixPath(entry.path)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts[0] in (WORKSPACE, ADAPTERS)
    if not inside or "\\" in entry.path or "\0" in entry.path or not _HASH.fullmatch(entry.sha256):
        raise ValueError(f"the entry {entry.path!r} points outside the backup")
    return entry


def _digest(entries: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
