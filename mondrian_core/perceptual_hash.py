"""Perceptual hashes: copies of a photograph have nearly equal ones, also mirrored, exposed otherwise or resized."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NEAR_DUPLICATE_BITS = 10  # hashes at most this far apart: copies, mirror images, other exposures or sizes


def perceptual_hash(image: Image.Image) -> tuple[int, int]:
    """64-bit perceptual hashes of the picture and of its mirror image.

    Signs of the 8 x 8 lowest cosine coefficients of a 32 x 32 gray picture against their median (pHash, as in
    imagehash 4.3.2 `phash`). Unrelated pictures differ in about 32 bits; see `NEAR_DUPLICATE_BITS`.
    """
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    grey = np.asarray(small, dtype=np.float64)
    return _hash_of(grey), _hash_of(grey[:, ::-1])


def perceptual_hash_distance(first: tuple[int, int], second: tuple[int, int]) -> int:
    """Bits by which two photographs differ, one of them mirrored if that is closer (0-64)."""
    return min((first[0] ^ second[0]).bit_count(), (first[0] ^ second[1]).bit_count())


@cache
def _cosines() -> NDArray[np.float64]:
    """The first 8 rows of the 32-point type-II cosine transform; shape (8, 32)."""
    rows, columns = np.arange(8)[:, None], np.arange(32)[None, :]
    return np.cos(np.pi * rows * (2 * columns + 1) / 64)


def _hash_of(grey: NDArray[np.float64]) -> int:
    """The hash of a gray picture of shape (32, 32)."""
    low = _cosines() @ grey @ _cosines().T
    bits = (low > np.median(low)).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)
