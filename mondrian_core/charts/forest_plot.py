"""The forest plot: by how much the error falls in each dimension, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mondrian_core.charts.drawing import Drawing
from mondrian_core.charts.interval_plot import IntervalPlot, IntervalRow, interval_plot
from mondrian_core.rubric import DIMENSION_TITLES

_LOWEST = -1.5  # reductions below this are clipped; they have no lower limit


def forest_plot(dimensions: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> Drawing | None:
    """One row per dimension and one for all together; None when nothing was compared.

    Args:
        dimensions: {"name", "reduction", "interval"} by dimension. A reduction is relative (0.2: 20 % less error), None
            where it is unknown; an interval is (low, high) or None.
        overall: the same over all dimensions, without a name.
    """
    rows = [_row(DIMENSION_TITLES[row["name"]], row) for row in dimensions]
    rows.append(_row("All dimensions", overall, emphasized=True))
    ends = [value for row in rows if row.value is not None for value in (row.value, *(row.interval or ()))]
    if not ends:
        return None
    plot = IntervalPlot(
        name="forest",
        label="Error reduction by dimension",
        low=max(_LOWEST, min(-0.1, *ends)),
        high=min(1.0, max(0.1, *ends)),
        tick_text=lambda tick: "0" if abs(tick) < 1e-9 else f"{tick:+.0%}",
        ends=("worse than the base", "better"),
    )
    return interval_plot(plot, rows)


def _row(title: str, found: Mapping[str, Any], *, emphasized: bool = False) -> IntervalRow:
    middle, interval = found["reduction"], found["interval"]
    return IntervalRow(
        title=title,
        value=middle,
        interval=interval,
        text="" if middle is None else f"{middle:+.0%}",
        style="good" if interval and interval[0] > 0 else "bad" if interval and interval[1] < 0 else "open",
        emphasized=emphasized,
    )
