"""A drawing as a list of shapes in its own coordinates (x to the right, y down), independent of the output format.

Every shape has a style: names of classes, separated by spaces. A page's style sheet gives them colours in SVG;
`charts.png` has colours of its own for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
TextAnchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, kw_only=True)
class LineShape:
    """A line through two or more points, or closed through all of them."""

    points: tuple[Point, ...]
    style: str
    closed: bool = False


@dataclass(frozen=True, kw_only=True)
class CircleShape:
    """A circle; `link` and `tooltip` work in SVG only."""

    center: Point
    radius: float
    style: str
    link: str = ""
    tooltip: str = ""


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """A line of text; `at` is a point of its baseline. `rotation` is in degrees, clockwise around `at`."""

    at: Point
    text: str
    style: str
    anchor: TextAnchor = "start"
    rotation: float = 0.0


Shape = LineShape | CircleShape | TextShape


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Shapes and the part of the plane that shows them.

    Attributes:
        name: class of the whole drawing, for the style sheet.
        label: what it shows, for people who can't see it; "" for a decoration.
        origin: the upper left corner.
        width, height: size in the drawing's units; one unit is one pixel of a PNG before scaling.
        shapes: what is drawn, from back to front.
    """

    name: str
    label: str
    origin: Point
    width: float
    height: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class LinearScale:
    """Maps the values low..high to the coordinates start..end; values outside are clipped."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        inside = min(max(value, self.low), self.high)
        return self.start + (self.end - self.start) * (inside - self.low) / (self.high - self.low)


def nice_ticks(low: float, high: float, count: int = 7) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten from low to high; at most `count` + 1 of them."""
    magnitude = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (factor * magnitude) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def segment(start: Point, end: Point, style: str) -> LineShape:
    """A straight line."""
    return LineShape(points=(start, end), style=style)


def rectangle(left: float, top: float, right: float, bottom: float, style: str) -> LineShape:
    """A closed rectangle with sides parallel to the axes."""
    return LineShape(points=((left, top), (right, top), (right, bottom), (left, bottom)), style=style, closed=True)
