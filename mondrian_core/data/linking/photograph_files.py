"""Photographs as they lie under source/: an advisor's portfolio, and what nobody has critiqued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mondrian_core.data.linking.link_manifest import EXCLUSION_EXPLANATIONS, ExclusionReason
from mondrian_core.data.linking.photograph_paths import SOURCE, SourceTree, is_temporary_path
from mondrian_core.errors import BadPhotograph
from mondrian_core.files import file_sha256
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.images import PhotographRejection as PhotographReason

ADVISORS_FOLDER = "advisor"
_REASONS = {
    PhotographReason.MISSING: ExclusionReason.MISSING_PHOTOGRAPH,
    PhotographReason.EMPTY: ExclusionReason.EMPTY_PHOTOGRAPH,
    PhotographReason.NOT_A_PHOTOGRAPH: ExclusionReason.NOT_A_PHOTOGRAPH,
    PhotographReason.RAW: ExclusionReason.RAW_PHOTOGRAPH,
    PhotographReason.TOO_NARROW: ExclusionReason.TOO_NARROW_PHOTOGRAPH,
    PhotographReason.TOO_LARGE: ExclusionReason.TOO_LARGE_PHOTOGRAPH,
    PhotographReason.TRUNCATED: ExclusionReason.UNREADABLE_PHOTOGRAPH,
    PhotographReason.UNREADABLE: ExclusionReason.UNREADABLE_PHOTOGRAPH,
}


@dataclass(frozen=True)
class PhotographFile:
    """A file that may be a photograph: path below the workspace with "/", SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class ExcludedFile:
    """A file that was not used, and why."""

    path: str
    reason: str


def portfolio_paths(workspace: Path, advisor: str) -> list[str]:
    """Files of source/advisor/<kind>/<advisor>/ that are named like photographs, sorted."""
    return [path for path in _named_like_photographs(workspace) if portfolio_owner(path) == advisor]


def paths_outside_other_portfolios(workspace: Path, advisor: str) -> list[str]:
    """Files under source/ that are named like photographs and are not in another advisor's portfolio, sorted."""
    return [path for path in _named_like_photographs(workspace) if portfolio_owner(path) in (None, advisor)]


def portfolio_owner(path: str) -> str | None:
    """The advisor in whose portfolio a file lies; None outside all portfolios."""
    parts = PurePosixPath(path).parts
    return parts[3] if parts[:2] == (SOURCE, ADVISORS_FOLDER) and len(parts) > 4 else None


def hash_photograph_files(
    workspace: Path, paths: Sequence[str], left_out: list[ExcludedFile]
) -> Iterator[PhotographFile]:
    """The files with their hashes, each content once; a copy and a file that can't be read go to `left_out`."""
    seen: dict[str, str] = {}
    for path in paths:
        try:
            found = PhotographFile(path, file_sha256(workspace / path))
        except OSError as error:
            left_out.append(ExcludedFile(path, error.strerror or "it can't be read"))
            continue
        if found.sha256 in seen:
            left_out.append(ExcludedFile(path, f"a copy of {seen[found.sha256]}"))
            continue
        seen[found.sha256] = path
        yield found


def exclusion_reason(error: BadPhotograph) -> ExclusionReason:
    """Why linking leaves a record with such a photograph out."""
    return _REASONS[PhotographReason(error.reason)]


def excluded_photograph(path: str, error: BadPhotograph) -> ExcludedFile:
    """A file that is no usable photograph, with the reason for people."""
    return ExcludedFile(path, EXCLUSION_EXPLANATIONS[exclusion_reason(error)])


def _named_like_photographs(workspace: Path) -> list[str]:
    paths = SourceTree(workspace).files
    return [
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() in PHOTOGRAPH_SUFFIXES and not is_temporary_path(PurePosixPath(path).name)
    ]
