"""Which files other programs may name: photographs below the folders that the user allowed, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mondrian_core.errors import BadInput

MAX_LISTED = 5  # folders named in an error


class PhotographAccess:
    """The folders whose photographs may be read, with everything below them.

    A path counts with all links resolved, so a link inside a folder can't lead out of it. An error says the same
    whether or not there is a file outside, so that no one can ask what exists there.

    Args:
        folders: they must exist.

    Raises:
        BadInput: one is not a folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise BadInput(f"{folder} is not a folder.", "Name an existing folder with --folder.")
        self.folders = tuple(dict.fromkeys(folder.resolve() for folder in folders))

    def resolve(self, text: str) -> Path:
        """The file that a path refers to; a relative one is looked for in each folder, in order.

        Raises:
            BadInput: it is outside of all folders, or there is no such file.
        """
        named = Path(text).expanduser() if text.startswith("~/") else Path(text)
        candidates = [named] if named.is_absolute() else [folder / named for folder in self.folders]
        inside = [found for each in candidates if (found := self._resolved(each)) is not None]
        existing = next((each for each in inside if _is_file(each)), None)
        if existing is not None:
            return existing
        if inside:
            raise BadInput(f"No photograph is at {text[:200]!r}.", "Check the path.")
        shown = ", ".join(str(folder) for folder in self.folders[:MAX_LISTED])
        raise BadInput(
            f"{text[:200]!r} is not in a folder that this server may read ({shown}).",
            "Start it with `--folder FOLDER` for others, or send the file as image_base64.",
        )

    def _resolved(self, path: Path) -> Path | None:
        """The path with links resolved, if it is in one of the folders."""
        try:
            whole = path.resolve()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL, or a loop of links
            return None
        return whole if any(whole.is_relative_to(folder) for folder in self.folders) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
