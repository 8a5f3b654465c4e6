"""Image file structure, without decoding: whether a JPEG or PNG file is complete, and whether a file is a raw format.

Every function takes the whole file as `bytes` or as an `mmap`, and never raises on damaged or hostile input.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from mmap import mmap

FileData = bytes | mmap

# Signatures of raw formats that are not TIFF files.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (4, b"ftypcrx ", "Canon CR3"),
    (0, b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (8, b"CR\x02", "Canon CR2"),
    (8, b"IIII", "Phase One IIQ"),
    (8, b"MMMM", "Phase One IIQ"),
    (0, b"ARRI", "ARRI"),
    (0, b"NOKIARAW", "Nokia"),
)
_MAKERS = {
    b"NIKON": "Nikon NEF",
    b"SONY": "Sony ARW",
    b"PENTAX": "Pentax PEF",
    b"RICOH": "Pentax PEF",
    b"SAMSUNG": "Samsung SRW",
    b"HASSELBLAD": "Hasselblad 3FR",
    b"KODAK": "Kodak DCR",
    b"EASTMAN": "Kodak DCR",
    b"EPSON": "Epson ERF",
    b"MAMIYA": "Mamiya MEF",
    b"LEAF": "Leaf MOS",
    b"OLYMPUS": "Olympus ORF",
    b"PANASONIC": "Panasonic RAW",
    b"LEICA": "Leica RAW",
    b"CANON": "Canon",
}

_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _MAKE, _CHILDREN, _DNG_VERSION = (
    254,
    256,
    257,
    259,
    262,
    271,
    330,
    50706,
)
_WANTED = {_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _MAKE, _CHILDREN, _DNG_VERSION}
_SENSOR_PHOTOMETRICS = {32803, 34892}  # colour filter array, linear raw
# Kodak, Sony ARW, packed raw, Samsung SRW, Nikon NEF, Kodak DCR, Pentax PEF
_RAW_COMPRESSIONS = {262, 32767, 32769, 32770, 34713, 65000, 65535}
_VALUES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}  # TIFF type -> struct
_MOST_DIRECTORIES, _MOST_ENTRIES, _MOST_VALUES = 64, 2000, 64

# A marker inside entropy-coded data: not a stuffed zero, a restart or a fill byte (ITU T.81, B.1.1).
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])", re.DOTALL)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_ALONE = {0x01, *range(0xD0, 0xD8)}
_BETWEEN_SCANS = {0xC4, _SOS, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}


def jpeg_is_complete(data: FileData) -> bool:
    """True when the first picture of a JPEG file reaches its end marker; bytes after that don't matter.

    Phones and cameras append films, more pictures and notes, which don't belong to the picture. The end marker of a
    thumbnail inside a segment doesn't count.
    """
    at, scanned = 2, False
    ends = data[-2:] == b"\xff\xd9"  # the file ends with the marker: no need to search the data for it
    while (found := _next_marker(data, at, scanned)) is not None:
        marker, at = found
        if marker == _EOI:
            return scanned
        if marker == _SOI or (scanned and marker not in _BETWEEN_SCANS) or at + 2 > len(data):
            return False
        at += int.from_bytes(data[at : at + 2], "big")
        # After the first scan only a marker or the data of another scan may follow a segment.
        if scanned and marker != _SOS and data[at : at + 1] != b"\xff":
            return False
        scanned = scanned or marker == _SOS
        if scanned and ends:
            return True
    return False


def _next_marker(data: FileData, at: int, scanned: bool) -> tuple[int, int] | None:
    """The next marker of a JPEG file from an offset, and the offset after it; None when the file ends before one.

    After the first scan (`scanned`) the marker is searched in entropy-coded data.
    """
    if scanned:
        found = _MARKER.search(data, at)
        return None if found is None else (found[1][0], found.end())
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        at += 1 if marker == 0xFF else 2
        if marker not in (0x00, 0xFF, *_ALONE):
            return marker, at
    return None


def png_is_complete(data: FileData) -> bool:
    """True when the chunks of a PNG file reach IEND; bytes after that don't matter."""
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        at += 12 + length
        if name == b"IEND":
            return at <= len(data)
    return False


def raw_kind(data: FileData) -> str | None:
    """The raw format ("Canon CR3", "DNG") by content, never by name; None for other files.

    A TIFF file is raw when one of its directories holds sensor data, and also when the first directory is a preview of
    a larger picture: a decoder would open that preview.
    """
    for offset, signature, kind in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return kind
    directories = list(_directories(data))
    if not directories:
        return None
    if any(_DNG_VERSION in each for each in directories):
        return "DNG"
    first, *others = directories
    sensor = any(
        _first(each, _PHOTOMETRIC) in _SENSOR_PHOTOMETRICS or _first(each, _COMPRESSION) in _RAW_COMPRESSIONS
        for each in directories
    )
    larger = any(_pixels(each) > _pixels(first) and not _first(each, _SUBFILE) & 1 for each in others)
    if sensor or (larger and (_first(first, _SUBFILE) & 1 or _CHILDREN in first)):
        return _maker(first) or "a preview of a larger picture"
    return None


def _first(directory: Mapping[int, tuple[int, ...]], tag: int) -> int:
    return directory.get(tag, (0,))[0]


def _pixels(directory: Mapping[int, tuple[int, ...]]) -> int:
    return _first(directory, _WIDTH) * _first(directory, _HEIGHT)


def _maker(directory: Mapping[int, tuple[int, ...]]) -> str | None:
    name = bytes(value for value in directory.get(_MAKE, ()) if value < 256).upper()
    return next((kind for maker, kind in _MAKERS.items() if name.startswith(maker)), None)


def _directories(data: FileData) -> Iterator[dict[int, tuple[int, ...]]]:
    """The directories of a TIFF or BigTIFF file with the wanted tags: the chain and its sub-directories."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    magic = struct.unpack(f"{order}H", data[2:4])[0]
    if magic not in (42, 43):
        return
    big = magic == 43
    start = struct.unpack(f"{order}Q", data[8:16])[0] if big else struct.unpack(f"{order}I", data[4:8])[0]
    waiting: list[int] = [start]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        offset = waiting.pop(0)
        if offset == 0 or offset in seen:
            continue
        seen.add(offset)
        try:
            directory, following = _directory(data, offset, order, big)
        except (struct.error, IndexError, OverflowError, ValueError):
            continue
        waiting += [following, *directory.get(_CHILDREN, ())]
        yield directory


def _directory(data: FileData, offset: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """A directory's wanted tags and the offset of the next directory."""
    counter, entry, pointer = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    width, size = struct.calcsize(f"<{pointer}"), struct.calcsize(f"<{entry}")
    head = struct.calcsize(f"<{counter}")
    count = struct.unpack(f"{order}{counter}", data[offset : offset + head])[0]
    found: dict[int, tuple[int, ...]] = {}
    for number in range(min(count, _MOST_ENTRIES)):
        at = offset + head + number * (size + width)
        tag, kind, length = struct.unpack(f"{order}{entry}", data[at : at + size])
        if tag not in _WANTED or kind not in _VALUES or length < 1:
            continue
        form = f"{order}{min(length, _MOST_VALUES)}{_VALUES[kind]}"
        place = at + size
        if length * struct.calcsize(f"<{_VALUES[kind]}") > width:
            place = struct.unpack(f"{order}{pointer}", data[place : place + width])[0]
        found[tag] = struct.unpack(form, data[place : place + struct.calcsize(form)])
    end = offset + head + count * (size + width)
    return found, struct.unpack(f"{order}{pointer}", data[end : end + width])[0]
