"""Where the service decodes photographs: one full-size picture in memory at a time, whoever needs it.

A hundred megapixels are half a gigabyte while they are decoded, so uploads, the worker and the pages take turns, and
what leaves here is small.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from mondrian_core.images import LONG_SIDE, Photograph, downscale_to_fit, open_photograph

_decode_lock = threading.Lock()


def open_downscaled(source: Path | bytes, long_side: int = LONG_SIDE) -> Photograph:
    """A photograph whose image has a long side of at most `long_side` pixels; hash and size are the original's.

    Raises:
        BadPhotograph: with its reason.
    """
    with _decode_lock:
        photograph = open_photograph(source)
        return replace(photograph, image=downscale_to_fit(photograph.image, long_side))


def verified_sha256(source: Path | bytes) -> str:
    """SHA-256 of a photograph's bytes, once all of it could be decoded.

    Raises:
        BadPhotograph: with its reason.
    """
    with _decode_lock:
        return open_photograph(source).sha256
