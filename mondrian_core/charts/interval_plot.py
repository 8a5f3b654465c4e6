"""Plots of one estimate with its interval per row, on a common horizontal axis: the rows of a forest plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mondrian_core.charts.drawing import (
    CircleShape,
    Drawing,
    LinearScale,
    Shape,
    TextShape,
    nice_ticks,
    segment,
)

_ROW, _TOP = 30.0, 6.0


@dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """One row.

    Attributes:
        title: its name, to the left.
        value: the estimate; None where it is unknown.
        interval: (low, high), or None.
        text: the estimate as a text, to the right.
        style: style class of the estimate.
        emphasized: a larger dot, and a title in bold.
    """

    title: str
    value: float | None
    interval: Sequence[float] | None
    text: str
    style: str
    emphasized: bool = False


@dataclass(frozen=True, kw_only=True)
class IntervalPlot:
    """Texts and axis of a plot.

    Attributes:
        name, label: of the drawing.
        low, high: ends of the axis; values outside are clipped.
        tick_text: the text of a tick.
        ends: texts below the two ends of the axis.
        width: of the whole plot.
        titles_width: of the row's titles.
    """

    name: str
    label: str
    low: float
    high: float
    tick_text: Callable[[float], str]
    ends: tuple[str, str]
    width: float = 640.0
    titles_width: float = 170.0


def interval_plot(plot: IntervalPlot, rows: Sequence[IntervalRow]) -> Drawing:
    """The rows below one another, in their order."""
    x = LinearScale(plot.low, plot.high, plot.titles_width, plot.width - 70.0)
    height = _ROW * len(rows) + 46.0
    shapes: list[Shape] = []
    for tick in nice_ticks(plot.low, plot.high):
        zero = abs(tick) < 1e-9
        shapes.append(segment((x(tick), _TOP), (x(tick), height - 34), "grid zero" if zero else "grid"))
        text = plot.tick_text(tick)
        shapes.append(TextShape(at=(x(tick), height - 18), text=text, style="tick", anchor="middle"))
    for index, row in enumerate(rows):
        y = _TOP + _ROW * (index + 0.5)
        weight = "overall" if row.emphasized else "one"
        shapes.append(TextShape(at=(0.0, y + 4), text=row.title, style=f"name {weight}"))
        if row.value is None:
            continue
        if row.interval:
            shapes.append(segment((x(row.interval[0]), y), (x(row.interval[1]), y), f"span {row.style}"))
        radius = 5.5 if row.emphasized else 4.5
        shapes.append(CircleShape(center=(x(row.value), y), radius=radius, style=f"dot {row.style}"))
        shapes.append(TextShape(at=(plot.width, y + 4), text=row.text, style="value", anchor="end"))
    shapes.append(TextShape(at=(plot.titles_width, height - 3), text=plot.ends[0], style="tick"))
    shapes.append(TextShape(at=(x(plot.high), height - 3), text=plot.ends[1], style="tick", anchor="end"))
    return Drawing(
        name=plot.name,
        label=plot.label,
        origin=(0.0, 0.0),
        width=plot.width,
        height=height,
        shapes=tuple(shapes),
    )
