"""Colours of the pictures: natural palettes in linear light, and the narrow range of colours that film reproduces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
LUMINANCE = np.array([0.25, 0.62, 0.13], np.float32)


def linear_colour(code: str) -> Array:
    """(3,) linear light of an sRGB colour such as "7f9bb3"."""
    value = np.array([int(code[at : at + 2], 16) for at in (0, 2, 4)], np.float32) / 255
    return (value**2.2).astype(np.float32)


# (zenith, horizon, far land, near land, subject), sRGB; the names are those of scene.PALETTES
PALETTE_COLOURS: dict[str, tuple[str, str, str, str, str]] = {
    "alpine": ("5d86b4", "cfdbe2", "6f7f8c", "66703f", "6e5a45"),
    "desert": ("6e97c0", "e6dccb", "a9785a", "b58f62", "8a5a3c"),
    "autumn": ("7f9bb0", "e3dccb", "80745f", "8d6f35", "9a5a2e"),
    "dusk": ("56648c", "e2ad86", "665f75", "5a5245", "7a5444"),
    "coast": ("6a9abb", "d6e3e6", "6d8590", "99896a", "a08e70"),
    "meadow": ("6b9ac4", "dfe6dd", "6c7f6a", "71813f", "8a7450"),
}


def turned_hue(colour: Array, turn: float) -> Array:
    """The colour with its hue turned (in turns) at the same luminance."""
    angle = 2 * np.pi * turn
    cos, sin = np.cos(angle), np.sin(angle)
    grey = float(colour @ LUMINANCE)
    chroma = colour - grey
    axis = np.full(3, 3**-0.5)
    turned = chroma * cos + np.cross(axis, chroma) * sin + axis * (axis @ chroma) * (1 - cos)
    turned -= turned @ LUMINANCE
    return np.maximum(grey + turned, 0.02 * grey).astype(np.float32)


def saturated(colour: Array, factor: float) -> Array:
    """The colour with `factor` times its difference from grey, never below a small share of its luminance."""
    grey = float(colour @ LUMINANCE)
    return np.maximum(grey + (colour - grey) * factor, 0.04 * grey).astype(np.float32)


def hue_colour(hue: float, chroma: float) -> Array:
    """A colour of luminance 1 with a hue in turns and a chroma (0 grey .. 1 strong)."""
    wave = np.cos(2 * np.pi * (hue + np.array([0.0, -1 / 3, 1 / 3], np.float32)))
    colour = 1 + chroma * wave
    return (colour / (colour @ LUMINANCE)).astype(np.float32)
