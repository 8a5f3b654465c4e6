"""Charts of scores over time for the pages of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mondrian_core.charts.drawing import CircleShape, Drawing, LinearScale, LineShape, Point, Shape, TextShape, segment
from mondrian_core.rubric import MAX_SCORE

_WIDTH, _HEIGHT = 600.0, 150.0
_SMALL_WIDTH, _SMALL_HEIGHT = 120.0, 32.0


@dataclass(frozen=True, kw_only=True)
class ScoreDot:
    """One critique in the chart: a score (0-10), the style class of its dot, and where it leads."""

    score: float
    style: str
    link: str
    tooltip: str


def score_history_chart(dots: Sequence[ScoreDot], ends: tuple[str, str], label: str) -> Drawing:
    """A line through two or more scores, at equal distances, with a dot for each.

    Args:
        dots: the scores, oldest first.
        ends: texts below the first and the last one.
        label: what the chart shows, for people who can't see it.
    """
    points = _line_points([dot.score for dot in dots], _WIDTH, _HEIGHT)
    y = LinearScale(0, MAX_SCORE, _HEIGHT, 0.0)
    shapes: list[Shape] = []
    for score in (0, MAX_SCORE // 2, MAX_SCORE):
        shapes.append(segment((0.0, y(score)), (_WIDTH, y(score)), "grid"))
        shapes.append(TextShape(at=(-8.0, y(score) + 4), text=f"{score:g}", style="tick", anchor="end"))
    shapes.append(LineShape(points=points, style="line"))
    shapes += [
        CircleShape(center=point, radius=4.0, style=dot.style, link=dot.link, tooltip=dot.tooltip)
        for point, dot in zip(points, dots, strict=True)
    ]
    shapes.append(TextShape(at=(0.0, _HEIGHT + 20), text=ends[0], style="tick"))
    shapes.append(TextShape(at=(_WIDTH, _HEIGHT + 20), text=ends[1], style="tick", anchor="end"))
    return Drawing(
        name="score-line",
        label=label,
        origin=(-28.0, -10.0),
        width=_WIDTH + 40,
        height=_HEIGHT + 34,
        shapes=tuple(shapes),
    )


def sparkline(scores: Sequence[float]) -> Drawing:
    """A small line through two or more scores (0-10), without axes; a decoration next to the figures."""
    line = LineShape(points=_line_points(scores, _SMALL_WIDTH, _SMALL_HEIGHT), style="line")
    return Drawing(
        name="sparkline",
        label="",
        origin=(-2.0, -2.0),
        width=_SMALL_WIDTH + 4,
        height=_SMALL_HEIGHT + 4,
        shapes=(line,),
    )


def _line_points(scores: Sequence[float], width: float, height: float) -> tuple[Point, ...]:
    x, y = LinearScale(0, len(scores) - 1, 0.0, width), LinearScale(0, MAX_SCORE, height, 0.0)
    return tuple((x(index), y(score)) for index, score in enumerate(scores))
