"""Check the files of a version against its manifest, for a list of them: one result for each file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mondrian_core.files import file_sha256
from mondrian_core.registry.version import AdapterVersion

FileState = Literal["verified", "changed", "missing", "not downloaded"]


@dataclass(frozen=True)
class FileCheck:
    """A file that a manifest lists: its size in bytes, its SHA-256, and whether the file on disk is that one."""

    name: str
    bytes: int | None
    sha256: str
    state: FileState

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_version_files(version: AdapterVersion, *, remote: bool) -> list[FileCheck]:
    """Hash every listed file. A file is hashed again only when its size or time has changed.

    Args:
        version: to check.
        remote: the registry is an object store, where a missing file was not downloaded yet.
    """
    return [
        _check(version.path / name, name, facts, remote=remote)
        for name, facts in (version.manifest.get("files") or {}).items()
    ]


def _check(path: Path, name: str, facts: dict[str, Any], *, remote: bool) -> FileCheck:
    size, recorded = facts.get("bytes"), str(facts.get("sha256") or "")
    state: FileState = "changed"
    try:
        status = path.lstat()
        if not path.is_symlink() and status.st_size == size:
            state = "verified" if _sha256_at(path, status.st_mtime_ns, status.st_size) == recorded else "changed"
    except OSError:
        state = "not downloaded" if remote else "missing"
    return FileCheck(name, size if isinstance(size, int) else None, recorded, state)


@lru_cache(maxsize=4096)
def _sha256_at(path: Path, changed_ns: int, size: int) -> str:
    """SHA-256 of a file as it was at that time."""
    return file_sha256(path)
