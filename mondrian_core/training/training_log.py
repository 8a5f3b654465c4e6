"""training_log.jsonl: one line per optimizer step and one per evaluation; a later phase marks its lines.

Each line is an event too (`events.Logged`), for whoever draws curves elsewhere.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mondrian_core.events import EventListener, StageLogLines, ignore_events
from mondrian_core.files import write_atomic
from mondrian_core.json_lines import append_json_line, read_json_lines
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
        """Keep the lines that `progress` knows of; None begins this phase again (the first phase: the whole log)."""
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
        append_json_line(self.path, line)
        self._listen(StageLogLines(LOG_STAGE, (line,)))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_known(line: dict[str, Any], progress: TrainingProgress) -> bool:
    return bool(line["epoch"] <= progress.judged if line["kind"] == "epoch" else line["step"] <= progress.step)


def read_training_log(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a log; a last line that a kill left incomplete is ignored."""
    return list(read_json_lines(path))
