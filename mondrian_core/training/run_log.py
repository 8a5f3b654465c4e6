"""training_log.jsonl: one line per optimizer step and one per evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mondrian_core.errors import translated
from mondrian_core.files import write_atomic

FILE = "training_log.jsonl"


class RunLog:
    """Appends lines; after an interruption it goes back to what the checkpoint knows."""

    def __init__(self, folder: Path, after_step: int) -> None:
        """Keep the lines up to optimizer step `after_step`; 0 begins anew."""
        self.path = folder / FILE
        self.lines: list[dict[str, Any]] = [line for line in _read(self.path) if 0 < line["step"] <= after_step]
        if after_step:
            self.lines = [line for line in _read(self.path) if line["step"] <= after_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, **line: Any) -> None:
        """Append one line and flush it.

        Raises:
            DiskFull: when no space is left.
        """
        self.lines.append(line)
        with translated(self.path), self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


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
