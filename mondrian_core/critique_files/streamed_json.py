"""JSON values one at a time: the items of an array, or values that follow one another, at the memory of one value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from mondrian_core.errors import BadInput
from mondrian_core.store.cells import parse_json_value

CHUNK_CHARACTERS = 1 << 16
MAX_VALUE_CHARACTERS = 4_000_000  # one value; a critique has a few thousand
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class StreamedValue:
    """One value: its number from 1, and the value, or why it can't be used."""

    number: int
    value: Any = None
    problem: str = ""


def is_json_array(stream: TextIO) -> bool:
    """True when the first character that is not blank is `[`; the stream is left where it was."""
    place = stream.tell()
    start = stream.read(CHUNK_CHARACTERS).lstrip()
    stream.seek(place)
    return start.startswith("[")


def array_items(stream: TextIO, name: str) -> Iterator[StreamedValue]:
    """The items of the array that is all of a file.

    Raises:
        BadInput: the file is not a JSON array; the message names the item where it stops being one.
    """
    buffer = _Buffer(stream, name)
    buffer.expect("[", 0)
    number = 0
    if buffer.next_character() == "]":
        buffer.expect("]", number)
    else:
        while True:
            number += 1
            yield _checked(number, buffer.value(number))
            if buffer.next_character() != ",":
                buffer.expect("]", number)
                break
            buffer.expect(",", number)
    if buffer.next_character():
        raise _invalid(name, number, "text follows the end of the array")


def json_lines(stream: TextIO) -> Iterator[StreamedValue]:
    """The value of each line that is not blank; a damaged line is a problem of its own."""
    number = 0
    while line := stream.readline(MAX_VALUE_CHARACTERS):
        number += 1
        if not line.endswith("\n") and len(line) >= MAX_VALUE_CHARACTERS:
            yield StreamedValue(number, problem=f"the line is longer than {MAX_VALUE_CHARACTERS:,} characters")
            while line and not line.endswith("\n"):
                line = stream.readline(MAX_VALUE_CHARACTERS)
        elif line.strip():
            yield _parsed(number, line)


def _parsed(number: int, text: str) -> StreamedValue:
    try:
        return StreamedValue(number, parse_json_value(text))
    except ValueError as error:
        return StreamedValue(number, problem=f"it is not valid JSON ({error})")


def _checked(number: int, text: str) -> StreamedValue:
    """The item again by the stricter parser: no NaN, no huge integers, no lone surrogates."""
    return _parsed(number, text)


class _Buffer:
    """A window of the text that grows until it holds one whole value."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._text, self._place, self._ended = "", 0, False

    def next_character(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._place)
            self._place = found.end() if found else self._place
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def expect(self, character: str, number: int) -> None:
        """Move past a character."""
        if self.next_character() != character:
            raise _invalid(self._name, number, f"expected `{character}`")
        self._place += 1

    def value(self, number: int) -> str:
        """The text of the next value."""
        self.next_character()
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._place)
            except RecursionError:
                raise _invalid(self._name, number, "it is nested too deeply") from None
            except ValueError as error:
                size = len(self._text) - self._place
                if size > MAX_VALUE_CHARACTERS or not self._more(max(size, CHUNK_CHARACTERS)):
                    raise _invalid(self._name, number, str(error)) from None
                continue
            if end == len(self._text) and self._more():  # a number may continue
                continue
            text, self._place = self._text[self._place : end], end
            return text

    def _more(self, count: int = CHUNK_CHARACTERS) -> bool:
        if self._ended:
            return False
        read = self._stream.read(count)
        self._ended = not read
        self._text, self._place = self._text[self._place :] + read, 0
        return bool(read)


def _invalid(name: str, number: int, why: str) -> BadInput:
    return BadInput(f"{name} is not valid JSON in entry {number} ({why}).", "Fix that entry, or export the file again.")
