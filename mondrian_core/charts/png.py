"""Writes drawings in a row as PNG: for files that are opened on their own and for Prefect artifacts."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from PIL import Image, ImageDraw, ImageFont

from mondrian_core.charts.drawing import CircleShape, Drawing, LineShape, Point, Shape, TextShape

PIXELS_PER_UNIT = 1.5
_OVERSAMPLING = 2  # Pillow draws lines without smoothing, so they are drawn larger and reduced
_SCALE = PIXELS_PER_UNIT * _OVERSAMPLING
_MARGIN, _GAP, _TITLE_HEIGHT = 12.0, 28.0, 30.0
_DASH = (4.0, 3.0)
_INK, _SOFT, _GRID, _BASE, _CANDIDATE, _CHAMPION = "#1b1d20", "#62676e", "#dfe1e4", "#8d949c", "#1f5fbf", "#d9a520"
_GOOD, _BAD = "#2e7d4f", "#b3372f"


@dataclass(frozen=True, kw_only=True)
class PngStyle:
    """How a shape is painted; None: no line, or no area. Width and font size are in units of the drawing."""

    stroke: str | None = None
    fill: str | None = None
    width: float = 1.0
    dashed: bool = False
    font_size: float = 12.0
    bold: bool = False
    solid: bool = False  # the area has the colour of the line


_STYLES: Mapping[str, Mapping[str, Any]] = {
    "grid": {"stroke": _GRID},
    "zero": {"stroke": _SOFT},
    "axis": {"stroke": _SOFT},
    "tick": {"fill": _SOFT, "font_size": 11.0},
    "name": {"fill": _INK},
    "title": {"fill": _INK, "font_size": 14.0},
    "value": {"fill": _INK, "bold": True},
    "overall": {"bold": True},
    "heading": {"fill": _INK, "font_size": 15.0, "bold": True},
    "span": {"width": 2.5},
    "good": {"stroke": _GOOD, "fill": _GOOD},
    "bad": {"stroke": _BAD, "fill": _BAD},
    "open": {"stroke": _BASE, "fill": _BASE},
    "one": {},
    "dot": {},
    "bar": {},
    "base": {"fill": _BASE},
    "champion": {"fill": _CHAMPION},
    "best_champion": {"fill": _CHAMPION},
    "candidate": {"fill": _CANDIDATE},
    "quiet": {"stroke": "#b9c3d6"},
    "first": {"stroke": "#3b5b92", "width": 1.6},
    "second": {"stroke": "#c2572b", "width": 1.6},
    "third": {"stroke": _GOOD, "width": 1.6},
    "thin": {"width": 0.8},
    "mark": {"stroke": "#555555", "dashed": True},
    "dashed": {"dashed": True},
    "marker": {"solid": True, "dashed": False},
}


def png_bytes(drawings: Sequence[Drawing], title: str = "") -> bytes:
    """A PNG of the drawings side by side on white, below a title.

    Args:
        drawings: at least one; they are aligned at the top. Styles without a colour here are a KeyError.
        title: lines of text above them; "" for none.
    """
    lines = title.splitlines()
    top = _MARGIN + _TITLE_HEIGHT * len(lines)
    width = sum(drawing.width for drawing in drawings) + _GAP * (len(drawings) - 1) + 2 * _MARGIN
    height = max(drawing.height for drawing in drawings) + top + _MARGIN
    image = Image.new("RGB", (round(width * _SCALE), round(height * _SCALE)), "white")
    for row, line in enumerate(lines):
        _paint(image, TextShape(at=(_MARGIN, _MARGIN + 17.0 + 24.0 * row), text=line, style="heading"), (0.0, 0.0))
    left = _MARGIN
    for drawing in drawings:
        shift = (left - drawing.origin[0], top - drawing.origin[1])
        for shape in drawing.shapes:
            _paint(image, shape, shift)
        left += drawing.width + _GAP
    stream = io.BytesIO()
    image.reduce(_OVERSAMPLING).save(stream, "PNG")
    return stream.getvalue()


def _style_of(names: str) -> PngStyle:
    style = PngStyle()
    for name in names.split():
        style = replace(style, **_STYLES[name])
    return replace(style, fill=style.fill or style.stroke) if style.solid else style


def _paint(image: Image.Image, shape: Shape, shift: Point) -> None:
    painter, style = ImageDraw.Draw(image), _style_of(shape.style)
    width = max(1, round(style.width * _SCALE))

    def place(point: Point) -> Point:
        return (point[0] + shift[0]) * _SCALE, (point[1] + shift[1]) * _SCALE

    match shape:
        case LineShape():
            points = [place(point) for point in shape.points]
            if shape.closed and style.fill:
                painter.polygon(points, fill=style.fill)
            if style.stroke:
                outline = [*points, points[0]] if shape.closed else points
                for part in _dashes(outline) if style.dashed else [outline]:
                    painter.line(part, fill=style.stroke, width=width, joint="curve")
        case CircleShape():
            x, y = place(shape.center)
            radius = shape.radius * _SCALE
            painter.ellipse((x - radius, y - radius, x + radius, y + radius), fill=style.fill or style.stroke)
        case TextShape():
            _paint_text(image, shape, style, place(shape.at))
        case _:
            assert_never(shape)


def _paint_text(image: Image.Image, shape: TextShape, style: PngStyle, at: Point) -> None:
    font = ImageFont.load_default(style.font_size * _SCALE)
    heavy = 0.3 * _SCALE if style.bold else 0.0
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
    if not shape.rotation:
        ImageDraw.Draw(image).text(at, shape.text, fill=style.fill, font=font, anchor=anchor, stroke_width=heavy)
        return
    reach = round(font.getlength(shape.text) + style.font_size * _SCALE) + 1
    mask = Image.new("L", (2 * reach, 2 * reach))  # the text around its middle, so that it turns around `at`
    ImageDraw.Draw(mask).text((reach, reach), shape.text, fill=255, font=font, anchor=anchor, stroke_width=heavy)
    turned = mask.rotate(-shape.rotation, resample=Image.Resampling.BICUBIC)
    image.paste(style.fill or _INK, (round(at[0]) - reach, round(at[1]) - reach), turned)


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """The dashes of a line through these pixels; the pattern begins again at each corner."""
    on, off = (length * _SCALE for length in _DASH)
    parts = []
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        for index in range(int(length // (on + off)) + 1):
            ends = [min((index * (on + off) + step) / length, 1.0) if length else 0.0 for step in (0.0, on)]
            parts.append([(x1 + (x2 - x1) * end, y1 + (y2 - y1) * end) for end in ends])
    return parts
