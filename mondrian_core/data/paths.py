"""Where the photograph of a record lies: paths from this machine, from another one, or only a file name.

A path leads to a file under the workspace's source/ or nowhere: never outside the workspace.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SOURCE = "source"
# What editors, browsers and macOS leave beside photographs, and what an upload was called while it was worked on.
_TEMPORARY_NAME = re.compile(
    r"^(\._|~\$|\.)|(^|[._\- ])(tmp|temp)([._\- ]|$)|\.(tmp|temp|part|partial|crdownload|download|swp|bak)$|~$",
    re.IGNORECASE,
)
_TEMPORARY_FOLDER = re.compile(
    r"^/(private/)?(tmp|var/tmp|var/folders)/|[/\\](AppData[/\\]Local[/\\]Temp)[/\\]", re.IGNORECASE
)


class How(StrEnum):
    """How a path led to a file, or why it didn't."""

    AS_GIVEN = "as_given"
    TAIL = "tail"
    NAME = "name"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Resolved:
    """The file, relative to the workspace with "/" (None: not found), and how it was found."""

    path: str | None
    how: How


def is_temporary(text: str) -> bool:
    """True for a path that only ever named a temporary file."""
    name = parts_of(text)[-1] if parts_of(text) else ""
    return bool(_TEMPORARY_NAME.search(name) or _TEMPORARY_FOLDER.search(text))


def parts_of(text: str) -> tuple[str, ...]:
    """The parts of a POSIX or Windows path, without the root, the drive and single dots."""
    parts = re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:", "", text.strip()))
    return tuple(part for part in parts if part not in ("", "."))


class SourceIndex:
    """All files under source/, listed once; links that lead out of the workspace are not followed."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace.resolve()
        self._by_name: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        self._exact: set[tuple[str, ...]] = set()
        for parts in _walk(self.workspace / SOURCE, (SOURCE,)):
            self._exact.add(parts)
            self._by_name[parts[-1].casefold()].append(parts)

    def __len__(self) -> int:
        return len(self._exact)

    @property
    def files(self) -> list[str]:
        """Every file under source/, relative to the workspace with "/", sorted."""
        return sorted("/".join(parts) for parts in self._exact)

    def resolve(self, text: str) -> Resolved:
        """Find the file that a path means.

        First the path as it stands, below the workspace or below source/. Then, for a path from another machine, the
        file with the longest common tail; a tail of the name alone counts only when that name is there once.
        """
        parts = parts_of(text)
        if ".." in parts:
            return Resolved(None, How.OUTSIDE)
        if not parts:
            return Resolved(None, How.MISSING)
        own = self._below_workspace(text, parts)
        for candidate in (own, (SOURCE, *own) if own else None):
            if candidate in self._exact:
                return Resolved("/".join(candidate), How.AS_GIVEN)
        return self._by_tail(parts)

    def _below_workspace(self, text: str, parts: tuple[str, ...]) -> tuple[str, ...]:
        home = self.workspace.parts[1:]
        if text.startswith("/") and parts[: len(home)] == home:
            return parts[len(home) :]
        return parts

    def _by_tail(self, parts: tuple[str, ...]) -> Resolved:
        candidates = self._by_name.get(parts[-1].casefold(), [])
        if not candidates:
            return Resolved(None, How.MISSING)
        lengths = [_common_tail(parts, candidate) for candidate in candidates]
        longest = max(lengths)
        best = [candidate for candidate, length in zip(candidates, lengths, strict=True) if length == longest]
        if len(best) > 1:
            exact = [candidate for candidate in best if candidate[-1] == parts[-1]]
            best = exact if len(exact) == 1 else best
        if len(best) > 1:
            return Resolved(None, How.AMBIGUOUS)
        return Resolved("/".join(best[0]), How.TAIL if longest > 1 else How.NAME)


def _common_tail(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Parts that two paths share at their ends, not minding upper and lower case (as macOS and Windows don't)."""
    length = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one.casefold() != other.casefold():
            break
        length += 1
    return length


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), (*parts, entry.name))
        elif entry.is_file(follow_symlinks=False):
            yield (*parts, entry.name)
