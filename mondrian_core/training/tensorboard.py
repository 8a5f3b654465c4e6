"""Write a training's log as TensorBoard event files.

The listener follows the lines of training_log.jsonl. When the log is rewritten, as after a resumption, the event files
are too, so no point is there twice.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageEvent, StageLogLines

TENSORBOARD_FOLDER = "tensorboard"
_NOT_FIGURES = ("kind", "step", "phase")


@contextmanager
def tensorboard_listener(folder: Path) -> Iterator[EventListener]:
    """A listener that writes every number of the log into `folder`, as `<phase>/<kind>/<name>` at its step.

    Raises:
        BadInput: tensorboardX isn't installed.
    """
    # The SummaryWriter isn't used, because it writes from a thread and loses its queue when the process is killed.
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event as Record
        from tensorboardX.summary import scalar
    except ImportError:
        raise BadInput(
            "TENSORBOARD_ENABLED is set, but tensorboardX isn't installed.",
            "`pip install tensorboardX`, or unset the variable.",
        ) from None
    writers: list[Any] = []

    def listen(event: StageEvent) -> None:
        if not isinstance(event, StageLogLines):
            return
        if event.replaces_previous or not writers:
            for writer in writers:
                writer.close()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            writers[:] = [EventsWriter(str(folder / "events"))]
        for line in event.lines:
            for name, value in tensorboard_scalars(line).items():
                writers[0].write_event(Record(wall_time=time.time(), step=line["step"], summary=scalar(name, value)))
        writers[0].flush()

    try:
        yield listen
    finally:
        for writer in writers:
            writer.close()


def tensorboard_scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log, by their names in TensorBoard; None is left out."""
    prefix = "/".join(filter(None, (line.get("phase"), line["kind"])))
    return {
        f"{prefix}/{name}": float(value)
        for name, value in line.items()
        if name not in _NOT_FIGURES and isinstance(value, int | float)
    }
