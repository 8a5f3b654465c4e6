"""SharedStorage: files as objects named by their SHA-256, and manifests that name them.

    objects/ab/abcd...            content, never changed
    datasets/<advisor>/<digest>.json, runs/<run>.json, checkpoints/<run>/...: manifests, each written after its objects

A reader sees a manifest with everything that it names, or none: an upload that was interrupted leaves objects that
nobody names, which `unreferenced_published` finds. Everything is verified against its SHA-256 when it is fetched.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mondrian_core.errors import BadInput, Broken
from mondrian_core.files import file_sha256, make_folder, replace_atomic, sync_folder
from mondrian_core.object_store import ObjectStore, open_object_store

FORMAT = 1
OBJECTS = "objects"
INCOMING_PREFIX = ".incoming-"
KEPT_DAYS = 7.0  # an object that no manifest names yet may belong to an upload that goes on
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DamagedPublication(Broken):
    """Published files are missing, or differ from their SHA-256."""


@dataclass(frozen=True)
class Publication:
    """A manifest: `files` by relative path as (SHA-256, bytes), and further facts."""

    files: Mapping[str, tuple[str, int]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = {name: {"sha256": sha256, "bytes": size} for name, (sha256, size) in sorted(self.files.items())}
        return {"format": FORMAT, **self.facts, "files": files}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Publication:
        """A manifest from JSON.

        Raises:
            ValueError: it has another form, or a path that leads out of its folder.
        """
        if value.get("format") != FORMAT:
            raise ValueError(f"its format is {value.get('format')!r}, this release reads {FORMAT}")
        files = {}
        for name, facts in value["files"].items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or not _SHA256.fullmatch(facts["sha256"]):
                raise ValueError(f"{name!r} is not a file name with its SHA-256")
            files[name] = (facts["sha256"], int(facts["bytes"]))
        return cls(files, {key: item for key, item in value.items() if key not in ("format", "files")})


@dataclass(frozen=True)
class UnreferencedObject:
    """An object that no manifest names: its path below the shared root, bytes, and days since it was written."""

    path: str
    size: int
    days: float


class SharedStorage:
    """The shared root at a folder or an `s3://` URL."""

    def __init__(self, root: str) -> None:
        """Open it without a request.

        Raises:
            BadInput: the protocol is unknown.
        """
        self.store: ObjectStore = open_object_store(root)

    def publish(self, name: str, files: Mapping[str, Path], facts: Mapping[str, Any] | None = None) -> Publication:
        """Upload what is missing, then write the manifest `name`; a repeated call uploads nothing again.

        Raises:
            Unreachable: the storage does not answer; nothing that readers see has changed.
        """
        sources = {path: (file_sha256(file), file) for path, file in files.items()}
        made = Publication(
            {path: (sha256, file.stat().st_size) for path, (sha256, file) in sources.items()}, facts or {}
        )
        contents = dict(sources.values())
        self._upload_missing(contents)
        self.store.write(f"{name}.json", f"{json.dumps(made.as_dict(), indent=1)}\n".encode())
        self._upload_missing(contents)  # pruning on another machine may have been quicker than the manifest
        return made

    def _upload_missing(self, contents: Mapping[str, Path]) -> None:
        for sha256, file in contents.items():
            if self.store.size(object_path(sha256)) != file.stat().st_size:
                self.store.upload(object_path(sha256), file)

    def read(self, name: str) -> Publication | None:
        """The manifest `name`; None when there is none.

        Raises:
            DamagedPublication: it can't be read.
            Unreachable: the storage does not answer.
        """
        try:
            return Publication.from_dict(json.loads(self.store.read(f"{name}.json")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedPublication(
                f"{name}.json in {self.store.url} can't be read: {error}.", "Publish it again."
            ) from None

    def tokens(self, place: str) -> dict[str, str]:
        """The manifests below `place` by name, each with a token that changes with its content."""
        return {
            f"{place}/{path.removesuffix('.json')}": info.token
            for path, info in self.store.listing(place).items()
            if path.endswith(".json")
        }

    def fetch_file(self, sha256: str, target: Path) -> None:
        """Download an object to a new file.

        Raises:
            DamagedPublication: it is missing, or has another SHA-256.
        """
        try:
            self.store.download(object_path(sha256), target)
        except FileNotFoundError:
            found = "is missing"
        else:
            found = "" if file_sha256(target) == sha256 else "doesn't match its name"
        if found:
            target.unlink(missing_ok=True)
            raise DamagedPublication(
                f"The object {sha256[:12]} in {self.store.url} {found}.",
                "Publish it again on the machine that made it.",
            )

    def replace_file(self, sha256: str, target: Path) -> None:
        """Replace a file by an object, atomically.

        Raises:
            DamagedPublication: it is missing, or has another SHA-256.
        """

        def write(temporary: Path) -> None:
            self.fetch_file(sha256, temporary)

        make_folder(target.parent)
        replace_atomic(target, write)

    def fetch_folder(self, publication: Publication, target: Path) -> None:
        """Download all files of a manifest into a new folder, which appears complete or not at all.

        Raises:
            DamagedPublication: a file is missing or damaged.
        """
        make_folder(target.parent)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=INCOMING_PREFIX))
        try:
            for name, (sha256, _) in publication.files.items():
                make_folder((building / name).parent)
                self.fetch_file(sha256, building / name)
            building.chmod(0o755)
            if not target.exists():
                building.rename(target)
                sync_folder(target.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def object_path(sha256: str) -> str:
    """Where the content with this SHA-256 is."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


def open_shared(root: str | None) -> SharedStorage | None:
    """The shared storage of the settings; None when they name none."""
    return None if root is None else SharedStorage(root)


def unreferenced_published(
    storage: SharedStorage, days: float = KEPT_DAYS, now: float | None = None
) -> list[UnreferencedObject]:
    """Objects older than `days` that no manifest names, oldest first. Nothing is removed.

    Args:
        storage: the shared storage.
        days: younger objects may belong to an upload whose manifest is still to come.
        now: seconds since the epoch, for tests.

    Raises:
        DamagedPublication: a manifest can't be read, so nobody knows what it names.
        Unreachable: the storage does not answer.
    """
    present = storage.store.listing(OBJECTS)  # first: what is named afterwards is in a manifest that is read below
    named = set(_named_objects(storage))
    moment = time.time() if now is None else now
    found = [
        UnreferencedObject(f"{OBJECTS}/{path}", info.size, (moment - info.modified) / 86400)
        for path, info in present.items()
        if path.rpartition("/")[2] not in named
    ]
    return sorted((each for each in found if each.days >= days), key=lambda each: -each.days)


def remove_unreferenced(storage: SharedStorage, found: list[UnreferencedObject]) -> int:
    """Remove what `unreferenced_published` found; gives the bytes. What a manifest names by now is kept."""
    named = set(_named_objects(storage))
    gone = [each for each in found if each.path.rpartition("/")[2] not in named]
    storage.store.remove(each.path for each in gone)
    return sum(each.size for each in gone)


def _named_objects(storage: SharedStorage) -> Iterator[str]:
    for place in ("datasets", "runs", "checkpoints"):
        for name in storage.tokens(place):
            publication = storage.read(name)
            if publication is not None:
                yield from (sha256 for sha256, _ in publication.files.values())


def require_name(name: str) -> str:
    """A name that may be part of a path in the storage.

    Raises:
        BadInput: it is empty, or has other characters than letters, digits, ".", "_" and "-".
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", name):
        raise BadInput(f"'{name[:80]}' can't be published.", "Use letters, digits, '.', '_' and '-'.")
    return name
