"""Contact sheet of a dataset: one strip per training photograph with its variants side by side.

The scores that no longer count in the loss are listed under each variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from mondrian_core.rubric import DIMENSIONS

CELL, GAP, MARGIN = 240, 12, 20
LINE = 16
MAX_STRIPS = 12
_PAPER, _INK, _PALE = (250, 249, 246), (30, 30, 30), (110, 110, 110)
# A line under a tile holds three short words.
_SHORT = {
    "composition": "composition",
    "lighting": "lighting",
    "focus_sharpness": "focus",
    "color_harmony": "colour",
    "subject_isolation": "isolation",
    "depth_perspective": "depth",
    "visual_balance": "balance",
    "emotional_impact": "emotion",
}


@dataclass(frozen=True)
class Tile:
    """One variant: its name, the dimensions whose score still holds, the picture."""

    name: str
    kept_dimensions: tuple[str, ...]
    picture: Image.Image

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines under the picture's name."""
        lost = [_SHORT.get(name, name.replace("_", " ")) for name in DIMENSIONS if name not in self.kept_dimensions]
        if not lost:
            return ("every score counts",)
        words = (", ".join(lost[:3]) + ("," if lost[3:] else ""), ", ".join(lost[3:]))
        return ("these scores don't count:", *(line for line in words if line))


@dataclass(frozen=True)
class Strip:
    """A photograph: its name, a remark, and the tiles made of it."""

    name: str
    remark: str
    tiles: tuple[Tile, ...]


def contact_sheet(strips: Sequence[Strip], heading: str) -> Image.Image:
    """The sheet as 8-bit RGB; it shows the first `MAX_STRIPS` photographs, and the heading says of how many."""
    shown = strips[:MAX_STRIPS]
    columns = max(3, *(len(strip.tiles) for strip in shown)) if shown else 3
    width = 2 * MARGIN + columns * CELL + (columns - 1) * GAP
    height = 2 * MARGIN + 2 * LINE + sum(_height(strip) for strip in shown)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    more = f" The first {len(shown)} of {len(strips)} are shown." if len(strips) > len(shown) else ""
    _write(draw, MARGIN, MARGIN, heading + more, _INK, width - 2 * MARGIN)
    top = MARGIN + 2 * LINE
    for strip in shown:
        _put(sheet, draw, strip, top)
        top += _height(strip)
    return sheet


def _small(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return small


def _picture_height(strip: Strip) -> int:
    return max(_small(tile.picture).height for tile in strip.tiles)


def _height(strip: Strip) -> int:
    """Pixels for the name, the pictures, the longest caption, and a gap before the next strip."""
    captions = 1 + max(len(tile.notes) for tile in strip.tiles)
    return LINE + 6 + _picture_height(strip) + 4 + captions * LINE + 2 * GAP


def _put(sheet: Image.Image, draw: ImageDraw.ImageDraw, strip: Strip, top: int) -> None:
    room = sheet.width - 2 * MARGIN
    draw.line((MARGIN, top - GAP, sheet.width - MARGIN, top - GAP), fill=(222, 220, 214))
    _write(draw, MARGIN, top, strip.name + (f"   {strip.remark}" if strip.remark else ""), _INK, room)
    below = top + LINE + 6 + _picture_height(strip)
    for column, tile in enumerate(strip.tiles):
        left = MARGIN + column * (CELL + GAP)
        small = _small(tile.picture)
        sheet.paste(small, (left, below - small.height))
        _write(draw, left, below + 4, tile.name, _INK, CELL)
        for number, note in enumerate(tile.notes, 1):
            _write(draw, left, below + 4 + number * LINE, note, _PALE, CELL)


def _write(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, colour: tuple[int, int, int], room: int) -> None:
    """Write text on one line, shortened with an ellipsis where it is wider than `room` pixels."""
    font, said = _font(), text
    while said and draw.textlength(said, font=font) > room:
        said = said[:-2].rstrip() + "…" if len(said) > 2 else ""
    draw.text((left, top), said, fill=colour, font=font)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=12)
