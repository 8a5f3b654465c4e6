"""Periodic noise tiles and the sampling of them; everything irregular in a picture comes from here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
TILE = 512  # a power of two, so that wrapping is one bitwise operation
FINER = 4


@lru_cache(maxsize=8)
def noise_tile(falloff: float) -> Array:
    """Fractal noise (TILE, TILE), periodic, mean 0, sd 1; amplitude falls as frequency ** -falloff."""
    rng = np.random.default_rng(int(falloff * 1000) + 7)
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * radius**-falloff
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return (noise / noise.std()).astype(np.float32)


@lru_cache(maxsize=2)
def hillshade_tile() -> Array:
    """Rough ground lit from the upper left (TILE, TILE), periodic, mean 0, sd 1: the slope of a fractal landscape."""
    height = noise_tile(1.9)
    slope = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) + 0.5 * (np.roll(height, -1, 0) - np.roll(height, 1, 0))
    slope = np.tanh(slope / slope.std() * 0.8)  # slopes saturate as lit and shaded faces do
    slope -= slope.mean()
    return (slope / slope.std()).astype(np.float32)


@lru_cache(maxsize=4)
def fine_tile(falloff: float | None) -> Array:
    """A tile with FINER times the pixels, for magnified noise; None stands for the hillshade."""
    tile = hillshade_tile() if falloff is None else noise_tile(falloff)
    spectrum = np.fft.rfft2(tile)
    side, half = TILE * FINER, TILE // 2
    wide = np.zeros((side, side // 2 + 1), spectrum.dtype)
    wide[:half, :half] = spectrum[:half, :half]
    wide[-half:, :half] = spectrum[-half:, :half]
    return (np.fft.irfft2(wide, s=(side, side)) * FINER**2).astype(np.float32)


def sample_tile(tile: Array, x: Array, y: Array) -> Array:
    """Values of a tile at coordinates in tile pixels (any range, it repeats); x and y of the same shape."""
    return tile[y.astype(np.int32) & (TILE - 1), x.astype(np.int32) & (TILE - 1)]


def sample_fine_tile(tile: Array, x: Array, y: Array) -> Array:
    """The same for a tile of `fine_tile`; coordinates are still in pixels of the tile it came from."""
    side = TILE * FINER
    return tile[(y * FINER).astype(np.int32) & (side - 1), (x * FINER).astype(np.int32) & (side - 1)]


def smooth_step(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def ridge_line(rng: np.random.Generator, roughness: float, peaked: float) -> Array:
    """A mountain line: 1024 heights, about -1..1.

    Args:
        rng: chooses the line.
        roughness: amplitude of an octave relative to the one before.
        peaked: 0 for rounded hills .. 1 for pointed summits.
    """
    t = np.linspace(0, 1, 1024, dtype=np.float32)
    line = np.zeros_like(t)
    for octave in range(8):
        frequency = 1.3 * 2**octave * rng.uniform(0.8, 1.25)
        wave = np.sin(2 * np.pi * (frequency * t + rng.random()), dtype=np.float32)
        pointed = 1 - 2 * np.abs(wave)  # summits: sharp above, round below
        line += roughness**octave * (wave * (1 - peaked) - pointed * peaked)
    return line / np.abs(line).max()
