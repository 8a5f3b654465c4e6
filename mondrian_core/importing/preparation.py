"""Read, check and reduce one photograph of an import, in a process of its own.

The result is small; the bytes that the workspace will keep are in a temporary file next to their destination.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mondrian_core.errors import USABLE_PHOTOGRAPH_STEP, BadPhotograph, DiskFull, translate_foreign_errors
from mondrian_core.exif import camera_facts, time_taken
from mondrian_core.files import make_folder
from mondrian_core.images import downscale_to_fit, open_photograph, photograph_bytes, read_camera_tags
from mondrian_core.importing.place_removal import without_place
from mondrian_core.near_duplicates import PhotographFingerprint, photograph_fingerprint
from mondrian_core.thumbnails import store_thumbnail

_known: frozenset[str] = frozenset()
IMPORTED_SIDES = (320, 640)  # thumbnails made at once; others are made when a page asks for them
PARTS = ".importing"
_BACKGROUND_NICENESS = 15  # of 0-19
DISK_FULL = "disk_full"
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".mpo"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "HEIF": (".heic", ".heif"),
}


@dataclass(frozen=True, kw_only=True)
class PreparationTask:
    """What to do with one file.

    Attributes:
        source: the file, or the bytes of an upload.
        root: the workspace.
        parts: folder for the temporary file, on the disk of the destination; None writes nothing.
        reference: the original stays where it is, unchanged.
        max_pixels: limit on width x height.
        owner: ID of the process that takes the temporary file over.
        fingerprint: make what near-duplicates are recognized by.
    """

    source: Path | bytes
    root: Path
    parts: Path | None
    reference: bool
    max_pixels: int
    owner: int
    fingerprint: bool = True


@dataclass(frozen=True, kw_only=True)
class PreparedPhotograph:
    """A usable photograph.

    Attributes:
        sha256: of the bytes that the workspace keeps.
        part: the temporary file with these bytes; None for a reference, a known photograph or a dry run.
        suffixes: of file names that fit the content, the usual one first.
        width: upright, in pixels.
        height: upright, in pixels.
        taken_at: see `exif.time_taken`.
        camera: see `exif.camera_facts`.
        place_removed: see `ImportedFile`.
        fingerprint: None for a known photograph, and when none was wanted.
    """

    sha256: str
    part: Path | None = None
    suffixes: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    taken_at: str | None = None
    camera: Mapping[str, str] = field(default_factory=dict)
    place_removed: tuple[str, ...] = ()
    fingerprint: PhotographFingerprint | None = None


@dataclass(frozen=True)
class RefusedPhotograph:
    """Why a file is not a usable photograph: a reason of `PhotographRejection`, and sentences without a full stop."""

    reason: str
    detail: str


def prepare_photograph(
    task: PreparationTask, known: frozenset[str] = frozenset()
) -> PreparedPhotograph | RefusedPhotograph:
    """Prepare one photograph; those with a SHA-256 in `known` need no second look.

    Raises:
        DiskFull: the temporary file or a thumbnail can't be stored.
    """
    try:
        return _prepared(task, known)
    except BadPhotograph as error:
        step = "" if error.next_step == USABLE_PHOTOGRAPH_STEP else error.next_step
        return RefusedPhotograph(str(error.reason), f"{error.detail}. {step}".strip(" .").strip())


def start_preparation_process(known: frozenset[str], in_background: bool = False) -> None:
    """Set up a process that prepares photographs: it ends with its parent, which alone handles Ctrl-C."""
    global _known
    _known = known
    if in_background:
        os.nice(_BACKGROUND_NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def prepare_in_process(task: PreparationTask) -> PreparedPhotograph | RefusedPhotograph:
    """`prepare_photograph` in a process that `start_preparation_process` set up.

    A full disk is a result here, with the reason `DISK_FULL`: exceptions of this program don't survive the way back.
    """
    try:
        return prepare_photograph(task, _known)
    except DiskFull as error:
        return RefusedPhotograph(DISK_FULL, error.problem)


def _end_with(parent: int) -> None:
    multiprocessing.connection.wait([parent])
    os._exit(1)


def remove_abandoned_parts(folder: Path) -> None:
    """Delete the temporary files of imports whose process is gone."""
    import psutil

    for part in folder.glob("*.part") if folder.is_dir() else ():
        owner = part.name.partition("-")[0]
        if not owner.isdecimal() or not psutil.pid_exists(int(owner)):
            part.unlink(missing_ok=True)


def _prepared(task: PreparationTask, known: frozenset[str]) -> PreparedPhotograph:
    data = photograph_bytes(task.source)
    removed: tuple[str, ...] = ()
    if not task.reference:
        cleaned = without_place(data)
        data, removed = cleaned.data, cleaned.removed
    if known and (sha256 := hashlib.sha256(data).hexdigest()) in known:
        return PreparedPhotograph(sha256=sha256)
    opened = open_photograph(data, task.max_pixels, decoded_side=IMPORTED_SIDES[-1])
    tags = read_camera_tags(data)
    fingerprint = None
    if task.fingerprint:
        fingerprint = photograph_fingerprint(opened.sha256, downscale_to_fit(opened.image, IMPORTED_SIDES[0]))
    if task.parts is not None:
        for side in IMPORTED_SIDES:
            store_thumbnail(task.root, opened, side)
    part = None if task.parts is None or task.reference else _written(task.parts, task.owner, data)
    return PreparedPhotograph(
        sha256=opened.sha256,
        part=part,
        suffixes=_SUFFIXES.get(opened.format, (".jpg",)),
        width=opened.width,
        height=opened.height,
        taken_at=time_taken(tags),
        camera=camera_facts(tags),
        place_removed=removed,
        fingerprint=fingerprint,
    )


def _written(folder: Path, owner: int, data: bytes) -> Path:
    """A temporary file with these bytes, flushed to disk; its name says which process owns it."""
    path = folder / f"{owner}-{uuid.uuid4().hex}.part"
    with translate_foreign_errors(path):
        make_folder(folder)
        try:
            with path.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path
