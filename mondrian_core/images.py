"""Opening photographs: the one place where bytes from outside become pixels.

A photograph is told by its content, never by its name. Only formats a camera or an editor writes are let through,
size and shape are checked before anything is decoded, and what comes back is upright 8-bit sRGB without metadata (no
GPS), no larger than anything here looks at. One photograph is decoded at a time in a process, so that no more than one
picture of full size is in memory.
"""

from __future__ import annotations

import hashlib
import io
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

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from mondrian_core.errors import BadPhotograph
from mondrian_core.image_formats import FileData, jpeg_is_complete, png_is_complete, raw_kind
from mondrian_core.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHOTOGRAPH_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".mpo"})
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")  # a phone's MPO comes through JPEG
MAX_BYTES = 250_000_000
MAX_SIDE = 30_000
MAX_ASPECT = 200  # long side by short side; the image processors of Qwen's vision models refuse more
LONG_SIDE = 1024
DECODED_SIDE = 2 * LONG_SIDE  # larger pictures are decoded reduced, to no less than this and less than its double
NEAR_DUPLICATE_BITS = (
    10  # perceptual hashes this close are copies, mirrors, exposures or other sizes (evaluation.md 3.4)
)
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
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
_ROWS = 256
_EXPORT = "Export it from your raw converter as JPEG or TIFF and use that."


class PhotographRejection(StrEnum):
    """Why a file is no usable photograph; the list is closed."""

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
    """What the headers say: upright width and height in pixels, format name, size in bytes."""

    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True)
class Photograph:
    """An opened photograph: upright 8-bit RGB (sRGB), SHA-256 of the file's bytes, upright size in pixels.

    `width` and `height` are the file's; `image` is smaller where the file has more than twice `DECODED_SIDE`.
    """

    image: Image.Image
    sha256: str
    width: int
    height: int


def open_photograph(source: Path | bytes, max_pixels: int | None = None) -> Photograph:
    """Open a photograph from a file or from bytes and make it upright 8-bit sRGB.

    Transparent pixels come out white; a page or frame after the first is ignored. A large one is decoded reduced by a
    whole number, its long side no less than `DECODED_SIDE`.

    Args:
        max_pixels: None for the setting MONDRIAN_MAX_MEGAPIXELS.

    Raises:
        BadPhotograph: with `reason` out of `Reason`.
    """
    name, data = _bytes_of(source)
    with _decoder_errors_as_rejections(name), _open(name, io.BytesIO(data), data, max_pixels) as image:
        whole = image.size
        _draft(image)
        image.load()  # before the orientation is asked for: Pillow decodes a PNG for that and the error would be lost
        size = _upright_size(image, whole)
        flat = _in_srgb(_upright(image))
    clean = Image.frombytes("RGB", flat.size, flat.tobytes())  # a copy without metadata or file handle
    return Photograph(clean, hashlib.sha256(data).hexdigest(), *size)


def read_photograph_header(path: Path, max_pixels: int | None = None) -> PhotographHeader:
    """Read only the headers, and where the picture ends.

    Raises:
        BadPhotograph: with `reason` out of `Reason`. A file that passes can still turn out damaged when it is decoded.
    """
    size = _size_of(path)
    with (
        _decoder_errors_as_rejections(path),
        _mapped(path) as data,
        path.open("rb") as stream,
        _open(path, stream, data, max_pixels) as image,
    ):
        return PhotographHeader(*_upright_size(image, image.size), image.format or "", size)


def read_exif(path: Path, directory: int) -> Mapping[int, Any]:
    """One directory of a photograph's EXIF data by tag number, whatever the format; empty where there is none.

    Raises:
        BadPhotograph: it can't be opened.
    """
    _size_of(path)
    with _decoder_errors_as_rejections(path), Image.open(path, formats=[*FORMATS, *_heif()]) as image:
        return dict(image.getexif().get_ifd(directory))


def is_too_narrow(size: tuple[int, int]) -> bool:
    """True when the sides (pixels) are further apart than a vision model takes, as they are or bounded."""
    sides = [size, _bounded_size(size, LONG_SIDE)]
    return any(max(each) > MAX_ASPECT * min(each) for each in sides)


def downscale_to_fit(image: Image.Image, long_side: int = LONG_SIDE) -> Image.Image:
    """The photograph with its long side at most `long_side` pixels, resampled once; never enlarged."""
    size = _bounded_size(image.size, long_side)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=None)


def _bounded_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    factor = long_side / max(size)
    return size if factor >= 1 else (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))


def jpeg_bytes(image: Image.Image, quality: int = 95) -> bytes:
    """JPEG without colour subsampling or metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def perceptual_hash(image: Image.Image) -> tuple[int, int]:
    """64-bit hashes of the picture and of its mirror image.

    Signs of the 8 x 8 lowest cosine coefficients of a 32 x 32 grey picture against their median (pHash, as in
    imagehash 4.3.2 `phash`). Unrelated pictures differ in about 32 bits; see `SIMILAR_BITS`.
    """
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    grey = np.asarray(small, dtype=np.float64)
    return _hash_of(grey), _hash_of(grey[:, ::-1])


def perceptual_hash_distance(first: tuple[int, int], second: tuple[int, int]) -> int:
    """Bits by which two photographs differ, one of them mirrored if that is closer (0-64)."""
    return min((first[0] ^ second[0]).bit_count(), (first[0] ^ second[1]).bit_count())


@cache
def _cosines() -> NDArray[np.float64]:
    """The first 8 rows of the 32-point type-II cosine transform."""
    rows, columns = np.arange(8)[:, None], np.arange(32)[None, :]
    return np.cos(np.pi * rows * (2 * columns + 1) / 64)


def _hash_of(grey: NDArray[np.float64]) -> int:
    low = _cosines() @ grey @ _cosines().T
    bits = (low > np.median(low)).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _bytes_of(source: Path | bytes) -> tuple[Path | str, bytes]:
    if isinstance(source, bytes):
        _refuse_size("the upload", len(source))
        return "the upload", source
    _size_of(source)
    try:
        return source, source.read_bytes()
    except OSError as error:
        raise BadPhotograph(source, PhotographRejection.UNREADABLE, error.strerror or "it can't be read") from error


def _size_of(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as error:
        raise BadPhotograph(path, PhotographRejection.MISSING, "there is no such file") from error
    if not path.is_file():
        raise BadPhotograph(path, PhotographRejection.NOT_A_PHOTOGRAPH, "it is no file")
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
    """The picture, its headers read and everything checked that can be before it is decoded."""
    if kind := raw_kind(data):
        raise BadPhotograph(
            name, PhotographRejection.RAW, f"it is a raw file ({kind}), which has to be developed first", _EXPORT
        )
    # Pillow warns and raises at limits of its own; ours comes first, so that size is refused before any decoding.
    with Image.open(stream, formats=[*FORMATS, *_heif()]) as image:
        _refuse_shape(name, image.size, max_pixels)
        _refuse_truncated(name, image.format or "", data)
        yield image


def _refuse_shape(name: Path | str, size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    most = Settings().max_pixels if max_pixels is None else max_pixels
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
        raise BadPhotograph(name, PhotographRejection.TOO_NARROW, detail, "Use a part of it that is less narrow.")


def _draft(image: Image.Image) -> None:
    """Let a JPEG decoder leave out what is reduced anyway; the others have no such thing."""
    image.draft(None, _bounded_size(image.size, DECODED_SIDE))


@cache
def _heif() -> tuple[str, ...]:
    """HEIC as iPhones write it, where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    pillow_heif.register_heif_opener(thumbnails=False)
    return ("HEIF",)


@contextmanager
def _decoder_errors_as_rejections(name: Path | str) -> Iterator[None]:
    """Turn whatever a decoder raises on hostile or damaged bytes into a refusal with a reason."""
    try:
        # Pillow warns of odd metadata, which is no news to anybody here. Filters belong to the process,
        # hence the lock; it also keeps pictures of full size from being in memory together.
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadPhotograph:
        raise
    except UnidentifiedImageError as error:
        detail = _describe_file_type(name) if isinstance(name, Path) else "no format that a camera writes"
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
    return "its content is no format that a camera writes"


def _refuse_truncated(name: Path | str, kind: str, data: FileData) -> None:
    """Formats that say where they end are held to it; what follows the end is no part of the picture."""
    complete = {"JPEG": jpeg_is_complete, "MPO": jpeg_is_complete, "PNG": png_is_complete}.get(kind)
    if complete is not None and not complete(data):
        raise BadPhotograph(name, PhotographRejection.TRUNCATED, f"the file is cut off after {len(data):,} bytes")


def _orientation(image: Image.Image) -> int:
    """1-8 as in EXIF; 1 (upright) when the metadata is damaged, which is no fault of the pixels."""
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
    turned = image.format != "TIFF" and _orientation(image) in _SIDEWAYS  # Pillow turns TIFF files itself
    return (height, width) if turned else (width, height)


def _in_srgb(image: Image.Image) -> Image.Image:
    """8-bit RGB in sRGB: deep pixels scaled, an embedded profile applied, transparency laid on white."""
    profile = image.info.get("icc_profile")
    shallow = _eight_bit(image)
    if shallow.mode == "P":
        shallow = shallow.convert("RGBA" if "transparency" in shallow.info else "RGB")
    shallow = _reduced(shallow)
    opacity = shallow.getchannel("A") if shallow.mode in ("LA", "RGBA", "PA") else None
    coloured = _converted(shallow, profile)
    if opacity is None:
        return coloured
    white = Image.new("RGB", coloured.size, "white")
    white.paste(coloured, mask=opacity)
    return white


def _reduced(image: Image.Image) -> Image.Image:
    """The picture, averaged over squares of pixels where it has more than twice `DECODED_SIDE`."""
    factor = max(image.size) // DECODED_SIDE
    if factor < 2:
        return image
    return (image.convert("L") if image.mode == "1" else image).reduce(factor)


def _converted(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in ("LA", "PA", "RGBA"):
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if profile and image.mode in ("RGB", "L", "CMYK", "LAB"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            changed = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            changed = None  # a profile that is damaged or belongs to another mode: the numbers are taken as sRGB
        if changed is not None:
            return changed
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and floating-point grey as 8-bit grey; Pillow would clip instead of scaling."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values, top = np.asarray(image), 65535.0
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        top = 1.0 if values.max(initial=0) <= 1.0 else 255.0 if values.max() <= 255 else float(values.max())
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS].astype(np.float64)
        scaled[start : start + _ROWS] = np.floor(np.clip(rows / top, 0, 1) * 255 + 0.5)
    return Image.fromarray(scaled)
