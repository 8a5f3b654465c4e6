"""Regions of a photograph as people and programs write them: boxes (left, top, right, bottom) as fractions, 0-1.

Inside a model, a box is written in thousandths of width and height (Qwen-VL's grounding convention); analyses and
annotation tools may hold that spelling, so both are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mondrian_core.rubric import REGION_SCALE, Region, is_empty_region

MIN_KEPT_AREA = 0.5  # share of a box that has to stay in a crop; less no longer shows what the box meant


def regions_from_value(value: Any) -> tuple[Region, ...]:
    """The boxes of a JSON value: one box or a list of boxes, each in fractions or in whole thousandths.

    Boxes that aren't four numbers within the photograph, or have no area, are left out.
    """
    given = [value] if _is_box(value) else value if isinstance(value, list | tuple) else []
    read = (region_from_value(each) for each in given)
    return tuple(region for region in read if region is not None and not is_empty_region(region))


def region_from_value(value: Any) -> Region | None:
    """Four numbers within the photograph: fractions, or whole thousandths. The box may be without area."""
    if not _is_box(value):
        return None
    fractions = all(0 <= number <= 1 for number in value)
    whole = all(0 <= number <= REGION_SCALE and float(number).is_integer() for number in value)
    if not fractions and not whole:
        return None
    left, top, right, bottom = (float(number) if fractions else number / REGION_SCALE for number in value)
    return left, top, right, bottom


def is_list_of_regions(value: Any) -> bool:
    """True when `regions_from_value` reads every box of the value, and there is one."""
    return isinstance(value, list | tuple) and bool(value) and len(regions_from_value(value)) == len(value)


def regions_as_lists(regions: Mapping[str, Iterable[Region]]) -> dict[str, list[list[float]]]:
    """Regions by dimension as plain values for JSON."""
    return {name: [list(region) for region in boxes] for name, boxes in regions.items()}


def mirrored_region(region: Region) -> Region:
    """The box in the mirror image."""
    left, top, right, bottom = region
    return 1 - right, top, 1 - left, bottom


def cropped_region(region: Region, crop: Region) -> Region | None:
    """The box as fractions of a crop of the photograph; None when less than `MIN_KEPT_AREA` of it is inside.

    Args:
        region: fractions of the photograph.
        crop: the part that is kept, as fractions of the photograph.
    """
    left, top, right, bottom = region
    inside = max(left, crop[0]), max(top, crop[1]), min(right, crop[2]), min(bottom, crop[3])
    if inside[0] >= inside[2] or inside[1] >= inside[3] or _area(inside) < MIN_KEPT_AREA * _area(region):
        return None
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    return (
        (inside[0] - crop[0]) / width,
        (inside[1] - crop[1]) / height,
        (inside[2] - crop[0]) / width,
        (inside[3] - crop[1]) / height,
    )


def rotated_region(region: Region, size: tuple[int, int], degrees: float) -> Region:
    """The upright box around a box that turns with the photograph about its center; it may reach beyond the edges.

    Args:
        region: fractions of the photograph.
        size: width and height of the photograph in pixels.
        degrees: anticlockwise.
    """
    width, height = size
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [((x - 0.5) * width, (y - 0.5) * height) for x in region[::2] for y in region[1::2]]
    across = [(x * cosine + y * sine) / width + 0.5 for x, y in corners]
    down = [(y * cosine - x * sine) / height + 0.5 for x, y in corners]
    return min(across), min(down), max(across), max(down)


def _area(region: Region) -> float:
    return (region[2] - region[0]) * (region[3] - region[1])


def _is_box(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
