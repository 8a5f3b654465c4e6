"""The photographs that a command names: files, and folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mondrian_core.errors import BadInput
from mondrian_core.images import PHOTOGRAPH_SUFFIXES


def find_photographs(paths: Sequence[Path]) -> list[Path]:
    """The named photographs, and those in and below named folders, sorted; hidden files are skipped.

    Raises:
        BadInput: a folder contains none.
    """
    photographs: list[Path] = []
    for path in paths:
        if not path.is_dir():
            photographs.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if _is_photograph(file, path))
        if not inside:
            kinds = ", ".join(sorted(PHOTOGRAPH_SUFFIXES))
            raise BadInput(f"There are no photographs in {path}.", f"Name a folder with files that end in {kinds}.")
        photographs += inside
    return list(dict.fromkeys(photographs))


def _is_photograph(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in PHOTOGRAPH_SUFFIXES and not hidden and path.is_file()
