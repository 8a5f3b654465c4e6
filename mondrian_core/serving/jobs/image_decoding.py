"""Decoding in the service: one full-size image in memory at a time, for uploads, the worker and the pages together.

An image of a hundred megapixels takes half a gigabyte while it is decoded. What these functions return is small.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

from mondrian_core.images import LONG_SIDE, OpenedPhotograph, downscale_to_fit, open_photograph

_decode_lock = threading.Lock()


def open_downscaled(source: Path | bytes, long_side: int = LONG_SIDE) -> OpenedPhotograph:
    """Decode all of a photograph and scale it down to a long side of at most `long_side` pixels.

    SHA-256, width and height are the original file's.

    Raises:
        BadPhotograph: with its reason.
    """
    with _decode_lock:
        photograph = open_photograph(source)
        return replace(photograph, image=downscale_to_fit(photograph.image, long_side))


def open_at_full_size(source: Path | bytes) -> OpenedPhotograph:
    """Decode a photograph with all of its pixels.

    Raises:
        BadPhotograph: with its reason.
    """
    with _decode_lock:
        return open_photograph(source, decoded_side=sys.maxsize)
