"""The evaluation as one PNG, for a Prefect artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondrian_core.charts.axes_chart import AxesChart, grouped_bar_chart
from mondrian_core.charts.drawing import Drawing
from mondrian_core.charts.forest_plot import forest_plot
from mondrian_core.charts.png import png_bytes
from mondrian_core.charts.radar import short_title
from mondrian_core.evaluation.report.evaluation_report import EvaluationReport
from mondrian_core.files import write_atomic
from mondrian_core.rubric import DIMENSIONS


def write_evaluation_plot(report: EvaluationReport, path: Path) -> None:
    """Write a PNG: the squared error by arm and dimension, and the error reduction with its intervals."""
    arms, comparison, by_folds = report.scores
    drawings = [_error_bars(arms, by_folds)]
    if comparison and (forest := forest_plot(comparison["dimensions"], comparison)):
        drawings.append(forest)
    title = f"{report.verdict}: {report.meaning}"
    if by_folds:
        title += "\nScores by cross-validation: the recipe's, not this adapter's"
    write_atomic(path, png_bytes(drawings, title))


def _error_bars(arms: Mapping[str, Mapping[str, Any]], by_folds: bool) -> Drawing:
    bars = {
        arm: ("recipe" if by_folds and arm == "candidate" else arm, [dimensions[name]["mse"] for name in DIMENSIONS])
        for arm, dimensions in arms.items()
    }
    chart = AxesChart(
        title="Error by dimension", x_label="", y_label="mean squared error, points squared", from_zero=True
    )
    return grouped_bar_chart(chart, [short_title(name) for name in DIMENSIONS], bars)
