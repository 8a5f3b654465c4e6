"""The forest plot: by how much the error falls in each dimension, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mondrian_core.charts.drawing import (
    CircleShape,
    Drawing,
    LinearScale,
    Shape,
    TextShape,
    nice_ticks,
    segment,
)
from mondrian_core.rubric import DIMENSION_TITLES

_ROW, _LEFT, _WIDTH, _TOP = 30.0, 170.0, 640.0, 6.0
_LOWEST = -1.5  # reductions below this are clipped; they have no lower limit


def forest_plot(dimensions: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> Drawing | None:
    """One row per dimension and one for all together; None when nothing was compared.

    Args:
        dimensions: {"name", "reduction", "interval"} by dimension. A reduction is relative (0.2: 20 % less error), None
            where it is unknown; an interval is (low, high) or None.
        overall: the same over all dimensions, without a name.
    """
    rows = [(DIMENSION_TITLES[row["name"]], row["reduction"], row["interval"]) for row in dimensions]
    rows.append(("All dimensions", overall["reduction"], overall["interval"]))
    ends = [value for _, middle, ends in rows if middle is not None for value in (middle, *(ends or ()))]
    if not ends:
        return None
    low, high = max(_LOWEST, min(-0.1, *ends)), min(1.0, max(0.1, *ends))
    x = LinearScale(low, high, _LEFT, _WIDTH - 70.0)
    height = _ROW * len(rows) + 46.0
    shapes: list[Shape] = []
    for tick in nice_ticks(low, high):
        zero = abs(tick) < 1e-9
        shapes.append(segment((x(tick), _TOP), (x(tick), height - 34), "grid zero" if zero else "grid"))
        text = "0" if zero else f"{tick:+.0%}"
        shapes.append(TextShape(at=(x(tick), height - 18), text=text, style="tick", anchor="middle"))
    for index, (title, middle, interval) in enumerate(rows):
        y = _TOP + _ROW * (index + 0.5)
        weight = "overall" if index == len(rows) - 1 else "one"
        shapes.append(TextShape(at=(0.0, y + 4), text=title, style=f"name {weight}"))
        if middle is not None:
            shapes += _estimate(x, y, middle, interval, 5.5 if weight == "overall" else 4.5)
    shapes.append(TextShape(at=(_LEFT, height - 3), text="worse than the base", style="tick"))
    shapes.append(TextShape(at=(x(high), height - 3), text="better", style="tick", anchor="end"))
    return Drawing(
        name="forest",
        label="Error reduction by dimension",
        origin=(0.0, 0.0),
        width=_WIDTH,
        height=height,
        shapes=tuple(shapes),
    )


def _estimate(x: LinearScale, y: float, middle: float, interval: Sequence[float] | None, radius: float) -> list[Shape]:
    side = "good" if interval and interval[0] > 0 else "bad" if interval and interval[1] < 0 else "open"
    shapes: list[Shape] = []
    if interval:
        shapes.append(segment((x(interval[0]), y), (x(interval[1]), y), f"span {side}"))
    shapes.append(CircleShape(center=(x(middle), y), radius=radius, style=f"dot {side}"))
    shapes.append(TextShape(at=(_WIDTH, y + 4), text=f"{middle:+.0%}", style="value", anchor="end"))
    return shapes
