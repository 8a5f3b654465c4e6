"""Thumbnails of photographs: JPEG files without metadata under `thumbnails/` of the workspace.

The folder is a cache: it can be deleted at any time, and backups leave it out. A thumbnail belongs to the bytes of a
photograph (SHA-256), so moving or renaming the photograph keeps it.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from mondrian_core.errors import BadPhotograph, translate_foreign_errors
from mondrian_core.files import make_folder, mark_as_used, path_as_spelled_on_disk
from mondrian_core.image_formats import jpeg_is_complete
from mondrian_core.images import (
    OpenedPhotograph,
    PhotographRejection,
    downscale_to_fit,
    jpeg_bytes,
    open_photograph,
)

THUMBNAILS = "thumbnails"
SIDES = (160, 320, 640, 1280, 2560)  # long sides in pixels; a closed list, so that requests can't fill the disk
QUALITY = 85
_SHA256 = re.compile(r"[0-9a-f]{64}")


def thumbnail_jpeg(root: Path, photograph_path: Path | str, sha256: str, side: int) -> bytes:
    """The thumbnail of a photograph, from the cache or made and stored there; never enlarged.

    Args:
        root: the workspace.
        photograph_path: the file, absolute or below the workspace.
        sha256: of the photograph's bytes.
        side: the wanted long side in pixels, rounded up to one of `SIDES`.

    Raises:
        BadPhotograph: the file is gone, is damaged, or has other bytes than `sha256` says.
        DiskFull: the thumbnail can't be stored.
    """
    cached = cached_thumbnail(root, sha256, side)
    if cached is not None:
        return cached
    path = _photograph_file(root, photograph_path)
    opened = open_photograph(path, decoded_side=thumbnail_side(side))
    if opened.sha256 != sha256:
        detail, again = (
            "its content has changed since it was imported",
            "Run `mondrian import --rescan` to read it again.",
        )
        raise BadPhotograph(str(photograph_path), PhotographRejection.MISSING, detail, again)
    return store_thumbnail(root, opened, side)


def cached_thumbnail(root: Path, sha256: str, side: int) -> bytes | None:
    """The thumbnail if it is in the cache and complete; None when it must be made.

    Raises:
        BadPhotograph: `sha256` is not a SHA-256 in hexadecimal.
    """
    try:
        path = thumbnail_path(root, sha256, side)
        data = path.read_bytes()
    except OSError:
        return None
    mark_as_used(path)
    return data if jpeg_is_complete(data) else None


def store_thumbnail(root: Path, opened: OpenedPhotograph, side: int) -> bytes:
    """Store and return the thumbnail of an opened photograph, decoded to at least the thumbnail's side.

    Raises:
        DiskFull: it can't be stored.
    """
    data = jpeg_bytes(downscale_to_fit(opened.image, thumbnail_side(side)), quality=QUALITY)
    path = thumbnail_path(root, opened.sha256, side)
    with translate_foreign_errors(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.stem[:16]}-{uuid.uuid4().hex[:12]}.jpg")
        try:
            temporary.write_bytes(data)  # not flushed: what a power failure truncates is not complete, and made again
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return data


def thumbnail_path(root: Path, sha256: str, side: int) -> Path:
    """Where a thumbnail is cached, whether or not it exists.

    Raises:
        BadPhotograph: `sha256` is not a SHA-256 in hexadecimal.
    """
    if not _SHA256.fullmatch(sha256):
        raise BadPhotograph(sha256[:80], PhotographRejection.MISSING, "this is not a photograph's SHA-256")
    return root / THUMBNAILS / str(thumbnail_side(side)) / sha256[:2] / f"{sha256}.jpg"


def thumbnail_side(side: int) -> int:
    """The smallest of `SIDES` that is at least `side` pixels; the largest one for more."""
    return next((each for each in SIDES if each >= side), SIDES[-1])


def _photograph_file(root: Path, photograph_path: Path | str) -> Path:
    path = Path(photograph_path)
    if path.is_absolute():
        return path
    if ".." in path.parts:
        raise BadPhotograph(str(path), PhotographRejection.MISSING, "it is not in the workspace")
    try:
        return path_as_spelled_on_disk(root, path.parts)
    except (OSError, ValueError):
        raise BadPhotograph(str(path)[:200], PhotographRejection.MISSING, "there is no such file") from None
