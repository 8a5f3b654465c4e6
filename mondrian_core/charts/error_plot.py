"""The error plot: mean squared errors of several rivals on the same photographs, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mondrian_core.charts.drawing import Drawing
from mondrian_core.charts.interval_plot import IntervalPlot, IntervalRow, interval_plot

Estimate = tuple[float, Sequence[float] | None]  # mean squared error, points squared, and its (low, high) if known


def error_plot(errors: Mapping[str, Estimate], emphasized: str, best: str) -> Drawing | None:
    """One row per rival, in their order; None without any.

    Args:
        errors: by title.
        emphasized: the title of the row that is compared with the others.
        best: the title of the rival that it is compared with.
    """
    ends = [value for middle, interval in errors.values() for value in (middle, *(interval or ()))]
    if not ends:
        return None
    plot = IntervalPlot(
        name="errors",
        label="Squared error of base, calibrations and adapter",
        low=0.0,
        high=max(*ends, 0.1) * 1.02,
        tick_text=lambda tick: f"{tick:g}",
        ends=("closer to the advisor", "points squared"),
        titles_width=305.0,
    )
    rows = [
        IntervalRow(
            title=title,
            value=middle,
            interval=interval,
            text=f"{middle:.2f}",
            style="good" if title == emphasized else "bad" if title == best else "open",
            emphasized=title == emphasized,
        )
        for title, (middle, interval) in errors.items()
    ]
    return interval_plot(plot, rows)
