"""A picture of what augmentation made: a line per training photograph, a column per variant, what the score still
holds for."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from mondrian_core.rubric import DIMENSIONS

CELL, LABEL, GAP = 220, 34, 8
MOST_LINES = 12
_PAPER, _INK, _PALE = (250, 249, 246), (30, 30, 30), (120, 120, 120)

Tile = tuple[str, tuple[str, ...], Image.Image]


def contact_sheet(lines: Sequence[Sequence[Tile]]) -> Image.Image:
    """The sheet as 8-bit RGB. A tile is (name of the variant, dimensions whose score holds, picture).

    The first `MOST_LINES` photographs are shown.
    """
    shown = lines[:MOST_LINES]
    columns = max((len(line) for line in shown), default=1)
    size = (GAP + columns * (CELL + GAP), GAP + max(1, len(shown)) * (CELL + LABEL + GAP))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(shown):
        for column, tile in enumerate(line):
            _put(sheet, draw, tile, GAP + column * (CELL + GAP), GAP + row * (CELL + LABEL + GAP))
    return sheet


def _put(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    name, kept, picture = tile
    small = picture.copy()
    small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    sheet.paste(small, (left + (CELL - small.width) // 2, top + (CELL - small.height) // 2))
    draw.text((left, top + CELL + 2), name, fill=_INK, font=_font())
    lost = [dimension for dimension in DIMENSIONS if dimension not in kept]
    note = "every score counts" if not lost else f"{len(kept)} of {len(DIMENSIONS)} scores count"
    draw.text((left, top + CELL + 17), note, fill=_PALE, font=_font())


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=12)
