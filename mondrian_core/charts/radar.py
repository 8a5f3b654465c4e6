"""The radar chart of scores by dimension, for the report and for the pages of the service."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mondrian_core.charts.drawing import Drawing, LineShape, Point, Shape, TextAnchor, TextShape, segment
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, MAX_SCORE

_RADIUS, _HALF_WIDTH, _HALF_HEIGHT = 132.0, 252.0, 164.0
_HALF_WITHOUT_NAMES = 136.0
_RINGS = (2, 4, 6, 8, 10)


def radar_chart(series: Mapping[str, Mapping[str, float]], label: str, *, names: bool = True) -> Drawing:
    """Scores (0-10) by dimension, one polygon for each series.

    Args:
        series: scores by dimension, by the series' style class; a missing score is drawn at 0.
        label: what the chart shows, for people who can't see it; "" where the scores are given as text too.
        names: label the axes; without them the chart is square, and readable at the size of a stamp.
    """
    shapes: list[Shape] = []
    for ring in _RINGS:
        corners = tuple(_point(index, ring) for index in range(len(DIMENSIONS)))
        shapes.append(LineShape(points=corners, style="grid", closed=True))
    shapes += [segment((0.0, 0.0), _point(index, MAX_SCORE), "grid") for index in range(len(DIMENSIONS))]
    for index, name in enumerate(DIMENSIONS if names else ()):
        x, y = _point(index, 1.1 * MAX_SCORE)
        anchor: TextAnchor = "middle" if abs(x) < 12 else "start" if x > 0 else "end"
        shapes.append(TextShape(at=(x, y + 4), text=short_title(name), style="name", anchor=anchor))
    for name, scores in series.items():
        corners = tuple(_point(index, scores.get(dimension, 0.0)) for index, dimension in enumerate(DIMENSIONS))
        shapes.append(LineShape(points=corners, style=f"arm {name}", closed=True))
    rings = _RINGS if names else ()
    shapes += [TextShape(at=(3.0, 10.0 - _RADIUS * ring / MAX_SCORE), text=str(ring), style="tick") for ring in rings]
    half_width, half_height = (_HALF_WIDTH, _HALF_HEIGHT) if names else (_HALF_WITHOUT_NAMES,) * 2
    return Drawing(
        name="radar",
        label=label,
        origin=(-half_width, -half_height),
        width=2 * half_width,
        height=2 * half_height,
        shapes=tuple(shapes),
    )


def short_title(dimension: str) -> str:
    """The first part of a dimension's title, for a chart with little space."""
    return DIMENSION_TITLES[dimension].split(" &")[0]


def _point(index: int, score: float) -> Point:
    """The point of a score on a dimension's axis; the first axis points up, the others follow clockwise."""
    angle = 2 * math.pi * index / len(DIMENSIONS)
    return _RADIUS * score / MAX_SCORE * math.sin(angle), -_RADIUS * score / MAX_SCORE * math.cos(angle)
