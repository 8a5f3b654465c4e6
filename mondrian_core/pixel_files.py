"""Decoded photographs on disk: how pixels reach the model process without a second decode and without a pipe.

The service decodes an upload once to verify it. The result, scaled to at most `LONG_SIDE` pixels, is written as raw RGB
rows; the model process reads that file. The files are a cache: when one is missing, the photograph is decoded again.
"""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.files import make_private_folder

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class PixelFile:
    """An image as a file of 8-bit RGB rows, `height` x `width` x 3 bytes; small enough to send between processes."""

    path: Path
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def load(self) -> Image.Image:
        """The image, equal in every pixel to the one that was stored.

        Raises:
            OSError, ValueError: the file was deleted or truncated.
        """
        from PIL import Image

        return Image.frombytes("RGB", self.size, self.path.read_bytes())


def load_image(image: Image.Image | PixelFile) -> Image.Image:
    """The pixels of a question's image, wherever they are."""
    return image.load() if isinstance(image, PixelFile) else image


class PixelFileCache:
    """The latest decoded photographs of one service, by the SHA-256 of the photograph's file. Use from any thread.

    Args:
        folder: emptied at the start: files of an earlier service are never used.
        capacity: files kept. It must exceed the number of jobs that can wait, so that the photograph of the job in
            progress is never the oldest.
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self._folder, self._capacity = folder, capacity
        self._files: OrderedDict[str, PixelFile] = OrderedDict()
        self._lock = threading.Lock()
        self.clear()

    def get(self, sha256: str) -> PixelFile | None:
        """The file of a photograph; None when it was evicted, deleted or never stored."""
        with self._lock:
            file = self._files.get(sha256)
            if file is None or not file.path.is_file():
                self._files.pop(sha256, None)
                return None
            self._files.move_to_end(sha256)
            return file

    def put(self, sha256: str, image: Image.Image) -> PixelFile:
        """Store an RGB image and evict the oldest files beyond the capacity.

        Raises:
            DiskFull: no space is left.
        """
        file = PixelFile(self._folder / f"{sha256}.rgb", image.width, image.height)
        with self._lock, translate_foreign_errors(file.path):
            make_private_folder(self._folder)
            temporary = file.path.with_suffix(".partial")
            try:
                temporary.write_bytes(image.tobytes())  # not flushed: after a crash the folder is emptied anyway
                temporary.replace(file.path)
            finally:
                temporary.unlink(missing_ok=True)
            self._files[sha256] = file
            self._files.move_to_end(sha256)
            while len(self._files) > self._capacity:
                _, oldest = self._files.popitem(last=False)
                oldest.path.unlink(missing_ok=True)
        return file

    def clear(self) -> None:
        """Delete all files."""
        with self._lock:
            self._files.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
