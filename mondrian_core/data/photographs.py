"""Photographs as they lie under source/: an advisor's portfolio, and what nobody has critiqued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mondrian_core.data.paths import SOURCE, SourceIndex, is_temporary
from mondrian_core.data.records import EXPLAINED, Reason
from mondrian_core.errors import BadPhotograph
from mondrian_core.files import sha256_of
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.images import Reason as PhotographReason

ADVISORS = "advisor"
_REASONS = {
    PhotographReason.MISSING: Reason.MISSING_PHOTOGRAPH,
    PhotographReason.EMPTY: Reason.EMPTY_PHOTOGRAPH,
    PhotographReason.NOT_A_PHOTOGRAPH: Reason.NOT_A_PHOTOGRAPH,
    PhotographReason.RAW: Reason.RAW_PHOTOGRAPH,
    PhotographReason.TOO_NARROW: Reason.TOO_NARROW_PHOTOGRAPH,
    PhotographReason.TOO_LARGE: Reason.TOO_LARGE_PHOTOGRAPH,
    PhotographReason.TRUNCATED: Reason.UNREADABLE_PHOTOGRAPH,
    PhotographReason.UNREADABLE: Reason.UNREADABLE_PHOTOGRAPH,
}


@dataclass(frozen=True)
class Found:
    """A file that may be a photograph: path below the workspace with "/", SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class LeftOutFile:
    """A file that was not used, and why."""

    path: str
    reason: str


def portfolio(workspace: Path, advisor: str) -> list[str]:
    """Files of source/advisor/<kind>/<advisor>/ that are named like photographs, sorted."""
    return [path for path in _named_like_photographs(workspace) if owner(path) == advisor]


def for_everyone(workspace: Path, advisor: str) -> list[str]:
    """Files under source/ that are named like photographs and are not in another advisor's portfolio, sorted."""
    return [path for path in _named_like_photographs(workspace) if owner(path) in (None, advisor)]


def owner(path: str) -> str | None:
    """The advisor in whose portfolio a file lies; None outside all portfolios."""
    parts = PurePosixPath(path).parts
    return parts[3] if parts[:2] == (SOURCE, ADVISORS) and len(parts) > 4 else None


def hashed(workspace: Path, paths: Sequence[str], left_out: list[LeftOutFile]) -> Iterator[Found]:
    """The files with their hashes, each content once; a copy and a file that can't be read go to `left_out`."""
    seen: dict[str, str] = {}
    for path in paths:
        try:
            found = Found(path, sha256_of(workspace / path))
        except OSError as error:
            left_out.append(LeftOutFile(path, error.strerror or "it can't be read"))
            continue
        if found.sha256 in seen:
            left_out.append(LeftOutFile(path, f"a copy of {seen[found.sha256]}"))
            continue
        seen[found.sha256] = path
        yield found


def reason_of(error: BadPhotograph) -> Reason:
    """Why linking leaves a record with such a photograph out."""
    return _REASONS[PhotographReason(error.reason)]


def refused(path: str, error: BadPhotograph) -> LeftOutFile:
    """A file that is no usable photograph, with the reason for people."""
    return LeftOutFile(path, EXPLAINED[reason_of(error)])


def _named_like_photographs(workspace: Path) -> list[str]:
    paths = SourceIndex(workspace).files
    return [
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() in PHOTOGRAPH_SUFFIXES and not is_temporary(PurePosixPath(path).name)
    ]
