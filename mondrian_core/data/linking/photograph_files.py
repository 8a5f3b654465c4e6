"""Photograph files under source/: an advisor's portfolio, and photographs that nobody has critiqued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mondrian_core.data.linking.link_manifest import EXCLUSION_EXPLANATIONS, ExclusionReason
from mondrian_core.errors import BadPhotograph
from mondrian_core.files import file_sha256
from mondrian_core.images import PHOTOGRAPH_SUFFIXES, PhotographRejection
from mondrian_core.photograph_paths import SOURCE, SourceTree, is_temporary_path

ADVISORS_FOLDER = "advisor"
_REASONS = {
    PhotographRejection.MISSING: ExclusionReason.MISSING_PHOTOGRAPH,
    PhotographRejection.EMPTY: ExclusionReason.EMPTY_PHOTOGRAPH,
    PhotographRejection.NOT_A_PHOTOGRAPH: ExclusionReason.NOT_A_PHOTOGRAPH,
    PhotographRejection.RAW: ExclusionReason.RAW_PHOTOGRAPH,
    PhotographRejection.TOO_NARROW: ExclusionReason.TOO_NARROW_PHOTOGRAPH,
    PhotographRejection.TOO_LARGE: ExclusionReason.TOO_LARGE_PHOTOGRAPH,
    PhotographRejection.TRUNCATED: ExclusionReason.UNREADABLE_PHOTOGRAPH,
    PhotographRejection.UNREADABLE: ExclusionReason.UNREADABLE_PHOTOGRAPH,
}


@dataclass(frozen=True)
class PhotographFile:
    """A file that may be a photograph: path below the workspace, with "/", and SHA-256 of its bytes."""

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
    """The advisor whose portfolio contains a file; None outside all portfolios."""
    parts = PurePosixPath(path).parts
    return parts[3] if parts[:2] == (SOURCE, ADVISORS_FOLDER) and len(parts) > 4 else None


def hash_photograph_files(
    workspace: Path, paths: Sequence[str], left_out: list[ExcludedFile]
) -> Iterator[PhotographFile]:
    """Yield the files with their hashes, each content once; copies and unreadable files are added to `left_out`."""
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
    """The reason for which linking excludes a record with such a photograph."""
    return _REASONS[PhotographRejection(error.reason)]


def excluded_photograph(path: str, error: BadPhotograph) -> ExcludedFile:
    """A file that is not a usable photograph, with a reason for people."""
    return ExcludedFile(path, EXCLUSION_EXPLANATIONS[exclusion_reason(error)])


def _named_like_photographs(workspace: Path) -> list[str]:
    paths = SourceTree(workspace).files
    return [
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() in PHOTOGRAPH_SUFFIXES and not is_temporary_path(PurePosixPath(path).name)
    ]
