"""Where imported photographs go: folders and names that every file system keeps apart.

    source/advisor/<kind>/<advisor>/...    the advisor's portfolio
    source/photographs/<advisor>/...       photographs that the advisor critiques

The folders of the import are kept, because photographers know their photographs by them. Two names that differ only in
case or in Unicode composition are one name on many disks; the second photograph gets a part of its SHA-256.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mondrian_core.images import PHOTOGRAPH_SUFFIXES

PHOTOGRAPHS_FOLDER = "source/photographs"
PORTFOLIOS_FOLDER, USUAL_KIND = "source/advisor", "photographer"
MAX_NAME_BYTES = 120
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
_TEMPORARY = re.compile(r"(?i)(?<![a-z0-9])(tmp|temp)(?![a-z0-9])")  # linking takes such names for temporary files


def import_folder(root: Path, advisor: str, portfolio: bool) -> str:
    """The folder of an advisor's imports below the workspace, whether or not it exists."""
    if not portfolio:
        return f"{PHOTOGRAPHS_FOLDER}/{advisor}"
    kinds = sorted(path.name for path in (root / PORTFOLIOS_FOLDER).glob("*") if (path / advisor).is_dir())
    return f"{PORTFOLIOS_FOLDER}/{kinds[0] if kinds else USUAL_KIND}/{advisor}"


def safe_file_name(name: str, suffixes: tuple[str, ...]) -> str:
    """A name that every file system can store, with one of `suffixes` (the first, unless it has another of them)."""
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in suffixes:
        stem = name[: -len(suffix)]
    else:
        stem, suffix = (name[: -len(suffix)] if suffix.lower() in PHOTOGRAPH_SUFFIXES else name), suffixes[0]
    return _safe(stem) + suffix


def _safe(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    printable = "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in composed)
    plain = _TEMPORARY.sub("temporary", _UNSAFE.sub("_", printable)).strip(" ").lstrip("~$").strip(".")
    if _RESERVED.match(plain):
        plain = f"{plain}_"
    short = plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
    return short or "photograph"


class Placement:
    """Free names below one folder of the workspace, as the files on disk leave them."""

    def __init__(self, root: Path, folder: str) -> None:
        self._root, self._folder = root, folder
        self._names: dict[Path, dict[str, str]] = {}

    def candidates(self, folders: tuple[str, ...], name: str, sha256: str) -> Iterator[tuple[str, bool]]:
        """Paths below the workspace for a photograph, the best first, and whether a file with that name exists."""
        place = self._root / self._folder
        for each in folders:
            place = place / self._as_on_disk(place, _safe(each))
        stem, suffix = os.path.splitext(name)  # noqa: PTH122  a name, not a path
        for marked in (name, f"{stem}-{sha256[:8]}{suffix}", f"{stem}-{sha256}{suffix}"):
            spelled = self._as_on_disk(place, marked)
            taken = _folded(marked) in self._names_in(place)
            yield (place / spelled).relative_to(self._root).as_posix(), taken

    def add(self, path: str) -> None:
        """Remember a file that was stored."""
        whole = self._root / path
        self._names_in(whole.parent)[_folded(whole.name)] = whole.name
        for parent in whole.parents:
            if parent == self._root:
                break
            self._names_in(parent.parent).setdefault(_folded(parent.name), parent.name)

    def _as_on_disk(self, folder: Path, name: str) -> str:
        return self._names_in(folder).get(_folded(name), name)

    def _names_in(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            found = sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []
            self._names[folder] = {_folded(each): each for each in found}
        return self._names[folder]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
