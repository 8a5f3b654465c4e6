"""training_log.jsonl: one line per optimizer step and one per evaluation; a later phase marks its lines.

Each line is an event too (`events.Logged`), for whoever draws curves elsewhere.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.events import EventListener, StageLogLines, ignore_events
from mondrian_core.files import write_atomic
from mondrian_core.training.checkpoints import TrainingProgress

TRAINING_LOG_FILE, LOG_STAGE = "training_log.jsonl", "train"


class TrainingLog:
    """Appends lines; after an interruption it goes back to what the checkpoint knows."""

    def __init__(
        self,
        folder: Path,
        progress: TrainingProgress | None,
        phase: str = "",
        *,
        listen: EventListener = ignore_events,
    ) -> None:
        """Keep the lines that `progress` knows of; None begins this phase anew (the first phase: the whole log)."""
        self.path, self._mark = folder / TRAINING_LOG_FILE, {"phase": phase} if phase else {}
        found = read_training_log(self.path) if phase or progress else []
        self.lines: list[dict[str, Any]] = [
            line
            for line in found
            if line.get("phase", "") != phase or (progress is not None and _is_known(line, progress))
        ]
        self._listen = listen
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
        listen(StageLogLines(LOG_STAGE, tuple(self.lines), replaces_previous=True))

    def add(self, **line: Any) -> None:
        """Append one line and flush it. JSON has no word for what is not a number: null stands for it.

        Raises:
            DiskFull: when no space is left.
        """
        line = {name: _finite(value) for name, value in {**self._mark, **line}.items()}
        self.lines.append(line)
        with translate_foreign_errors(self.path), self.path.open("a") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._listen(StageLogLines(LOG_STAGE, (line,)))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_known(line: dict[str, Any], progress: TrainingProgress) -> bool:
    return bool(line["epoch"] <= progress.judged if line["kind"] == "epoch" else line["step"] <= progress.step)


def read_training_log(path: Path) -> list[dict[str, Any]]:
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
