"""Every figure of the log is in the event files, at its step, once; also after a resumption."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event as Record

from mondrian_core.errors import BadInput
from mondrian_core.events import StageLogLines
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import TrainingRows, tensorboard, train_adapter
from mondrian_core.training.training_log import read_training_log
from tests.training.conftest import make_row


def points(folder: Path) -> list[tuple[str, int, float]]:
    """What the event files hold; a record is length, checksum, data, checksum."""
    found = []
    for file in folder.iterdir():
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Record.FromString(data[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += length + 16
    return sorted(found)


def logged(lines: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """The same from the log; event files hold float32."""
    return sorted(
        (name, line["step"], float(np.float32(value)))
        for line in lines
        for name, value in tensorboard.tensorboard_scalars(line).items()
    )


@pytest.mark.mini
def test_tensorboard_follows_training_and_resume(base: BaseVLM, tmp_path: Path) -> None:
    recipe = TrainRecipe(rank=2, alpha=4, epochs=2, accumulation=1, learning_rate=1e-3, answered_photographs=0)
    rows, run, folder = [make_row(1), make_row(2)], tmp_path / "run", tmp_path / "run" / tensorboard.TENSORBOARD_FOLDER
    with tensorboard.tensorboard_listener(folder) as listen:
        train_adapter(base, TrainingRows(rows, [make_row(3)]), recipe, run, listen=listen)
    first = points(folder)
    assert first == logged(read_training_log(run / "training_log.jsonl")) and len({name for name, _, _ in first}) >= 5
    with tensorboard.tensorboard_listener(folder) as listen:
        train_adapter(base, TrainingRows(rows, [make_row(3)]), recipe, run, resume=True, listen=listen)
    assert points(folder) == first, "the same run taken up once more has the same points, each once"


def test_dropped_log_lines_are_dropped_in_tensorboard(tmp_path: Path) -> None:
    lines = [{"kind": "step", "step": step, "loss": 1.0 / step, "note": "x", "norm": None} for step in (1, 2, 3)]
    with tensorboard.tensorboard_listener(tmp_path) as listen:
        for line in lines:
            listen(StageLogLines("train", (line,)))
        listen(StageLogLines("train", tuple(lines[:2]), replaces_previous=True))
    assert points(tmp_path) == [("step/loss", 1, 1.0), ("step/loss", 2, 0.5)]


def test_missing_tensorboardx_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(BadInput, match="pip install tensorboardX"), tensorboard.tensorboard_listener(tmp_path):
        pass
