"""Facts about a photograph from its EXIF data: camera, lens, settings and the time on the camera's clock.

The place, the owner and all other tags are never read. Only camera settings may go into a prompt.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import read_camera_tags
from mondrian_core.prompts import ChatMessage

MAX_FACT_LENGTH = 80
_MAKE, _MODEL, _LENS = 0x010F, 0x0110, 0xA434
_EXPOSURE, _APERTURE, _SENSITIVITY, _FOCAL = 0x829A, 0x829D, 0x8827, 0x920A
_TAKEN, _TAKEN_FRACTION = 0x9003, 0x9291
EXPOSURE_FACTS = ("focal_length", "aperture", "exposure_time", "sensitivity")


def camera_facts(image: Path | Mapping[int, Any]) -> dict[str, str]:
    """What a page shows of a camera: {"camera": "NIKON D750", "lens": ..., "aperture": "f/8", ...}.

    Args:
        image: the file, or its tags as `images.read_camera_tags` returns them.

    Returns:
        The plausible values of `camera`, `lens`, `focal_length`, `aperture`, `exposure_time` and `sensitivity`, in this
        order; {} for a file that can't be read.
    """
    tags = _tags(image)
    facts = {
        "camera": _camera(tags),
        "lens": _clean_text(tags.get(_LENS)),
        "focal_length": _formatted_if_plausible(tags.get(_FOCAL), (1, 5000), lambda value: f"{value:.0f} mm"),
        "aperture": _formatted_if_plausible(tags.get(_APERTURE), (0.5, 128), lambda value: f"f/{value:.2g}"),
        "exposure_time": _formatted_if_plausible(tags.get(_EXPOSURE), (1e-6, 36_000), _exposure),
        "sensitivity": _formatted_if_plausible(
            tags.get(_SENSITIVITY), (1, 10_000_000), lambda value: f"ISO {value:.0f}"
        ),
    }
    return {name: fact for name, fact in facts.items() if fact}


def time_taken(image: Path | Mapping[int, Any]) -> str | None:
    """When a photograph was taken by the camera's clock, as ISO 8601 without offset; None when it is unknown.

    Args:
        image: the file, or its tags as `images.read_camera_tags` returns them.
    """
    tags = _tags(image)
    try:
        taken = datetime.strptime(str(tags.get(_TAKEN, "")).strip("\0 "), "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007  no zone
    except ValueError:
        return None
    fraction = re.fullmatch(r"\d{1,6}", str(tags.get(_TAKEN_FRACTION, "")).strip("\0 "))
    return taken.replace(microsecond=int(fraction[0].ljust(6, "0")) if fraction else 0).isoformat()


def camera_line(facts: Mapping[str, str], taken_at: str | None = None) -> str:
    """Facts and time on one line for people: "NIKON D750, 35 mm, f/8, ISO 100, 2026-05-17 04:12"; "" without any."""
    taken = [taken_at.replace("T", " ")[:16]] if taken_at else []
    return ", ".join([*facts.values(), *taken])


def exif_description(path: Path) -> str | None:
    """ "Taken at 35 mm, f/8, 1/125 s, ISO 100.", with the plausible settings that are present; None without any."""
    facts = camera_facts(path)
    present = [facts[name] for name in EXPOSURE_FACTS if name in facts]
    return f"Taken at {', '.join(present)}." if present else None


def messages_with_exif(messages: list[ChatMessage], camera: str | None) -> list[ChatMessage]:
    """The messages with the camera sentence before the photograph; unchanged when `camera` is None."""
    if camera is None:
        return messages
    *before, asked = messages
    *words, photograph = asked["content"]
    return [*before, {**asked, "content": [*words, {"type": "text", "text": f"\n{camera}"}, photograph]}]


def _tags(image: Path | Mapping[int, Any]) -> Mapping[int, Any]:
    if not isinstance(image, Path):
        return image
    try:
        return read_camera_tags(image)
    except BadPhotograph:
        return {}


def _camera(tags: Mapping[int, Any]) -> str:
    """The model, with the maker unless the model's name begins with it ("NIKON CORPORATION", "NIKON D750")."""
    make, model = _clean_text(tags.get(_MAKE)), _clean_text(tags.get(_MODEL))
    if not make or not model:
        return model or make
    same = model.split()[0].casefold() == make.split()[0].casefold()
    return model if same else f"{make} {model}"[:MAX_FACT_LENGTH]


def _clean_text(value: Any) -> str:
    """A text of the camera on one line, without control characters, at most `MAX_FACT_LENGTH` long; else ""."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    ended = value.partition("\0")[0]
    printable = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in ended)
    return " ".join(printable.split())[:MAX_FACT_LENGTH]


def _formatted_if_plausible(value: Any, bounds: tuple[float, float], spell: Callable[[float], str]) -> str:
    """A value within `bounds`, formatted by `spell`; "" for anything else."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, OverflowError):
        return ""
    return spell(number) if math.isfinite(number) and bounds[0] <= number <= bounds[1] else ""


def _exposure(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 0.3 else f"1/{1 / seconds:.0f} s"
