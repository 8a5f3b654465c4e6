"""Decoding text files of unknown encoding: UTF-8, UTF-16, or Windows-1252 when nothing else is possible.

A wrong guess would teach wrong letters, so bytes that could equally be another encoding are refused.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

DECODED_UTF_16, DECODED_WINDOWS_1252 = "decoded_utf_16", "decoded_windows_1252"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", None),
    (codecs.BOM_UTF16_LE, "utf-16", DECODED_UTF_16),
    (codecs.BOM_UTF16_BE, "utf-16", DECODED_UTF_16),
)
_BLOCK = 1 << 20
_SAMPLE = 1 << 20
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
# Western letters and signs in Windows-1252. Left out: S, Z and Y with carons or dots, which are the bytes of umlauts
# and accents in Mac Roman, and the signs that stand where other code pages have letters.
_WESTERN = re.compile(
    r"[\x00-\x7f\u20ac\u201a\u201e\u2026\u02c6\u2039\u0152\u2018\u2019\u201c\u201d\u2022\u2013\u2014"
    r"\u2122\u203a\u0153\xa0-\xff]*",
    re.DOTALL,
)
_LETTER_RUN = re.compile(r"[\xc0-\xff]{3}")  # Cyrillic, Greek and East Asian text is runs of such bytes
# Signs where a word has letters: other code pages have letters there.
_SIGN_IN_WORD = re.compile(
    r"(?<=\w)[\xa1-\xaf\xb1-\xbf\xd7\xf7\u2122](?=\w)|(?<=\w)[\u201a\u201e\u02c6\u201c]|\u201d(?=\w)|"
    r"(?<!\S)[\xa2\xa4\xa6\xa8\xac\xaf\xb1-\xb4\xb6-\xb9\xbe]+(?=\w)"
)


class UnknownEncodingError(ValueError):
    """Bytes that are neither UTF-8 nor UTF-16 and not clearly Windows-1252."""


def decode_text(data: bytes) -> tuple[str, str | None]:
    """The text, and the repair it took (None for UTF-8).

    Raises:
        UnknownEncodingError: the encoding can't be determined.
    """
    for mark, encoding, repair in _MARKS:
        if data.startswith(mark):
            return _decode_without_controls(data, encoding), repair
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if text and not _CONTROL.search(text):
        return text, None
    if name := _utf_16_without_mark(data):
        return _decode_without_controls(data, name), DECODED_UTF_16
    if text or not data:
        return text, None  # it is valid UTF-8; the parser of the critique judges the content
    return _windows_1252(data), DECODED_WINDOWS_1252


def file_encoding(path: Path) -> str:
    """The encoding of a text file, read once in blocks: "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be" or "cp1252".

    Raises:
        UnknownEncodingError: the encoding can't be determined, or the file is not in the encoding that it starts with.
    """
    with path.open("rb") as stream:
        start = stream.read(_BLOCK)
        marked = next((encoding for mark, encoding, _ in _MARKS if start.startswith(mark)), None)
        encoding = marked or _utf_16_without_mark(start[: len(start) // 2 * 2]) or "utf-8-sig"
        stream.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
            return encoding
        except UnicodeDecodeError as error:
            if encoding != "utf-8-sig" or marked:
                raise UnknownEncodingError(f"it starts like {encoding} but is not valid {encoding}") from error
        stream.seek(0)
        _windows_1252(b"".join(_lines_beyond_ascii(stream)))
        return "cp1252"


def _lines_beyond_ascii(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines that decide which encoding it is, up to `_SAMPLE` bytes."""
    size = 0
    while size < _SAMPLE and (line := stream.readline(_BLOCK)):
        if not line.isascii():
            size += len(line)
            yield line


def _decode_without_controls(data: bytes, name: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise UnknownEncodingError(f"it starts like {name} but is not valid {name}") from error


def _utf_16_without_mark(data: bytes) -> str | None:
    """JSON's first characters are ASCII, so one byte of each pair is zero."""
    start = data[:40]
    if len(data) % 2 or len(start) < 4:
        return None
    if not any(start[0::2]) and all(start[1::2]):
        return "utf-16-be"
    if not any(start[1::2]) and all(start[0::2]):
        return "utf-16-le"
    return None


def _windows_1252(data: bytes) -> str:
    if _is_damaged_utf_8(data):
        raise UnknownEncodingError("it is UTF-8 with damaged bytes in it")
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = "\x00"
    doubtful = not _WESTERN.fullmatch(text) or _LETTER_RUN.search(text) or _SIGN_IN_WORD.search(text)
    if doubtful or _CONTROL.search(text):
        raise UnknownEncodingError("its encoding can't be determined; save it as UTF-8")
    return text


def _is_damaged_utf_8(data: bytes) -> bool:
    """True when there are at least half as many multi-byte UTF-8 characters as bytes that don't fit UTF-8."""
    read = data.decode("utf-8", "surrogateescape")
    misfits = sum("\udc80" <= character <= "\udcff" for character in read)
    return 2 * sum(not character.isascii() for character in read) - 2 * misfits >= misfits
