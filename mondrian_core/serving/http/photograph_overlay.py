"""What is drawn over a photograph: the regions that recommendations point at, and a crop, with words that say where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mondrian_core.critique_regions import region_from_value, regions_from_value
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, is_empty_region
from mondrian_core.serving.critique.crop_candidates import CropFrame

_ALMOST_ALL = 0.8  # of a side
_SAME_PLACE = 0.02  # of a side


@dataclass(frozen=True)
class OutlinedRegion:
    """A region: (left, top, width, height) in pixels of the photograph as drawn, and where it is, in words."""

    rectangle: tuple[float, float, float, float]
    place: str


@dataclass(frozen=True, kw_only=True)
class PhotographOverlay:
    """The outlines over one photograph.

    Attributes:
        size: width and height of the drawing, in the photograph's proportion.
        regions: by dimension.
        crop: corners of the offered crop as SVG points; "" without one.
        crop_place: what the crop leaves out, in words.
    """

    size: tuple[int, int]
    regions: Mapping[str, tuple[OutlinedRegion, ...]] = field(default_factory=dict)
    crop: str = ""
    crop_place: str = ""

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to draw."""
        return not self.regions and not self.crop

    def label(self, dimension: str) -> str:
        """The name of a dimension's outlines: "Lighting: upper left"."""
        return f"{DIMENSION_TITLES[dimension]}: {'; '.join(each.place for each in self.regions[dimension])}"


def photograph_overlay(
    entries: Mapping[str, Any], crop: Mapping[str, Any] | None, size: tuple[int, int]
) -> PhotographOverlay:
    """The outlines of a critique.

    Args:
        entries: by dimension, as in a critique's JSON; what is not a valid region is left out.
        crop: the crop that is offered (`box`, `degrees`), if any.
        size: width and height of the photograph, in any unit.
    """
    found = {name: _outlined(entries.get(name), size) for name in DIMENSIONS}
    frame = crop_frame(crop) if crop else None
    corners = frame.corners(size) if frame else ()
    return PhotographOverlay(
        size=size,
        regions={name: outlined for name, outlined in found.items() if outlined},
        crop=" ".join(f"{x * size[0]:.1f},{y * size[1]:.1f}" for x, y in corners),
        crop_place=crop_words(frame) if frame else "",
    )


def crop_frame(crop: Mapping[str, Any]) -> CropFrame | None:
    """The frame of a stored crop; None when its values can't be read."""
    box, degrees = region_from_value(crop.get("box")), crop.get("degrees", 0.0)
    if box is None or is_empty_region(box):
        return None
    if isinstance(degrees, bool) or not isinstance(degrees, int | float) or not math.isfinite(degrees):
        return None
    return CropFrame(*box, float(degrees))


def place_words(region: Sequence[float]) -> str:
    """Where a region (left, top, right, bottom; 0-1) is: "upper left", "lower third, over the whole width"."""
    left, top, right, bottom = region
    wide, high = right - left >= _ALMOST_ALL, bottom - top >= _ALMOST_ALL
    across = ("left", "middle", "right")[min(2, int((left + right) / 2 * 3))]
    down = ("upper", "middle", "lower")[min(2, int((top + bottom) / 2 * 3))]
    if wide and high:
        return "nearly the whole photograph"
    if wide:
        return f"{down} third, over the whole width"
    if high:
        return f"{across} third, over the whole height"
    return across if down == "middle" else f"{down} {across}"


def crop_words(frame: CropFrame) -> str:
    """What a crop does: "takes off 20 % on the left and 10 % at the bottom"."""
    sides = {
        "on the left": frame.left,
        "at the top": frame.top,
        "on the right": 1 - frame.right,
        "at the bottom": 1 - frame.bottom,
    }
    taken = [f"{100 * share:.0f} % {where}" for where, share in sides.items() if share >= _SAME_PLACE]
    turned = f"turns the photograph {abs(frame.degrees):.1f} degrees {'counter' if frame.degrees > 0 else ''}clockwise"
    parts = [turned] if frame.degrees else []
    parts += [f"takes off {', '.join(taken[:-1])}{' and ' if taken[1:] else ''}{taken[-1]}"] if taken else []
    return " and ".join(parts)


def _outlined(entry: Any, size: tuple[int, int]) -> tuple[OutlinedRegion, ...]:
    given = entry.get("regions") if isinstance(entry, Mapping) else None
    return tuple(
        OutlinedRegion(
            (left * size[0], top * size[1], (right - left) * size[0], (bottom - top) * size[1]),
            place_words((left, top, right, bottom)),
        )
        for left, top, right, bottom in regions_from_value(given)
    )
