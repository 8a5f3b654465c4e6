"""One PNG for a Prefect artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondrian_core.evaluation.report.evaluation_report import VERDICT_MEANINGS, EvaluationReport
from mondrian_core.files import replace_atomic
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS


def write_evaluation_plot(report: EvaluationReport, path: Path) -> None:
    """PNG for a Prefect artifact: error by arm and dimension, and the drop with its intervals."""
    from matplotlib.figure import Figure

    arms, comparison, by_folds = report.scores
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    colours = {"base": "#9aa1a9", "champion": "#d9a520", "candidate": "#1f5fbf"}
    for k, (arm, dimensions) in enumerate(arms.items()):
        places = [i + (k - (len(arms) - 1) / 2) * 0.8 / len(arms) for i in range(len(DIMENSIONS))]
        left.bar(
            places,
            [dimensions[name]["mse"] for name in DIMENSIONS],
            0.8 / len(arms),
            label="recipe" if by_folds and arm == "candidate" else arm,
            color=colours[arm],
        )
    left.set_xticks(
        range(len(DIMENSIONS)), [DIMENSION_TITLES[name].split(" &")[0] for name in DIMENSIONS], rotation=35, ha="right"
    )
    left.set_ylabel("mean squared error (points²)")
    left.spines[["top", "right"]].set_visible(False)
    if arms:
        left.legend(frameon=False)
    _plot_error_reduction(right, comparison)
    whose = "\nScores by folds: the recipe's, not this adapter's" if by_folds else ""
    figure.suptitle(
        f"{report.verdict}: {VERDICT_MEANINGS[report.verdict]}{whose}",
        fontsize=11,
        fontweight="bold",
        ha="left",
        x=0.01,
    )
    replace_atomic(path, lambda temporary: figure.savefig(temporary))


def _plot_error_reduction(axes: Any, comparison: Mapping[str, Any] | None) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    if not comparison or not comparison["dimensions"]:
        axes.text(0.5, 0.5, "no comparison with the base", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    rows = [*comparison["dimensions"], {**comparison, "name": None}]
    for y, row in enumerate(reversed(rows)):
        if row["reduction"] is None:
            continue
        low, high = row["interval"] or (row["reduction"], row["reduction"])
        colour = "#2e7d4f" if low > 0 else "#b3372f" if high < 0 else "#7a7f86"
        axes.plot([max(low, -1.5), high], [y, y], color=colour, linewidth=2.5 if row["name"] is None else 1.5)
        axes.plot(max(row["reduction"], -1.5), y, "o", color=colour, markersize=7 if row["name"] is None else 5)
    axes.axvline(0, color="#444", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [DIMENSION_TITLES.get(row["name"] or "", "All eight") for row in reversed(rows)])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.0%}")
    axes.set_xlabel("error below the base's, 95 % interval")
