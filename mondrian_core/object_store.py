"""ObjectStore: an fsspec file system with conditional writes, which succeed only if the object is unchanged.

S3 has them (If-None-Match and If-Match, since 2024), and so do compatible stores. A registry in another store can be
read but not written. Why fsspec: docs/decisions/0094.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadInput, Broken
from mondrian_core.files import copy_atomic, write_atomic

CONDITIONAL_WRITE_PROTOCOLS = frozenset({"s3", "s3a"})
_CONFLICT_CODES = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class WriteConflict(Exception):
    """Another writer changed the object first; the write did not happen."""


class Unreachable(Broken):
    """The store doesn't answer, or refuses access."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object: size in bytes, a token that changes with its content ("" when the store has none), and the time of its
    last change in seconds since the epoch (0 when unknown).
    """

    size: int
    token: str
    modified: float = 0.0


class ObjectStore:
    """The objects under a URL, named by paths relative to it."""

    def __init__(self, url: str) -> None:
        """Open the store without a request.

        Raises:
            BadInput: the protocol is unknown, or its package is not installed.
        """
        import fsspec

        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        self.conditional = protocol in CONDITIONAL_WRITE_PROTOCOLS
        try:
            # no listings cache: threads share a file system, and an outdated listing would hide new objects
            self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            extra = " Install the extra `s3` (docs/how-to/object-store.md)." if self.conditional else ""
            raise BadInput(
                f"{url} can't be opened as a registry: {error}.{extra}", "Name a folder, or an s3:// URL."
            ) from None

    def listing(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """Every object below `prefix`, by its path relative to the prefix."""
        place = f"{self._root}/{prefix}".rstrip("/")
        with self._translate_errors():
            try:
                found = self._fs.find(place, detail=True)
            except FileNotFoundError as error:
                raise BadInput(f"There is no store at {self.url}: {error}.", "Create the bucket first.") from None
        return {
            name.removeprefix(f"{place}/"): _object_info(facts)
            for name, facts in found.items()
            if name.startswith(f"{place}/")
        }

    def folders(self) -> list[str]:
        """Names of the folders directly under the URL, sorted."""
        with self._translate_errors():
            try:
                found = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory")

    def size(self, path: str) -> int | None:
        """Bytes of an object, without reading it; None when it doesn't exist."""
        with self._translate_errors():
            try:
                return int(self._fs.info(self._at(path), refresh=True)["size"])
            except FileNotFoundError:
                return None

    def token(self, path: str) -> str | None:
        """The token of an object, without reading it; None when it doesn't exist."""
        with self._translate_errors():
            try:
                facts = self._fs.info(self._at(path), refresh=True)
            except FileNotFoundError:
                return None
        return str(facts.get("ETag") or "")

    def read(self, path: str) -> bytes:
        """Read an object."""
        with self._translate_errors():
            data: bytes = self._fs.cat_file(self._at(path))
        return data

    def download(self, path: str, target: Path) -> None:
        """Download an object to a file."""
        with self._translate_errors():
            self._fs.get_file(self._at(path), str(target))

    def upload(self, path: str, source: Path) -> None:
        """Upload a file to an object, replacing it."""
        with self._translate_errors():
            self._fs.put_file(str(source), self._at(path))

    def write(self, path: str, data: bytes) -> None:
        """Write an object, replacing it; a reader sees the old or the new content."""
        with self._translate_errors():
            self._fs.pipe_file(self._at(path), data)

    def write_if(self, path: str, data: bytes, token: str | None) -> None:
        """Write an object only if it still has `token` (None: only if it doesn't exist).

        Raises:
            WriteConflict: it has another token, or it exists.
            BadInput: the store has no conditional writes.
        """
        self.require_conditional_writes()
        bucket, key = self._at(path).split("/", 1)
        condition = {"IfNoneMatch": "*"} if token is None else {"IfMatch": token}
        with self._translate_errors():
            self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)

    def require_conditional_writes(self) -> None:
        """Refuse a store without conditional writes.

        Raises:
            BadInput: the store has none.
        """
        if not self.conditional:
            raise BadInput(f"{self.url} can only be read.", "Only a folder or an s3:// URL can be written to.")

    def remove(self, paths: Iterable[str]) -> None:
        """Delete objects; a missing object is not an error."""
        with self._translate_errors():
            for path in paths:
                try:
                    self._fs.rm_file(self._at(path))
                except FileNotFoundError:
                    continue

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn errors of the store into ours; a missing object stays FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except _store_error_types() as error:
            code = str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))
            if code in _CONFLICT_CODES:
                raise WriteConflict(str(error)) from error
            raise Unreachable(
                f"The store at {self.url} can't be reached: {error}.",
                "Check network, address (AWS_ENDPOINT_URL) and credentials, and run the command again.",
            ) from error


class FolderStore(ObjectStore):
    """A folder as a store, such as a network share; files appear complete. It has no conditional writes."""

    def __init__(self, folder: Path) -> None:
        """Open the folder. It is never created, because it may be a share that isn't mounted."""
        super().__init__(folder.as_uri())
        self._folder = folder

    def upload(self, path: str, source: Path) -> None:
        """Copy a file to the folder, replacing what is there."""
        with self._translate_errors():
            copy_atomic(source, self._folder / path)

    def write(self, path: str, data: bytes) -> None:
        """Write a file, replacing it atomically."""
        with self._translate_errors():
            write_atomic(self._folder / path, data)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        if not self._folder.is_dir():
            raise Unreachable(
                f"The folder {self._folder} is not there.", "Mount the share, or create the folder, and run it again."
            )
        with super()._translate_errors():
            yield


def _object_info(facts: Mapping[str, Any]) -> ObjectInfo:
    changed = facts.get("LastModified") or facts.get("mtime") or 0.0
    modified = changed.timestamp() if isinstance(changed, datetime) else float(changed)
    token = facts.get("ETag") or (f"{facts['mtime']}-{facts.get('ino')}" if "mtime" in facts else "")
    return ObjectInfo(int(facts.get("size") or 0), str(token), modified)


@functools.cache
def _store_error_types() -> tuple[type[Exception], ...]:
    """Exceptions of the network and of the store."""
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return (OSError,)
    return (OSError, BotoCoreError)


@functools.cache
def open_object_store(url: str) -> ObjectStore:
    """The store at a URL or an absolute folder; one per process, to share its connections."""
    return ObjectStore(url) if "://" in url else FolderStore(Path(url))


def new_claim_token() -> bytes:
    """Unique bytes, so that two claims never have the same content."""
    return uuid.uuid4().hex.encode()


def token_in_listing(listing: dict[str, Any], path: str) -> str | None:
    """The token of an object in a listing; None when the object is missing."""
    found = listing.get(path)
    return found.token if found is not None else None
