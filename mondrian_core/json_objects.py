"""JSON objects within any text: where they begin and end, and whether a fence marks them."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

_BRACE = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}]', re.DOTALL)


# A JSON string has no raw line break, so a match is never inside an object.
_FENCE = re.compile(r"```(?:json)?[ \t]*\r?\n\s*(?=\{)", re.IGNORECASE)


def object_end(text: str, start: int = 0, limit: int | None = None) -> int | None:
    """Index after the brace that closes the object at `text[start]`; None when there is none before `limit`."""
    depth = 0
    for token in _BRACE.finditer(text, start, len(text) if limit is None else limit):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return token.end()
    return None


@dataclass(frozen=True)
class JsonObject:
    """Text from a brace to its closing brace, or to the end of the text."""

    text: str
    closed: bool
    fenced: bool


def find_json_objects(text: str) -> list[JsonObject]:
    """The outermost objects of a text, in order; the last one may be unclosed. Takes linear time."""
    fenced = [found.end() for found in _FENCE.finditer(text)]
    objects: list[JsonObject] = []
    position = 0
    while (start := text.find("{", position)) >= 0:
        index = bisect_right(fenced, start)
        following = fenced[index] if index < len(fenced) else None
        end = object_end(text, start, following)
        if end is None and following is not None:
            position = following  # a brace in prose: an object never contains a fence
            continue
        position = len(text) if end is None else end
        objects.append(JsonObject(text[start:position], end is not None, index > 0 and fenced[index - 1] == start))
    return objects
