"""Draws the loss curve of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mondrian_core.charts.loss_curve import LogLines, training_charts
from mondrian_core.charts.png import png_bytes
from mondrian_core.files import write_atomic

LOSS_CURVE_FILE = "loss_curve.png"


def draw_loss_curve(lines: LogLines, best: Mapping[str, int], path: Path) -> None:
    """Write a PNG of `training_charts`.

    Args:
        lines: the training log.
        best: the epoch that was chosen, by phase; "" is the first phase.
        path: the file to write.
    """
    write_atomic(path, png_bytes(training_charts(lines, best)))
