"""What a camera wrote about how a photograph was taken, for the prompt: focal length, aperture, exposure, sensitivity.

Where and when it was taken, whose camera it was and all the rest are never read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import read_exif
from mondrian_core.prompts import ChatMessage

_EXIF = 0x8769
_EXPOSURE, _APERTURE, _SENSITIVITY, _FOCAL = 0x829A, 0x829D, 0x8827, 0x920A


def exif_description(path: Path) -> str | None:
    """ "Taken at 35 mm, f/8, 1/125 s, ISO 100." with what is there and possible; None when nothing is."""
    try:
        found = read_exif(path, _EXIF)
    except BadPhotograph:
        return None
    told = [
        _formatted_if_plausible(found.get(_FOCAL), 1, 5000, lambda value: f"{value:.0f} mm"),
        _formatted_if_plausible(found.get(_APERTURE), 0.5, 128, lambda value: f"f/{value:.2g}"),
        _formatted_if_plausible(found.get(_EXPOSURE), 1e-6, 36_000, _exposure),
        _formatted_if_plausible(found.get(_SENSITIVITY), 1, 10_000_000, lambda value: f"ISO {value:.0f}"),
    ]
    words = [each for each in told if each]
    return f"Taken at {', '.join(words)}." if words else None


def messages_with_exif(messages: list[ChatMessage], camera: str | None) -> list[ChatMessage]:
    """The messages with that sentence before the photograph; the messages themselves without one."""
    if camera is None:
        return messages
    *before, asked = messages
    *words, photograph = asked["content"]
    return [*before, {**asked, "content": [*words, {"type": "text", "text": f"\n{camera}"}, photograph]}]


def _formatted_if_plausible(value: Any, least: float, most: float, spell: Any) -> str | None:
    """A number within what cameras can do, as words; None for anything else."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, OverflowError):
        return None
    return str(spell(number)) if math.isfinite(number) and least <= number <= most else None


def _exposure(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 0.3 else f"1/{1 / seconds:.0f} s"
