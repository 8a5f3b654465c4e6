"""The files of folders in a fixed order, with links.

A link to a file is followed: albums of links are common. A folder that a link inside the named folders leads to is
walked once, under its own name; a link to a folder outside is reported instead, because it may lead to a whole disk.
Hidden files and folders are skipped, as are the folders in which photo programs keep their previews.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mondrian_core.images import PHOTOGRAPH_SUFFIXES

LIBRARY_SUFFIXES = (".lrdata", ".photoslibrary", ".aplibrary", ".cocatalog", ".dtbase2")
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class FoundFile:
    """A file that may be a photograph.

    Attributes:
        path: on disk; None for an upload.
        shown: as the user knows it: below the named folder and beginning with its name, with "/".
    """

    path: Path | None
    shown: str

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of `shown`."""
        return PurePosixPath(self.shown).parts[:-1]


@dataclass(frozen=True)
class SkippedLink:
    """A link that was not followed, and why."""

    shown: str
    detail: str


@dataclass(frozen=True)
class UnreadablePlace:
    """A folder or something else that can't be read as photographs, and why."""

    shown: str
    detail: str


@dataclass(frozen=True)
class OtherFile:
    """A file that is not a photograph by its name and its first bytes."""

    suffix: str


Found = FoundFile | SkippedLink | UnreadablePlace | OtherFile


def walk_photographs(named: Sequence[Path], excluded: Sequence[Path] = ()) -> Iterator[Found]:
    """Walk files and folders, each once, in the order of their names; the `excluded` folders are left out."""
    walk = _Walk(named, excluded)
    for path in named:
        yield from walk.top(path)


class _Walk:
    def __init__(self, named: Sequence[Path], excluded: Sequence[Path]) -> None:
        self._tops = [os.path.realpath(path) for path in named]
        statuses = [path.stat() for path in excluded if path.exists()]
        self._seen = {(status.st_dev, status.st_ino) for status in statuses}

    def top(self, path: Path) -> Iterator[Found]:
        """A file or folder that the user named; a folder is followed wherever it leads."""
        name = Path(os.path.abspath(path)).name or "disk"  # noqa: PTH100  resolve() would follow a link
        if path.is_dir():
            yield from self._folder(path, name)
        else:
            yield FoundFile(path, name)

    def _folder(self, top: Path, name: str) -> Iterator[Found]:
        waiting = [(top, name)]
        while waiting:
            folder, shown = waiting.pop()
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) in self._seen:
                    continue
                self._seen.add((status.st_dev, status.st_ino))
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                yield UnreadablePlace(shown, f"the folder can't be read ({error.strerror})")
                continue
            subfolders = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                inside = f"{shown}/{entry.name}"
                if entry.is_symlink() and (refused := self._refused_link(entry, inside)) is not None:
                    yield refused
                elif entry.is_dir():
                    if not entry.name.lower().endswith(LIBRARY_SUFFIXES):
                        subfolders.append((Path(entry.path), inside))
                else:
                    yield from self._file(entry, inside)
            waiting += reversed(subfolders)

    def _refused_link(self, link: os.DirEntry[str], shown: str) -> SkippedLink | None:
        try:
            status = link.stat()
        except OSError as error:  # also a loop of links
            missing = isinstance(error, FileNotFoundError)
            return SkippedLink(shown, "a broken link" if missing else "a link in a loop")
        if not stat.S_ISDIR(status.st_mode):
            return None
        real = os.path.realpath(link.path)
        if any(_is_inside(top, real) for top in self._tops):
            return SkippedLink(shown, "a link to a folder that contains it: a loop")
        if not any(_is_inside(real, top) for top in self._tops):
            return SkippedLink(shown, "a link to a folder outside the named ones; name that folder to import it")
        return SkippedLink(shown, "a link to a folder of this import, which is imported under its own name")

    def _file(self, entry: os.DirEntry[str], shown: str) -> Iterator[Found]:
        try:
            status = entry.stat()
        except OSError as error:
            yield UnreadablePlace(shown, f"it can't be read ({error.strerror})")
            return
        if not stat.S_ISREG(status.st_mode):
            yield UnreadablePlace(shown, "not a file but a device, a pipe or a socket")
            return
        if (status.st_dev, status.st_ino) in self._seen:
            return  # a link to a file that was seen, or a second name of it
        self._seen.add((status.st_dev, status.st_ino))
        suffix = PurePosixPath(entry.name).suffix.lower()
        path = Path(entry.path)
        if suffix in PHOTOGRAPH_SUFFIXES or begins_like_a_photograph(path):
            yield FoundFile(path, shown)
        else:
            yield OtherFile(suffix)


def _is_inside(path: str, folder: str) -> bool:
    """True for the folder itself and everything below it; both are real paths."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def begins_like_a_photograph(path: Path) -> bool:
    """By its first bytes; false when they can't be read."""
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError:
        return False
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_heif = start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"msf1", b"crx ")
    return start.startswith(_STARTS) or is_webp or is_heif
