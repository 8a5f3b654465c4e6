"""Values of the registry and of runs as short texts for pages: times, durations, sizes, figures, states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from mondrian_core.portable_paths import without_absolute_paths

VERDICT_BADGES: Mapping[str, str] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "attention"}
STATE_BADGES: Mapping[str, str] = {
    "champion": "strong",
    "rejected": "bad",
    "quarantined": "bad",
    "damaged": "bad",
    "candidate": "attention",
    "complete": "good",
    "active": "strong",
    "resumable": "attention",
}
UNKNOWN = "–"


def moment_text(at: str | None) -> str:
    """ "2026-11-28 18:37" in UTC; a dash when it is unknown or unreadable."""
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return UNKNOWN
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if moment.tzinfo else moment.strftime("%Y-%m-%d %H:%M")


def duration_text(seconds: float | None) -> str:
    """ "45 s", "4 min 39 s" or "2 h 05 min"; a dash when it is unknown."""
    if seconds is None or seconds < 0:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02} min" if hours else f"{minutes} min {rest:02} s"


def size_text(size: int | None) -> str:
    """ "12.3 MB"; a dash when it is unknown."""
    if size is None:
        return UNKNOWN
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def value_text(value: Any) -> str:
    """A figure with three significant digits, a list with commas, anything else as it is; a dash for None."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value)) or UNKNOWN
    return str(value)


def interval_words(interval: Any) -> str:
    """ "0.1 to 0.4"; "..." stands for an open side, a dash for an unknown interval."""
    if not isinstance(interval, list | tuple) or len(interval) != 2 or interval == [None, None]:
        return UNKNOWN
    low, high = ("..." if bound is None else value_text(bound) for bound in interval)
    return f"{low} to {high}"


def finite_values(value: Any) -> Any:
    """The value with None for floats that JSON has no word for: a file may hold NaN, which a response may not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_values(each) for key, each in value.items()}
    return [finite_values(each) for each in value] if isinstance(value, list | tuple) else value


def portable_text(text: str) -> str:
    """The text of an error without absolute paths of this machine."""
    return without_absolute_paths(text, {})


VALUE_TEXTS = SimpleNamespace(
    portable=portable_text,
    moment=moment_text,
    duration=duration_text,
    size=size_text,
    value=value_text,
    interval=interval_words,
    verdict_badge=VERDICT_BADGES,
    state_badge=STATE_BADGES,
)
