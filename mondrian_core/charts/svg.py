"""Writes a drawing as SVG. Colours come from the style sheet of the page; every text is escaped."""

from __future__ import annotations

from html import escape
from typing import assert_never

from mondrian_core.charts.drawing import CircleShape, Drawing, LineShape, Point, Shape, TextShape


def svg_markup(drawing: Drawing, at_scale: bool = False) -> str:
    """The `<svg>` element; it needs no further escaping.

    Args:
        drawing: in its own units.
        at_scale: one unit is one pixel of the page, so that texts have the same size whatever the width. Otherwise the
            style sheet gives the width, and all else is scaled with it.
    """
    (left, top), name = drawing.origin, escape(drawing.name)
    role = "group" if _has_links(drawing) else "img"  # what is inside an image can't be reached
    described = f'role="{role}" aria-label="{escape(drawing.label)}"' if drawing.label else 'aria-hidden="true"'
    box = f"{_number(left)} {_number(top)} {_number(drawing.width)} {_number(drawing.height)}"
    size = f'width="{_number(drawing.width)}" height="{_number(drawing.height)}" ' if at_scale else ""
    return f'<svg class="{name}" viewBox="{box}" {size}{described}>{"".join(map(_element, drawing.shapes))}</svg>'


def _has_links(drawing: Drawing) -> bool:
    return any(isinstance(shape, CircleShape) and shape.link for shape in drawing.shapes)


def _element(shape: Shape) -> str:
    style = escape(shape.style)
    match shape:
        case LineShape():
            if len(shape.points) == 2 and not shape.closed:
                (x1, y1), (x2, y2) = shape.points
                ends = f'x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}"'
                return f'<line class="{style}" {ends}/>'
            kind = "polygon" if shape.closed else "polyline"
            return f'<{kind} class="{style}" points="{" ".join(map(_pair, shape.points))}"/>'
        case CircleShape():
            x, y = shape.center
            title = f"<title>{escape(shape.tooltip)}</title>" if shape.tooltip else ""
            circle = f'<circle class="{style}" cx="{_number(x)}" cy="{_number(y)}" r="{_number(shape.radius)}"'
            circle += f">{title}</circle>" if title else "/>"
            return f'<a href="{escape(shape.link)}">{circle}</a>' if shape.link else circle
        case TextShape():
            across, down = map(_number, shape.at)
            anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
            turned = f' transform="rotate({_number(shape.rotation)} {across} {down})"' if shape.rotation else ""
            return f'<text class="{style}" x="{across}" y="{down}"{anchor}{turned}>{escape(shape.text)}</text>'
        case _:
            assert_never(shape)


def _number(value: float) -> str:
    """One decimal at most, without a negative zero."""
    return f"{round(value, 1) + 0.0:g}"


def _pair(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"
