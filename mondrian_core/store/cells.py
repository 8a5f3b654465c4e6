"""Reading cells of any type as the type that their column should hold.

SQLite keeps in a cell whatever was written to it: a number in a text column, bytes, text in another encoding, a time in
any spelling. All rows are read through `Cells`, so that a malformed cell affects its own record only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

from mondrian_core.critique_parsing import parse_score

MAX_INTEGER_DIGITS = 18  # longer ones are not counts, scores or times, and Python refuses to convert some of them
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d*)?")
_ZONE = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JULIAN_EPOCH = 2440587.5  # days from SQLite's julianday() 0 to 1970
# Units in which clocks count since 1970, with the smallest number that is read in that unit: the year 1973.
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (1e8, 1.0))
_FALSE = {"", "0", "0.0", "false", "f", "no", "n", "off"}


def text_or_bytes(raw: bytes) -> str | bytes:
    """The `text_factory` of a connection: text, or the bytes themselves where they are not valid UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def normalized_timestamp(value: Any) -> str | None:
    """The time in a cell as `2026-01-20T18:00:00.000000`, UTC: the one spelling that sorts chronologically.

    Accepts ISO 8601 (also with a blank instead of the T, an offset, or a Z; without an offset UTC is assumed, as SQLite
    does), RFC 2822, and numbers or numeric text: seconds, milli-, micro- or nanoseconds since 1970, or a Julian day.
    None for anything else.
    """
    if isinstance(value, bytes):
        value = text_or_bytes(value)
    if isinstance(value, str):
        if _CANONICAL.fullmatch(value):
            return value
        moment = _moment_of_text(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        moment = _moment_of_number(value)
    else:
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") if moment else None


def _moment_of_text(text: str) -> datetime | None:
    if _NUMBER.fullmatch(text) and len(text) != 8:  # eight digits are the day 20260120
        return _moment_of_number(float(text))
    spelled = _ZONE.sub("", text.replace("/", "-").removesuffix(" UTC").removesuffix(" GMT"))
    for read, given in ((datetime.fromisoformat, spelled), (parsedate_to_datetime, text)):
        try:
            moment = read(given)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _moment_of_number(value: float) -> datetime | None:
    if 2.4e6 <= value <= 2.5e6:
        seconds = (value - _JULIAN_EPOCH) * 86400
    else:
        unit = next((unit for least, unit in _UNITS if value >= least), None)
        if unit is None:
            return None
        seconds = value / unit
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


def parse_json_value(text: str) -> Any:
    """A JSON value that can be written back: finite, without huge integers and lone surrogates.

    Raises:
        ValueError: when it is not JSON, or not such JSON.
    """
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text[:20])


def _bounded(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_bounded)


class Cells:
    """The cells of one row by column name. An unreadable cell is None, and `unreadable` has the reason by column."""

    __slots__ = ("_values", "unreadable")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.unreadable: dict[str, str] = {}

    def text(self, column: str) -> str | None:
        """A text; numbers, and bytes that are not text, are unreadable."""
        value = self._values[column]
        if value is None:
            return None
        if type(value) is str and "\0" not in value:
            return value
        if isinstance(value, int | float):
            return self._refuse(column, f"the number {value} instead of text")
        if isinstance(value, bytes):
            value = text_or_bytes(value)
            if isinstance(value, bytes) or _CONTROL.search(value):
                return self._refuse(column, "bytes that are not UTF-8 text")
        return self._refuse(column, "text with a null character") if "\0" in value else cast(str, value)

    def label(self, column: str) -> str | None:
        """A short text such as an id, a file name or a grade; a number is read as its digits."""
        value = self._values[column]
        if isinstance(value, int | float):
            return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
        return self.text(column)

    def display_text(self, column: str) -> str | None:
        """A text for display: unreadable characters are replaced, and the cell still counts as unreadable."""
        found = self.label(column)
        value = self._values[column]
        if found is not None or value is None:
            return found
        return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).replace("\0", "\ufffd")

    def score(self, column: str) -> float | str | None:
        """A number, also from text such as `8` or `8/10`; any other text is returned unchanged."""
        value = self._values[column]
        if value is None or type(value) is float or type(value) is int:
            return cast("float | None", value)
        text = self.text(column)
        number = parse_score(text) if text is not None else None
        return text if number is None else number

    def integer(self, column: str) -> int:
        """A whole number; 0 when there is none."""
        value = self._values[column]
        if value is None:
            return 0
        try:
            return int(value) if abs(float(value)) < 1e15 else 0
        except (TypeError, ValueError, OverflowError):
            self._refuse(column, "not a whole number")
            return 0

    def boolean(self, column: str) -> bool:
        """True or false, also from words such as "yes" and "off"."""
        value = self._values[column]
        return bool(value) and str(value).strip().lower() not in _FALSE

    def timestamp(self, column: str) -> str | None:
        """A time as `normalized_timestamp` spells it."""
        value = self._values[column]
        found = normalized_timestamp(value)
        return found if found is not None or value in (None, "") else self._refuse(column, "not a readable time")

    def json_object(self, column: str) -> dict[str, Any] | None:
        """A JSON object."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = parse_json_value(text)
        except ValueError as error:
            return self._refuse(column, f"invalid JSON ({error})")
        return value if isinstance(value, dict) else self._refuse(column, "JSON that is not an object")

    def _refuse(self, column: str, why: str) -> Any:
        self.unreadable[column] = why
        return None
