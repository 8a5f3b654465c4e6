"""The lineage of an advisor's versions: who was trained under which champion, and who was champion when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mondrian_core.charts.drawing import (
    CircleShape,
    Drawing,
    LinearScale,
    LineShape,
    Shape,
    TextShape,
    rectangle,
    segment,
)

_STEP, _LEFT, _RIGHT = 74.0, 96.0, 40.0
_CHAMPIONS, _OTHERS, _REIGNS, _BOTTOM = 30.0, 104.0, 156.0, 214.0
_LETTER = 7.0  # units per letter of a label, about


@dataclass(frozen=True, kw_only=True)
class LineageNode:
    """A version in the picture.

    Attributes:
        state: its style class.
        parent: name of the version that was champion when it was trained; None: none, or one that is not drawn.
        was_champion: it is or was champion, so it stands on the upper line.
        tooltip: what it is, in words.
    """

    name: str
    state: str
    parent: str | None
    was_champion: bool
    tooltip: str


@dataclass(frozen=True)
class ReignSpan:
    """A time during which one version was champion; None is the base alone. Times are seconds since the epoch."""

    version: str | None
    start: float
    end: float


def lineage_chart(nodes: Sequence[LineageNode], reigns: Sequence[ReignSpan], ends: tuple[str, str]) -> Drawing:
    """Champions on the upper line, other versions below the champion that they were trained under, reigns as bars.

    Args:
        nodes: the versions, oldest first.
        reigns: who was champion when, oldest first.
        ends: texts below the beginning and the end of the bars.
    """
    places = {
        node.name: (_LEFT + _STEP * number, _CHAMPIONS if node.was_champion else _OTHERS)
        for number, node in enumerate(nodes)
    }
    right = _LEFT + _STEP * max(len(nodes) - 1, 4)
    shapes: list[Shape] = [
        TextShape(at=(0.0, _CHAMPIONS + 4), text="Champions", style="tick"),
        TextShape(at=(0.0, _OTHERS + 4), text="Others", style="tick"),
        TextShape(at=(0.0, _REIGNS + 17), text="Champion", style="tick"),
    ]
    for node in nodes:
        if node.parent in places:
            shapes.append(LineShape(points=_edge(places[node.parent], places[node.name]), style="edge"))
    for node in nodes:
        x, y = places[node.name]
        shapes.append(CircleShape(center=(x, y), radius=9.0, style=f"version {node.state}", tooltip=node.tooltip))
        shapes.append(TextShape(at=(x, y + 26), text=node.name, style="tick", anchor="middle"))
    shapes += _reign_bars(reigns, right)
    shapes.append(TextShape(at=(_LEFT, _REIGNS + 44), text=ends[0], style="tick"))
    shapes.append(TextShape(at=(right, _REIGNS + 44), text=ends[1], style="tick", anchor="end"))
    return Drawing(
        name="lineage",
        label="Versions with their parents, and the champion over time",
        origin=(0.0, 0.0),
        width=right + _RIGHT,
        height=_BOTTOM,
        shapes=tuple(shapes),
    )


def _edge(start: tuple[float, float], end: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Along the upper line to just before the version, then down to it."""
    if start[1] == end[1]:
        return (start, end)
    bend = end[0] - _STEP / 2
    return (start, (bend, start[1]), (end[0], end[1])) if bend > start[0] else (start, end)


def _reign_bars(reigns: Sequence[ReignSpan], right: float) -> list[Shape]:
    if not reigns or reigns[-1].end <= reigns[0].start:
        return [segment((_LEFT, _REIGNS + 13), (right, _REIGNS + 13), "grid")]
    x = LinearScale(reigns[0].start, reigns[-1].end, _LEFT, right)
    shapes: list[Shape] = []
    for number, reign in enumerate(reigns):
        left, edge = x(reign.start), x(reign.end)
        style = "reign base" if reign.version is None else f"reign {'odd' if number % 2 else 'even'}"
        shapes.append(rectangle(left, _REIGNS, max(edge, left + 1.5), _REIGNS + 26, style))
        name = reign.version or "base alone"
        if edge - left > _LETTER * len(name) + 6:
            middle = (left + edge) / 2
            shapes.append(TextShape(at=(middle, _REIGNS + 17), text=name, style="tick reign-name", anchor="middle"))
    return shapes
