"""An fsspec file system with what a registry needs beyond reading: a write that happens only if nobody else's did.

S3 has it (conditional writes with If-None-Match and If-Match, since 2024), and so have stores that speak its protocol.
Where it is missing, the registry can be read and not be written.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadInput, Broken

CONDITIONAL_WRITE_PROTOCOLS = frozenset({"s3", "s3a"})
_CONFLICT_CODES = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class WriteConflict(Exception):
    """Somebody else wrote the object first; what the write rested on is no longer so."""


class Unreachable(Broken):
    """The store doesn't answer, or refuses."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object: its size in bytes, and a token that changes with its content ("" where the store has none)."""

    size: int
    token: str


class ObjectStore:
    """The objects under a URL, named by paths relative to it."""

    def __init__(self, url: str) -> None:
        """Open; nothing is asked of the store yet.

        Raises:
            BadInput: no such protocol, or its package is not installed.
        """
        import fsspec

        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        self.conditional = protocol in CONDITIONAL_WRITE_PROTOCOLS
        try:
            # no listings kept: threads share a file system, and one's old listing would hide what is there for another
            self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            extra = " Install it with `pip install 'mondrian[s3]'`." if self.conditional else ""
            raise BadInput(
                f"{url} can't be opened as a registry: {error}.{extra}", "Name a folder, or an s3:// URL."
            ) from None

    def listing(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """Every object below `prefix`, by its path relative to that."""
        place = f"{self._root}/{prefix}".rstrip("/")
        with self._translate_errors():
            try:
                found = self._fs.find(place, detail=True)
            except FileNotFoundError as error:
                raise BadInput(f"There is no registry at {self.url}: {error}.", "Make the bucket first.") from None
        return {
            name.removeprefix(f"{place}/"): ObjectInfo(int(facts.get("size") or 0), str(facts.get("ETag") or ""))
            for name, facts in found.items()
            if name.startswith(f"{place}/")
        }

    def folders(self) -> list[str]:
        """Names directly under the URL that are folders."""
        with self._translate_errors():
            try:
                found = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory")

    def read(self, path: str) -> bytes:
        """An object's bytes."""
        with self._translate_errors():
            data: bytes = self._fs.cat_file(self._at(path))
        return data

    def download(self, path: str, target: Path) -> None:
        """An object into a file."""
        with self._translate_errors():
            self._fs.get_file(self._at(path), str(target))

    def upload(self, path: str, source: Path) -> None:
        """A file into an object, whatever was there."""
        with self._translate_errors():
            self._fs.put_file(str(source), self._at(path))

    def write_if(self, path: str, data: bytes, token: str | None) -> None:
        """Write when the object still has `token` (None: when it isn't there), else not at all.

        Raises:
            Lost: it has another, or it is there.
            BadInput: the store can't do that.
        """
        if not self.conditional:
            raise BadInput(f"{self.url} can only be read.", "Only a folder or an s3:// URL can be written to.")
        bucket, key = self._at(path).split("/", 1)
        condition = {"IfNoneMatch": "*"} if token is None else {"IfMatch": token}
        with self._translate_errors():
            self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)

    def remove(self, paths: Iterable[str]) -> None:
        """Delete objects; one that isn't there is no error."""
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
        """Turn the store's errors into ours; an object that isn't there stays FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except _store_error_types() as error:
            code = str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))
            if code in _CONFLICT_CODES:
                raise WriteConflict(str(error)) from error
            raise Unreachable(
                f"The registry at {self.url} can't be reached: {error}.",
                "Check network, address (AWS_ENDPOINT_URL) and credentials, and run the command again.",
            ) from error


@functools.cache
def _store_error_types() -> tuple[type[Exception], ...]:
    """Errors of the network and of the store."""
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return (OSError,)
    return (OSError, BotoCoreError)


@functools.cache
def open_object_store(url: str) -> ObjectStore:
    """The store of a URL; one per process, for its connections."""
    return ObjectStore(url)


def new_claim_token() -> bytes:
    """Bytes that nobody else writes, so that two claims are never the same object."""
    return uuid.uuid4().hex.encode()


def token_in_listing(listing: dict[str, Any], path: str) -> str | None:
    """The token of an object in a listing; None when it isn't there."""
    found = listing.get(path)
    return found.token if found is not None else None
