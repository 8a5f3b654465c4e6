"""Charts with two labelled axes: lines over steps, and bars in groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from mondrian_core.charts.drawing import (
    CircleShape,
    Drawing,
    LinearScale,
    LineShape,
    Point,
    Shape,
    TextShape,
    nice_ticks,
    rectangle,
    segment,
)

PLOT_HEIGHT = 250.0
_LEFT, _RIGHT, _TITLE, _LEGEND_ROW, _BOTTOM = 62.0, 14.0, 26.0, 18.0, 42.0
_LABEL_LENGTH = 6.4  # units per letter, about
Marker = Literal["circle", "square", "diamond"]


@dataclass(frozen=True, kw_only=True)
class LineSeries:
    """A line, its markers or both.

    Attributes:
        points: (x, y); points that are not finite are left out.
        style: style class, also of the markers.
        label: text of the legend.
        marker: shape at each point; None for none.
        line: False for markers alone.
        notes: a text above each point, or none.
    """

    points: Sequence[Point]
    style: str
    label: str
    marker: Marker | None = None
    line: bool = True
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class AxesChart:
    """Titles and limits of a chart.

    Attributes:
        title, x_label, y_label: texts.
        width: of the whole chart.
        from_zero: the y axis begins at 0.
        headroom: space above the largest value, as a share of the range of values.
        marked: (x, text) of a vertical dashed line, or None.
    """

    title: str
    x_label: str
    y_label: str
    width: float = 500.0
    from_zero: bool = False
    headroom: float = 0.05
    marked: tuple[float, str] | None = None


def line_chart(chart: AxesChart, series: Sequence[LineSeries]) -> Drawing:
    """Lines over a numeric x axis."""
    finite = [[point for point in one.points if all(map(math.isfinite, point))] for one in series]
    values = [y for points in finite for _, y in points] or [0.0]
    steps = [x for points in finite for x, _ in points] + ([chart.marked[0]] if chart.marked else []) or [0.0]
    legend = list(series)
    if chart.marked:
        legend.append(LineSeries(points=(), style="mark", label=chart.marked[1]))
    frame, top, bottom = _frame(chart, legend)
    padding = 0.04 * (max(steps) - min(steps)) or 0.5
    x = LinearScale(min(steps) - padding, max(steps) + padding, _LEFT, chart.width - _RIGHT)
    y = _y_scale(chart, values, top, bottom)
    shapes = [*frame, *_y_axis(chart, y)]
    for tick in nice_ticks(x.low, x.high):
        shapes.append(segment((x(tick), top), (x(tick), bottom), "grid"))
        shapes.append(TextShape(at=(x(tick), bottom + 16), text=f"{tick:g}", style="tick", anchor="middle"))
    if chart.marked:
        shapes.append(segment((x(chart.marked[0]), top), (x(chart.marked[0]), bottom), "mark"))
    for one, points in zip(series, finite, strict=True):
        placed = [(x(step), y(value)) for step, value in points]
        if one.line and len(placed) > 1:
            shapes.append(LineShape(points=tuple(placed), style=one.style))
        shapes += [_marker(one.marker, point, one.style) for point in placed if one.marker]
        shapes += [
            TextShape(at=(point[0], point[1] - 9), text=note, style="tick", anchor="middle")
            for point, note in zip(placed, one.notes, strict=False)
        ]
    return _drawing(chart, "lines", shapes, bottom)


def grouped_bar_chart(
    chart: AxesChart, groups: Sequence[str], bars: Mapping[str, tuple[str, Sequence[float | None]]]
) -> Drawing:
    """Bars side by side in groups.

    Args:
        chart: titles and limits.
        groups: titles of the groups, from left to right.
        bars: (label in the legend, one value per group) by style class. None, an unknown value, gets no bar.
    """
    frame, top, bottom = _frame(
        chart,
        [
            LineSeries(points=(), style=style, label=label, marker="square", line=False)
            for style, (label, _) in bars.items()
        ],
    )
    known = [value for _, values in bars.values() for value in values if value is not None]
    y = _y_scale(chart, known or [1.0], top, bottom)
    shapes = [*frame, *_y_axis(chart, y)]
    step = (chart.width - _RIGHT - _LEFT) / len(groups)
    width = 0.8 * step / max(1, len(bars))
    for place, title in enumerate(groups):
        left = _LEFT + step * (place + 0.1)
        for number, (style, (_, values)) in enumerate(bars.items()):
            edge, value = left + width * number, values[place]
            if value is not None:
                shapes.append(rectangle(edge, y(value), edge + width, bottom, f"bar {style}"))
        middle = left + 0.4 * step
        shapes.append(TextShape(at=(middle + 6, bottom + 14), text=title, style="tick", anchor="end", rotation=-32.0))
    return _drawing(chart, "bars", shapes, bottom + 34.0)


def _frame(chart: AxesChart, legend: Sequence[LineSeries]) -> tuple[list[Shape], float, float]:
    """Title, legend and axis labels; then the upper and lower edge of the plot."""
    shapes: list[Shape] = [TextShape(at=(_LEFT, 16.0), text=chart.title, style="title")]
    left, y = _LEFT, _TITLE + 10.0
    for entry in legend:
        length = 30.0 + _LABEL_LENGTH * len(entry.label)
        if left > _LEFT and left + length > chart.width:
            left, y = _LEFT, y + _LEGEND_ROW
        if entry.line:
            shapes.append(segment((left, y - 4), (left + 18, y - 4), entry.style))
        if entry.marker:
            shapes.append(_marker(entry.marker, (left + 9, y - 4), entry.style))
        shapes.append(TextShape(at=(left + 24, y), text=entry.label, style="tick"))
        left += length + 12.0
    top = y + 14.0
    bottom = top + PLOT_HEIGHT
    middle = (top + bottom) / 2
    shapes.append(TextShape(at=(14.0, middle), text=chart.y_label, style="tick", anchor="middle", rotation=-90.0))
    across = (_LEFT + chart.width - _RIGHT) / 2
    shapes.append(TextShape(at=(across, bottom + 34), text=chart.x_label, style="tick", anchor="middle"))
    shapes.append(segment((_LEFT, bottom), (chart.width - _RIGHT, bottom), "axis"))
    return shapes, top, bottom


def _y_scale(chart: AxesChart, values: Sequence[float], top: float, bottom: float) -> LinearScale:
    low, high = (0.0 if chart.from_zero else min(values)), max(values)
    span = high - low or 1.0
    return LinearScale(low if chart.from_zero else low - 0.05 * span, high + chart.headroom * span, bottom, top)


def _y_axis(chart: AxesChart, y: LinearScale) -> list[Shape]:
    shapes: list[Shape] = []
    for tick in nice_ticks(y.low, y.high, 6):
        shapes.append(segment((_LEFT, y(tick)), (chart.width - _RIGHT, y(tick)), "grid"))
        shapes.append(TextShape(at=(_LEFT - 6, y(tick) + 4), text=f"{tick:g}", style="tick", anchor="end"))
    return shapes


def _marker(marker: Marker, at: Point, style: str) -> Shape:
    x, y = at
    match marker:
        case "circle":
            return CircleShape(center=at, radius=3.5, style=f"{style} marker")
        case "square":
            return rectangle(x - 3.5, y - 3.5, x + 3.5, y + 3.5, f"{style} marker")
        case "diamond":
            corners = ((x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y))
            return LineShape(points=corners, style=f"{style} marker", closed=True)
        case _:
            assert_never(marker)


def _drawing(chart: AxesChart, name: str, shapes: Sequence[Shape], bottom: float) -> Drawing:
    return Drawing(
        name=name,
        label=chart.title,
        origin=(0.0, 0.0),
        width=chart.width,
        height=bottom + _BOTTOM,
        shapes=tuple(shapes),
    )
