"""The reliability plot: scores of the model against the advisor's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from mondrian_core.charts.drawing import (
    CircleShape,
    Drawing,
    LinearScale,
    LineShape,
    Point,
    Shape,
    TextShape,
    nice_ticks,
    segment,
)
from mondrian_core.rubric import MAX_SCORE

_SIZE, _EDGE = 360.0, 34.0
_GROUPS, _FEWEST_PAIRS = 5, 10


def quintile_means(pairs: Sequence[Point]) -> list[Point]:
    """Means of both coordinates over five groups of nearly equal size, by the first coordinate; [] below ten pairs."""
    if len(pairs) < _FEWEST_PAIRS:
        return []
    ordered = sorted(pairs)
    edges = [round(index * len(ordered) / _GROUPS) for index in range(_GROUPS + 1)]
    groups = [ordered[low:high] for low, high in pairwise(edges)]
    return [(sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group)) for group in groups]


def reliability_plot(points: Mapping[str, Sequence[Point]]) -> Drawing:
    """Points and quintile means by arm; on the diagonal both agree.

    Args:
        points: (the model's score, the advisor's score), 0-10, by the arm's style class.
    """
    x = LinearScale(0, MAX_SCORE, _EDGE, _SIZE - _EDGE)
    y = LinearScale(0, MAX_SCORE, _SIZE - _EDGE, _EDGE)
    near, far = _EDGE, _SIZE - _EDGE
    shapes: list[Shape] = []
    for tick in nice_ticks(0, MAX_SCORE, 5):
        shapes += [
            segment((x(tick), near), (x(tick), far), "grid"),
            segment((near, y(tick)), (far, y(tick)), "grid"),
            TextShape(at=(x(tick), far + 15), text=f"{tick:g}", style="tick", anchor="middle"),
            TextShape(at=(near - 6, y(tick) + 4), text=f"{tick:g}", style="tick", anchor="end"),
        ]
    shapes.append(segment((near, far), (far, near), "zero"))
    shapes += [
        CircleShape(center=(x(model), y(advisor)), radius=3.0, style=f"point {arm}")
        for arm, pairs in points.items()
        for model, advisor in pairs
    ]
    for arm, pairs in points.items():
        if means := quintile_means(pairs):
            curve = tuple((x(model), y(advisor)) for model, advisor in means)
            shapes.append(LineShape(points=curve, style=f"curve {arm}"))
    shapes.append(TextShape(at=(_SIZE / 2, _SIZE - 3), text="model", style="tick", anchor="middle"))
    shapes.append(TextShape(at=(4.0, _EDGE - 12), text="advisor", style="tick"))
    return Drawing(
        name="scatter",
        label="Scores against the advisor's",
        origin=(0.0, 0.0),
        width=_SIZE,
        height=_SIZE,
        shapes=tuple(shapes),
    )
