"""Camera settings from EXIF for the prompt: focal length, aperture, exposure time, sensitivity.

Place, time, owner and all other tags are never read.
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
    """ "Taken at 35 mm, f/8, 1/125 s, ISO 100.", with the plausible settings that are present; None without any."""
    try:
        tags = read_exif(path, _EXIF)
    except BadPhotograph:
        return None
    settings = [
        _formatted_if_plausible(tags.get(_FOCAL), 1, 5000, lambda value: f"{value:.0f} mm"),
        _formatted_if_plausible(tags.get(_APERTURE), 0.5, 128, lambda value: f"f/{value:.2g}"),
        _formatted_if_plausible(tags.get(_EXPOSURE), 1e-6, 36_000, _exposure),
        _formatted_if_plausible(tags.get(_SENSITIVITY), 1, 10_000_000, lambda value: f"ISO {value:.0f}"),
    ]
    present = [setting for setting in settings if setting]
    return f"Taken at {', '.join(present)}." if present else None


def messages_with_exif(messages: list[ChatMessage], camera: str | None) -> list[ChatMessage]:
    """The messages with the camera sentence before the photograph; unchanged when `camera` is None."""
    if camera is None:
        return messages
    *before, asked = messages
    *words, photograph = asked["content"]
    return [*before, {**asked, "content": [*words, {"type": "text", "text": f"\n{camera}"}, photograph]}]


def _formatted_if_plausible(value: Any, least: float, most: float, spell: Any) -> str | None:
    """A value between `least` and `most`, formatted by `spell`; None for anything else."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, OverflowError):
        return None
    return str(spell(number)) if math.isfinite(number) and least <= number <= most else None


def _exposure(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 0.3 else f"1/{1 / seconds:.0f} s"
