"""Resolving the photograph of a record: paths from this machine, from another machine, or only a file name.

A path resolves to a file under the workspace's source/ or to nothing. Symbolic links there are followed, because people
keep photographs on other disks; the path itself can never lead out of the workspace. Names are compared in composed
form (NFC): macOS decomposes an umlaut into letter and dots, most databases don't.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SOURCE = "source"
Parts = tuple[str, ...]
# Files that editors, browsers and macOS leave next to photographs, and names of uploads in progress.
_TEMPORARY_NAME = re.compile(
    r"^(\._|~\$|\.)|(^|[._\- ])(tmp|temp)([._\- ]|$)|\.(tmp|temp|part|partial|crdownload|download|swp|bak)$|~$",
    re.IGNORECASE,
)
_TEMPORARY_FOLDER = re.compile(
    r"^/(private/)?(tmp|var/tmp|var/folders)/|[/\\](AppData[/\\]Local[/\\]Temp)[/\\]", re.IGNORECASE
)


class PathResolution(StrEnum):
    """How a path led to a file, or why it led to none."""

    AS_GIVEN = "as_given"
    TAIL = "tail"
    NAME = "name"
    MISSING = "missing"
    BROKEN_LINK = "broken_link"
    AMBIGUOUS = "ambiguous"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class ResolvedPath:
    """The file, relative to the workspace with "/" (None: not found), and how it was found."""

    path: str | None
    how: PathResolution


def is_temporary_path(text: str) -> bool:
    """True for a path that only ever named a temporary file; see `SourceTree.is_temporary` for one in a workspace."""
    return has_temporary_name(text) or bool(_TEMPORARY_FOLDER.search(text))


def has_temporary_name(text: str) -> bool:
    """True for a path whose last part is a temporary name of an editor or a browser, in any folder."""
    name = path_parts(text)[-1] if path_parts(text) else ""
    return bool(_TEMPORARY_NAME.search(name))


def path_parts(text: str) -> tuple[str, ...]:
    """The parts of a POSIX or Windows path, without the root, the drive and single dots."""
    parts = re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:", "", text.strip()))
    return tuple(part for part in parts if part not in ("", "."))


class SourceTree:
    """All files under source/, listed once.

    Links to folders and files are followed. What can be reached in several ways is listed under its own name, or under
    the first link to it. A broken link, and a link to a folder that contains the workspace, is not followed.
    """

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace.resolve()
        self._homes = {path_parts(str(self.workspace)), path_parts(str(workspace.absolute()))}
        self._files: list[Parts] = []
        self._exact: dict[Parts, list[Parts]] = defaultdict(list)
        self._by_name: dict[str, list[Parts]] = defaultdict(list)
        walk = _SourceWalk(self.workspace)
        for parts in walk.files():
            self._files.append(parts)
            self._exact[_composed(parts)].append(parts)
            self._by_name[_folded(parts[-1])].append(parts)
        self._broken, self._aliases = walk.broken, walk.aliases

    def __len__(self) -> int:
        return len(self._files)

    @property
    def files(self) -> list[str]:
        """Every file under source/, relative to the workspace with "/", sorted."""
        return sorted("/".join(parts) for parts in self._files)

    @property
    def workspace_roots(self) -> tuple[Path, ...]:
        """The workspace's folder, as it was given and with links resolved."""
        return tuple(Path("/", *parts) for parts in sorted(self._homes))

    def is_temporary(self, text: str) -> bool:
        """True for a path that only ever named a temporary file; the workspace itself may be under /tmp."""
        inside = self._inside(text, path_parts(text)) is not None
        return has_temporary_name(text) if inside else is_temporary_path(text)

    def resolve(self, text: str) -> ResolvedPath:
        """Find the file that a path refers to.

        First the path as given, below the workspace or below source/. Then, for a path from another machine, the file
        that shares the longest tail of path parts; the file name alone counts only when it is unique.
        """
        parts = path_parts(text)
        if ".." in parts:
            return ResolvedPath(None, PathResolution.OUTSIDE)
        if not parts:
            return ResolvedPath(None, PathResolution.MISSING)
        own = self._inside(text, parts)
        own = parts if own is None else own
        places = [own, (SOURCE, *own)] if own else []
        for place in places:
            for spelled in (place, self._without_alias(place)):
                if found := _single_match(self._exact.get(_composed(spelled), []), spelled):
                    return ResolvedPath("/".join(found), PathResolution.AS_GIVEN)
        if any(place[:length] in self._broken for place in map(_composed, places) for length in range(len(place) + 1)):
            return ResolvedPath(None, PathResolution.BROKEN_LINK)
        return self._resolve_by_suffix(parts)

    def named(self, name: str) -> list[str]:
        """Every file of that name, in any spelling of its case, relative to the workspace with "/", sorted."""
        return sorted("/".join(parts) for parts in self._by_name.get(_folded(name), []))

    def _inside(self, text: str, parts: Parts) -> Parts | None:
        """The parts below the workspace; None for a path that is not in it."""
        for home in self._homes:
            if text.strip().startswith("/") and parts[: len(home)] == home:
                return parts[len(home) :]
        return None

    def _without_alias(self, place: Parts) -> Parts:
        """The place where a file is listed, when the given place goes through a link to something listed elsewhere."""
        composed = _composed(place)
        for length in range(len(place), 0, -1):
            if composed[:length] in self._aliases:
                return self._aliases[composed[:length]] + place[length:]
        return place

    def _resolve_by_suffix(self, parts: Parts) -> ResolvedPath:
        candidates = self._by_name.get(_folded(parts[-1]), [])
        if not candidates:
            return ResolvedPath(None, PathResolution.MISSING)
        lengths = [_common_tail(parts, candidate) for candidate in candidates]
        longest = max(lengths)
        best = [candidate for candidate, length in zip(candidates, lengths, strict=True) if length == longest]
        if len(best) > 1:
            exact = [candidate for candidate in best if _composed(candidate)[-1] == _composed(parts)[-1]]
            best = exact if len(exact) == 1 else best
        if len(best) > 1:
            return ResolvedPath(None, PathResolution.AMBIGUOUS)
        return ResolvedPath("/".join(best[0]), PathResolution.TAIL if longest > 1 else PathResolution.NAME)


class _SourceWalk:
    """One walk through source/: real folders first, then linked folders, then linked files.

    Attributes:
        broken: links (composed) that are not followed.
        aliases: links (composed) to something that is listed elsewhere -> where it is listed.
    """

    def __init__(self, workspace: Path) -> None:
        self.broken: set[Parts] = set()
        self.aliases: dict[Parts, Parts] = {}
        self._start = workspace / SOURCE
        self._above = {os.path.realpath(each) for each in (workspace, *workspace.parents)}
        self._listed: dict[str, Parts] = {}  # by the real path of a folder
        self._links: list[tuple[Path, Parts]] = []

    def files(self) -> Iterator[Parts]:
        """Yield every file."""
        yield from self._folder(self._start, (SOURCE,))
        linked_files = []
        while self._links:
            path, parts = self._links.pop(0)
            if path.is_file():
                linked_files.append((path, parts))
            else:
                yield from self._linked_folder(path, parts)
        for path, parts in linked_files:
            real = Path(os.path.realpath(path))
            if str(real.parent) in self._listed:
                self.aliases[_composed(parts)] = (*self._listed[str(real.parent)], real.name)
            else:
                yield parts

    def _linked_folder(self, path: Path, parts: Parts) -> Iterator[Parts]:
        real = os.path.realpath(path)
        if real in self._above or not path.is_dir():
            self.broken.add(_composed(parts))
        elif real in self._listed:
            self.aliases[_composed(parts)] = self._listed[real]
        else:
            yield from self._folder(path, parts)

    def _folder(self, folder: Path, parts: Parts) -> Iterator[Parts]:
        """Yield a folder's files and those of its subfolders; links are collected for later."""
        waiting = [(folder, parts)]
        while waiting:
            folder, parts = waiting.pop(0)
            real = os.path.realpath(folder)
            if real in self._listed or real in self._above:
                continue
            self._listed[real] = parts
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                place = (*parts, entry.name)
                if entry.is_symlink():
                    self._links.append((Path(entry.path), place))
                elif entry.is_dir():
                    waiting.append((Path(entry.path), place))
                elif entry.is_file():
                    yield place


def _single_match(found: list[Parts], wanted: Parts) -> Parts | None:
    """The match with the wanted spelling, otherwise the only match."""
    if wanted in found:
        return wanted
    return found[0] if len(found) == 1 else None


def _composed(parts: Parts) -> Parts:
    return tuple(unicodedata.normalize("NFC", part) for part in parts)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _common_tail(first: Parts, second: Parts) -> int:
    """Number of parts that two paths share at their ends, ignoring case (as macOS and Windows do)."""
    length = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if _folded(one) != _folded(other):
            break
        length += 1
    return length
