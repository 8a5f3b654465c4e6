"""Remove the place from a photograph's metadata without touching its pixels.

The GPS directory of EXIF, the GPS properties of XMP (Exif 2.32 section 4.6.6; XMP part 2, section 3.2) and the place of
a film behind a phone's picture are overwritten where they stand, so the file keeps its length, everything else keeps
its offset, and nothing is recompressed. Only a PNG's compressed XMP is written again. Names of places that a person
wrote (IPTC city, keywords) and notes of the maker are kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import PhotographRejection, embedded_metadata

EXIF, XMP, FILM = "EXIF", "XMP", "film"
_EXIF_HEADER = b"Exif\0\0"
_XMP_HEADERS = (b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0")
_TIFF_START = b"II*\0\x08\0\0\0"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_RAW_PROFILE = b"Raw profile type "
_MAX_XMP, _MAX_DIRECTORIES, _MAX_ENTRIES = 16_000_000, 64, 4096
_GPS, _XMP_TAG, _CHILDREN = 0x8825, 700, 330
_PIXELS = ((273, 279), (324, 325), (513, 514))  # offsets and lengths of strips, tiles and an embedded JPEG
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_NAME = rb"(?:[\w.-]{1,40}:[Gg][Pp][Ss]\w{0,60}|geo:(?:lat|long|alt)\w{0,20})"
_PROPERTY = re.compile(
    rb"\s" + _NAME + rb"\s{0,9}=\s{0,9}(?:\"[^\"<]{0,2000}\"|'[^'<]{0,2000}')"
    rb"|<(" + _NAME + rb")(?:\s[^<>]{0,500})?(?:/>|>.{0,4000}?</\1\s{0,9}>)",
    re.DOTALL,
)
_PLACE_IN_XMP = re.compile(rb"[Gg][Pp][Ss]\w{0,9}(?:[Ll]at|[Ll]on|[Pp]osition)|geo:(?:lat|long)")
_PLACE_OF_FILM = re.compile(rb"[+-]\d{1,2}\.\d{1,9}[+-]\d{1,3}\.\d{1,9}(?:[+-]\d{1,6}(?:\.\d{1,6})?)?/")
_FILM_MARKS = (b"\xa9xyz", b"location.ISO6709")


@dataclass(frozen=True)
class WithoutPlace:
    """The bytes of a photograph without a place, and where there was one: of `EXIF`, `XMP`, `FILM`."""

    data: bytes
    removed: tuple[str, ...] = ()


def without_place(data: bytes) -> WithoutPlace:
    """The photograph without GPS data; the same bytes when there is none.

    Raises:
        BadPhotograph: the file can't be opened, or has a place that can't be removed.
    """
    kind, exif, xmp, _ = embedded_metadata(data)
    cleaner = _Cleaner(bytearray(data))
    if kind == "PNG":
        cleaner.clean_png()
    elif kind == "WEBP":
        cleaner.clean_webp()
    elif kind == "TIFF":
        cleaner.clean_exif(0, len(data))
    elif kind == "HEIF":
        cleaner.clean_found(exif, xmp)
    else:
        cleaner.clean_jpeg()
    cleaner.clean_films()
    if not cleaner.removed:
        cleaned = data
    else:
        cleaned = bytes(cleaner.buffer)
    _, _, xmp, place = embedded_metadata(cleaned)
    if place or _PLACE_IN_XMP.search(xmp):
        raise BadPhotograph(
            "the file",
            PhotographRejection.UNREADABLE,
            "it has GPS data in an unusual place, which can't be removed without rewriting the file",
            "Remove it with `exiftool -gps:all= -xmp:geotag= FILE`, or import with --reference.",
        )
    return WithoutPlace(cleaned, tuple(sorted(set(cleaner.removed))))


class _Cleaner:
    """The bytes of one file, in which places are overwritten."""

    def __init__(self, buffer: bytearray) -> None:
        self.buffer, self.removed = buffer, list[str]()

    def clean_jpeg(self) -> None:
        """Every EXIF and XMP segment of a JPEG or MPO file, also those of further pictures behind the first."""
        for start in self._found(_EXIF_HEADER):
            if (end := self._segment_end(start)) is not None:
                self.clean_exif(start + len(_EXIF_HEADER), end)
        for header in _XMP_HEADERS:
            for start in self._found(header):
                if (end := self._segment_end(start)) is not None:
                    self.clean_xmp(start + len(header), end)

    def _segment_end(self, start: int) -> int | None:
        """The end of the APP1 segment whose content begins at `start`; None when there is no such segment."""
        if start < 4 or self.buffer[start - 4 : start - 2] != b"\xff\xe1":
            return None
        return min(len(self.buffer), start - 2 + int.from_bytes(self.buffer[start - 2 : start], "big"))

    def clean_webp(self) -> None:
        """The EXIF and XMP chunks of a WebP file."""
        at = 12
        while at + 8 <= len(self.buffer):
            name, length = struct.unpack_from("<4sI", self.buffer, at)
            start, end = at + 8, min(len(self.buffer), at + 8 + length)
            if name == b"EXIF":
                prefix = len(_EXIF_HEADER) if self.buffer[start : start + 6] == _EXIF_HEADER else 0
                self.clean_exif(start + prefix, end)
            elif name == b"XMP ":
                self.clean_xmp(start, end)
            at = at + 8 + length + (length & 1)

    def clean_png(self) -> None:
        """The eXIf and XMP chunks of a PNG file; profiles in hexadecimal, as ImageMagick writes them, are dropped."""
        made, at = bytearray(self.buffer[:8]), 8
        while at + 12 <= len(self.buffer):
            length, name = struct.unpack_from(">I4s", self.buffer, at)
            chunk = bytes(self.buffer[at + 8 : at + 8 + length])
            whole = bytes(self.buffer[at : at + 12 + length])
            cleaned = self._png_chunk(name, chunk)
            if cleaned is not None:
                made += whole if cleaned == chunk else _png_chunk(name, cleaned)
            at += 12 + length
        if self.removed:
            self.buffer = made + self.buffer[at:]

    def _png_chunk(self, name: bytes, chunk: bytes) -> bytes | None:
        """The content of a chunk without a place; None to drop the chunk."""
        part = _Cleaner(bytearray(chunk))
        if name == b"eXIf":
            part.clean_exif(0, len(chunk))
        elif name == b"iTXt" and chunk.startswith(_XMP_KEYWORD):
            return self._png_xmp(chunk)
        elif name in (b"tEXt", b"zTXt", b"iTXt") and chunk.startswith(_RAW_PROFILE):
            self.removed.append(EXIF)
            return None
        self.removed += part.removed
        return bytes(part.buffer)

    def _png_xmp(self, chunk: bytes) -> bytes:
        """XMP in an iTXt chunk, compressed or not (PNG specification, 11.3.3.4)."""
        at = len(_XMP_KEYWORD)
        compressed = chunk[at : at + 1] == b"\1"
        text_at = chunk.find(b"\0", chunk.find(b"\0", at + 2) + 1) + 1
        text = chunk[text_at:]
        if compressed:
            try:
                text = zlib.decompressobj().decompress(text, _MAX_XMP)
            except zlib.error:
                return chunk
        part = _Cleaner(bytearray(text))
        part.clean_xmp(0, len(text))
        self.removed += part.removed
        if not part.removed:
            return chunk
        return chunk[:text_at] + (zlib.compress(part.buffer) if compressed else bytes(part.buffer))

    def clean_found(self, exif: bytes, xmp: bytes) -> None:
        """Metadata that a decoder found, at its place in the file: HEIC stores it in one piece.

        Only the start of EXIF data is searched for, because the decoder changes the orientation in it.
        """
        tiff = exif.removeprefix(_EXIF_HEADER)
        if len(tiff) > len(_TIFF_START):
            for start in self._found(tiff[: len(_TIFF_START)]):
                self.clean_exif(start, min(len(self.buffer), start + len(tiff)))
        if len(xmp) > 8:
            for start in self._found(xmp):
                self.clean_xmp(start, start + len(xmp))

    def clean_films(self) -> None:
        """The place of a film behind the picture: digits become zeros."""
        for mark in _FILM_MARKS:
            for start in self._found(mark):
                found = _PLACE_OF_FILM.search(self.buffer, start, start + 400)
                if found is not None and re.search(rb"[1-9]", found[0]):
                    self.buffer[found.start() : found.end()] = re.sub(rb"\d", b"0", found[0])
                    self.removed.append(FILM)

    def clean_xmp(self, start: int, end: int) -> None:
        """Overwrite the GPS properties of an XMP packet with blanks."""
        packet = bytes(self.buffer[start:end])
        cleaned = _PROPERTY.sub(lambda found: b" " * len(found[0]), packet)
        if cleaned != packet:
            self.buffer[start:end] = cleaned
            self.removed.append(XMP)

    def clean_exif(self, start: int, end: int) -> None:
        """Overwrite the GPS directory of a TIFF structure with zeros and delete the entry that names it."""
        tiff = _TiffBlock(self.buffer, start, end)
        try:
            places = tiff.remove_places()
            packets = list(tiff.xmp_packets())
        except (struct.error, IndexError, OverflowError, ValueError):
            return  # damaged: what a decoder still finds in it is checked afterwards
        self.removed += [EXIF] * places
        for packet_start, packet_end in packets:
            self.clean_xmp(packet_start, packet_end)

    def _found(self, wanted: bytes) -> Iterator[int]:
        at = self.buffer.find(wanted)
        while at >= 0:
            yield at
            at = self.buffer.find(wanted, at + 1)


@dataclass(frozen=True)
class _Entry:
    """An entry of a directory: offset of the entry and of its value in the file, type, and number of values."""

    at: int
    value_at: int
    kind: int
    count: int


class _TiffBlock:
    """A TIFF structure (also BigTIFF) within a buffer, from `start` to `end`; offsets in it count from `start`."""

    def __init__(self, buffer: bytearray, start: int, end: int) -> None:
        self._buffer, self._start, self._end = buffer, start, end
        self._order = {b"II": "<", b"MM": ">"}.get(bytes(buffer[start : start + 2]), "")
        self._big = bool(self._order) and self._number("H", start + 2) == 43

    def remove_places(self) -> int:
        """Delete the GPS directories; how many there were."""
        directories = list(self._directories())
        kept = [(self._start, self._start + 16 if self._big else self._start + 8)]
        for at, entries in directories:
            kept.append((at, at + self._head + len(entries) * self._entry_size + self._pointer_size))
            kept += self._pixel_ranges(entries)
        places = 0
        for at, entries in directories:
            if _GPS in entries:
                self._zero_directory(self._start + self._values(entries[_GPS])[0], kept)
                self._delete_entry(at, entries[_GPS].at)
                places += 1
        return places

    def xmp_packets(self) -> Iterator[tuple[int, int]]:
        """Where the XMP packets of the directories are."""
        for _, entries in self._directories():
            if (entry := entries.get(_XMP_TAG)) is not None:
                yield entry.value_at, min(self._end, entry.value_at + entry.count)

    @property
    def _head(self) -> int:
        return 8 if self._big else 2

    @property
    def _entry_size(self) -> int:
        return 20 if self._big else 12

    @property
    def _pointer_size(self) -> int:
        return 8 if self._big else 4

    def _number(self, kind: str, at: int) -> int:
        if not self._start <= at <= self._end - struct.calcsize(f"<{kind}"):
            raise ValueError("an offset out of the block")
        return int(struct.unpack_from(f"{self._order}{kind}", self._buffer, at)[0])

    def _directories(self) -> Iterator[tuple[int, dict[int, _Entry]]]:
        """Offset and entries of each directory: the chain, and the children of TIFF files."""
        if not self._order:
            return
        pointer = "Q" if self._big else "I"
        waiting = [self._number(pointer, self._start + (8 if self._big else 4))]
        seen: set[int] = set()
        while waiting and len(seen) < _MAX_DIRECTORIES:
            offset = waiting.pop(0)
            if offset == 0 or offset in seen:
                continue
            seen.add(offset)
            at = self._start + offset
            entries, after = self._directory(at)
            yield at, entries
            children = self._values(entries[_CHILDREN]) if _CHILDREN in entries else []
            waiting += [self._number(pointer, after), *children]

    def _directory(self, at: int) -> tuple[dict[int, _Entry], int]:
        """The entries of a directory by tag, and the offset after them."""
        count = self._number("Q" if self._big else "H", at)
        if count > _MAX_ENTRIES:
            raise ValueError("too many entries")
        entries = {}
        for number in range(count):
            place = at + self._head + number * self._entry_size
            kind, values = self._number("H", place + 2), self._number("Q" if self._big else "I", place + 4)
            value_at = place + self._entry_size - self._pointer_size
            if values * _TYPE_SIZES.get(kind, 1) > self._pointer_size:
                value_at = self._start + self._number("Q" if self._big else "I", value_at)
            entries[self._number("H", place)] = _Entry(place, value_at, kind, values)
        return entries, at + self._head + count * self._entry_size

    def _values(self, entry: _Entry) -> list[int]:
        """The whole numbers of an entry, at most a million."""
        form = _NUMBERS.get(entry.kind)
        if form is None:
            return []
        size = struct.calcsize(f"<{form}")
        return [self._number(form, entry.value_at + size * each) for each in range(min(entry.count, 1_000_000))]

    def _pixel_ranges(self, entries: dict[int, _Entry]) -> list[tuple[int, int]]:
        ranges = []
        for offsets, lengths in _PIXELS:
            if offsets in entries and lengths in entries:
                pairs = zip(self._values(entries[offsets]), self._values(entries[lengths]), strict=False)
                ranges += [(self._start + offset, self._start + offset + length) for offset, length in pairs]
        return ranges

    def _zero_directory(self, at: int, kept: list[tuple[int, int]]) -> None:
        """Overwrite a directory and its values with zeros, except where that is part of something else (`kept`)."""
        try:
            entries, after = self._directory(at)
        except ValueError:
            return  # the entry names nothing
        for entry in entries.values():
            size = entry.count * _TYPE_SIZES.get(entry.kind, 1)
            if size > self._pointer_size:
                self._zero(entry.value_at, entry.value_at + size, kept)
        self._zero(at, after + self._pointer_size, kept)

    def _zero(self, begin: int, end: int, kept: list[tuple[int, int]]) -> None:
        begin, end = max(begin, self._start), min(end, self._end)
        cuts = sorted({begin, end, *(cut for pair in kept for cut in pair if begin < cut < end)})
        for low, high in pairwise(cuts):
            if not any(one <= low and high <= other for one, other in kept):
                self._buffer[low:high] = bytes(high - low)

    def _delete_entry(self, at: int, entry_at: int) -> None:
        """Move what follows an entry over it, and count one entry less."""
        form = "Q" if self._big else "H"
        count = self._number(form, at)
        after = at + self._head + count * self._entry_size + self._pointer_size
        rest = self._buffer[entry_at + self._entry_size : after]
        self._buffer[entry_at:after] = rest + bytes(self._entry_size)
        struct.pack_into(f"{self._order}{form}", self._buffer, at, count - 1)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
