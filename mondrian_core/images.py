"""Opening and resizing photographs, JPEG encoding.

This is the only module that turns untrusted bytes into pixels.

A photograph is recognized by its content, never by its name. Only formats that a camera or an editor writes are
accepted, size and shape are checked before anything is decoded, and the result is upright 8-bit sRGB without metadata
(no GPS), no larger than the program needs. A process decodes one photograph at a time, so that at most one picture of
full size is in memory.
"""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import os
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from mondrian_core.errors import BadPhotograph
from mondrian_core.image_formats import FileData, jpeg_is_complete, png_is_complete, raw_kind
from mondrian_core.settings import current_settings
from mondrian_core.srgb_pixels import in_srgb

if TYPE_CHECKING:
    pass

PHOTOGRAPH_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".mpo"})
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")  # a phone's MPO is opened as JPEG
MAX_BYTES = 250_000_000
MAX_SIDE = 30_000
MAX_ASPECT = 200  # long side / short side; the image processors of Qwen's vision models reject more
LONG_SIDE = 1024
DECODED_SIDE = 2 * LONG_SIDE  # larger pictures are decoded reduced, to at least this long side and less than twice that
_ORIENTATION, _SIDEWAYS, _CAMERA_DIRECTORY = 0x0112, (5, 6, 7, 8), 0x8769
_PLACE_DIRECTORY = 0x8825
_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ONE_AT_A_TIME = threading.RLock()
_EXPORT = "Export it from your raw converter as JPEG or TIFF and use that."


class PhotographRejection(StrEnum):
    """Why a file is not a usable photograph; the list is closed."""

    MISSING = "missing"
    EMPTY = "empty"
    NOT_A_PHOTOGRAPH = "not_a_photograph"
    RAW = "raw"
    TOO_NARROW = "too_narrow"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class PhotographHeader:
    """Facts from the headers: upright width and height in pixels, format name, size in bytes."""

    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class OpenedPhotograph:
    """An opened photograph.

    Attributes:
        image: upright 8-bit RGB (sRGB); reduced where the file has at least twice the side that was asked for.
        sha256: of the file's bytes.
        width: of the file, upright, in pixels.
        height: of the file, upright, in pixels.
        format: of the file: a name of `FORMATS`, "MPO" or "HEIF".
    """

    image: Image.Image
    sha256: str
    width: int
    height: int
    format: str


def open_photograph(
    source: Path | bytes, max_pixels: int | None = None, decoded_side: int = DECODED_SIDE
) -> OpenedPhotograph:
    """Open a photograph from a file or from bytes and make it upright 8-bit sRGB.

    Transparent pixels become white; pages and frames after the first are ignored. A large photograph is decoded reduced
    by a whole factor, with a long side of at least `decoded_side`.

    Args:
        source: the file, or its bytes.
        max_pixels: limit on width x height; None for the setting MONDRIAN_MAX_MEGAPIXELS.
        decoded_side: pixels; the smaller, the faster a large photograph is decoded.

    Raises:
        BadPhotograph: with a `reason` from `PhotographRejection`.
    """
    data = photograph_bytes(source)
    name = source if isinstance(source, Path) else "the upload"
    with _decoder_errors_as_rejections(name), _open(name, io.BytesIO(data), data, max_pixels) as image:
        whole = image.size
        _draft(image, decoded_side)
        image.load()  # before the orientation is asked for: Pillow decodes a PNG for that and the error would be lost
        size, kind = _upright_size(image, whole), image.format or ""
        flat = in_srgb(_upright(image), decoded_side)
    clean = Image.frombytes("RGB", flat.size, flat.tobytes())  # a copy without metadata or file handle
    return OpenedPhotograph(
        image=clean, sha256=hashlib.sha256(data).hexdigest(), width=size[0], height=size[1], format=kind
    )


def read_photograph_header(path: Path, max_pixels: int | None = None) -> PhotographHeader:
    """Read the headers only, and check that the file is complete.

    Raises:
        BadPhotograph: with a `reason` from `PhotographRejection`. A file that passes can still fail to decode.
    """
    size = _size_of(path)
    with (
        _decoder_errors_as_rejections(path),
        _mapped(path) as data,
        path.open("rb") as stream,
        _open(path, stream, data, max_pixels) as image,
    ):
        return PhotographHeader(*_upright_size(image, image.size), image.format or "", size)


def read_camera_tags(source: Path | bytes) -> Mapping[int, Any]:
    """The tags of the camera in a photograph's EXIF data by number, for any format; empty when there are none.

    The main and the EXIF directory together, whose numbers differ. The directory with the place is never read.

    Raises:
        BadPhotograph: when it can't be opened.
    """
    with _opened_for_metadata(source) as image:
        tags = image.getexif()
        return {**tags, **tags.get_ifd(_CAMERA_DIRECTORY)}


def embedded_metadata(source: bytes) -> tuple[str, bytes, bytes, bool]:
    """Format name, EXIF data and XMP packet as the decoder finds them (b"" without), and whether EXIF names a place.

    Raises:
        BadPhotograph: when it can't be opened.
    """
    with _opened_for_metadata(source) as image:
        exif, xmp = (_as_bytes(image.info.get(name)) for name in ("exif", "xmp"))
        return image.format or "", exif, xmp, bool(image.getexif().get_ifd(_PLACE_DIRECTORY))


def _as_bytes(value: Any) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value if isinstance(value, bytes) else b""


@contextmanager
def _opened_for_metadata(source: Path | bytes) -> Iterator[Image.Image]:
    if isinstance(source, Path):
        _size_of(source)
    name = source if isinstance(source, Path) else "the upload"
    stream = source if isinstance(source, Path) else io.BytesIO(source)
    with _decoder_errors_as_rejections(name), Image.open(stream, formats=[*FORMATS, *_heif()]) as image:
        _refuse_shape(name, image.size, None)  # Pillow decodes a whole PNG to find its EXIF data
        yield image


def is_too_narrow(size: tuple[int, int]) -> bool:
    """True when the aspect ratio exceeds `MAX_ASPECT`, at the given size (pixels) or downscaled to `LONG_SIDE`."""
    sides = [size, _bounded_size(size, LONG_SIDE)]
    return any(max(each) > MAX_ASPECT * min(each) for each in sides)


def inscribed_share(size: tuple[int, int], degrees: float) -> float:
    """Share (0-1) of both sides that remains when a rotated picture is cropped to its shape without empty corners."""
    width, height = size
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    return min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))


def downscale_to_fit(image: Image.Image, long_side: int = LONG_SIDE) -> Image.Image:
    """The photograph with its long side at most `long_side` pixels, resampled once; never enlarged."""
    size = _bounded_size(image.size, long_side)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=None)


def _bounded_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    factor = long_side / max(size)
    return size if factor >= 1 else (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))


def jpeg_bytes(image: Image.Image, quality: int = 95) -> bytes:
    """Encode as JPEG without color subsampling and metadata; `quality` 1-95."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def photograph_bytes(source: Path | bytes) -> bytes:
    """The bytes of a photograph's file, whose size is checked before it is read.

    Raises:
        BadPhotograph: it is missing, empty, larger than `MAX_BYTES`, or can't be read.
    """
    if isinstance(source, bytes):
        _refuse_size("the upload", len(source))
        return source
    _size_of(source)
    try:
        return source.read_bytes()
    except OSError as error:
        raise BadPhotograph(source, PhotographRejection.UNREADABLE, error.strerror or "it can't be read") from error


def _size_of(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise BadPhotograph(path, PhotographRejection.MISSING, "there is no such file") from error
    if not path.is_file():
        raise BadPhotograph(path, PhotographRejection.NOT_A_PHOTOGRAPH, "it is not a file")
    _refuse_size(path, status.st_size)
    if not os.access(path, os.R_OK):
        raise BadPhotograph(path, PhotographRejection.UNREADABLE, "its permissions forbid reading")
    return status.st_size


def _refuse_size(name: Path | str, size: int) -> None:
    if size == 0:
        raise BadPhotograph(name, PhotographRejection.EMPTY, "the file is empty")
    if size > MAX_BYTES:
        raise BadPhotograph(name, PhotographRejection.TOO_LARGE, f"{size:,} bytes are more than {MAX_BYTES:,}")


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


@contextmanager
def _open(name: Path | str, stream: IO[bytes], data: FileData, max_pixels: int | None) -> Iterator[Image.Image]:
    """The picture with its headers read, after every check that is possible before decoding."""
    if kind := raw_kind(data):
        raise BadPhotograph(
            name, PhotographRejection.RAW, f"it is a raw file ({kind}), which must be developed first", _EXPORT
        )
    # Pillow has limits of its own; ours apply first, so that an oversized file is rejected before any decoding.
    with Image.open(stream, formats=[*FORMATS, *_heif()]) as image:
        _refuse_shape(name, image.size, max_pixels)
        _refuse_truncated(name, image.format or "", data)
        yield image


def _refuse_shape(name: Path | str, size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    most = current_settings().max_pixels if max_pixels is None else max_pixels
    if max(size) > MAX_SIDE:
        raise BadPhotograph(
            name, PhotographRejection.TOO_LARGE, f"{width} x {height} pixels; a side may have {MAX_SIDE:,}"
        )
    if width * height > most:
        detail = f"{width} x {height} pixels are more than {most:,}"
        more = f"Set MONDRIAN_MAX_MEGAPIXELS={-(-width * height // 1_000_000)} to allow it, or use a smaller copy."
        raise BadPhotograph(name, PhotographRejection.TOO_LARGE, detail, more)
    if is_too_narrow(size):
        detail = f"{width} x {height} pixels: one side is more than about {MAX_ASPECT} times the other"
        raise BadPhotograph(name, PhotographRejection.TOO_NARROW, detail, "Crop it to a less narrow part.")


def _draft(image: Image.Image, decoded_side: int) -> None:
    """Let a JPEG decoder produce a reduced picture directly; other decoders can't."""
    image.draft(None, _bounded_size(image.size, decoded_side))


@cache
def _heif() -> tuple[str, ...]:
    """The HEIC format of iPhones, where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    pillow_heif.register_heif_opener(thumbnails=False)
    return ("HEIF",)


@contextmanager
def _decoder_errors_as_rejections(name: Path | str) -> Iterator[None]:
    """Translate any error of a decoder on hostile or damaged bytes into `BadPhotograph` with a reason."""
    try:
        # Pillow warns about odd metadata, which doesn't matter here. Warning filters belong to the process, hence the
        # lock; it also keeps several pictures of full size from being in memory at once.
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadPhotograph:
        raise
    except UnidentifiedImageError as error:
        detail = _describe_file_type(name) if isinstance(name, Path) else "not in a format that a camera writes"
        raise BadPhotograph(name, PhotographRejection.NOT_A_PHOTOGRAPH, detail) from error
    except Image.DecompressionBombError as error:
        raise BadPhotograph(name, PhotographRejection.TOO_LARGE, "it claims too many pixels") from error
    except MemoryError as error:
        raise BadPhotograph(name, PhotographRejection.TOO_LARGE, "there is not enough memory for it") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        ArithmeticError,
        RuntimeError,
        AssertionError,
        AttributeError,
        struct.error,
    ) as error:
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        reason = PhotographRejection.TRUNCATED if truncated else PhotographRejection.UNREADABLE
        raise BadPhotograph(name, reason, f"it is damaged ({error})") from error


def _describe_file_type(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is an HTML page, probably an error page saved as a picture"
    if b"ftypheic" in start or b"ftypheix" in start or b"ftypmif1" in start:
        return "it is HEIC, and pillow-heif is not installed"
    return "its content is not in a format that a camera writes"


def _refuse_truncated(name: Path | str, kind: str, data: FileData) -> None:
    """Reject truncated files of formats with an end marker; bytes after the end don't matter."""
    complete = {"JPEG": jpeg_is_complete, "MPO": jpeg_is_complete, "PNG": png_is_complete}.get(kind)
    if complete is not None and not complete(data):
        raise BadPhotograph(name, PhotographRejection.TRUNCATED, f"the file is truncated after {len(data):,} bytes")


def _orientation(image: Image.Image) -> int:
    """1-8 as in EXIF; 1 (upright) when the metadata is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, struct.error):
        return 1
    return value if value in _TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS[_orientation(image)]
    return image if turn is None else image.transpose(turn)


def _upright_size(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    turned = image.format != "TIFF" and _orientation(image) in _SIDEWAYS  # Pillow rotates TIFF files itself
    return (height, width) if turned else (width, height)
