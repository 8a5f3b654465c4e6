"""training_log.jsonl: one line per optimizer step and one per evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mondrian_core.errors import translated
from mondrian_core.files import write_atomic
from mondrian_core.training.checkpoints import Progress

FILE = "training_log.jsonl"


class RunLog:
    """Appends lines; after an interruption it goes back to what the checkpoint knows."""

    def __init__(self, folder: Path, progress: Progress | None) -> None:
        """Keep the lines that `progress` knows of; None begins anew."""
        self.path = folder / FILE
        known = [] if progress is None else [line for line in _read(self.path) if _is_known(line, progress)]
        self.lines: list[dict[str, Any]] = known
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, **line: Any) -> None:
        """Append one line and flush it.

        Raises:
            DiskFull: when no space is left.
        """
        self.lines.append(line)
        with translated(self.path), self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def _is_known(line: dict[str, Any], progress: Progress) -> bool:
    return bool(line["epoch"] <= progress.judged if line["kind"] == "epoch" else line["step"] <= progress.step)


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line that was cut by a kill is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
