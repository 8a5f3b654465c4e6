"""Exposure, film curve, lens and grain: from linear light to an 8-bit photograph."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from mondrian_core.mini.noise import Array, noise_tile
from mondrian_core.mini.palettes import LUMINANCE, hue_colour
from mondrian_core.mini.scene import Scene

MIDDLE = 0.20  # mean linear light of a correct exposure
PANCHROMATIC = np.array([0.34, 0.52, 0.14], np.float32)  # black and white film behind a yellow filter: darker skies
WIDEST_SATURATION = 0.70  # (max - min) / max of any pixel in linear light
_STEPS = 4096


@lru_cache(maxsize=2)
def film_curve(mono: bool) -> Array:
    """(_STEPS,) pixel values 0..255 for the square root of linear light from 0 to 2: a toe and a shoulder.

    The curve is Narkowicz's fit of the ACES tone curve, x (2.51 x + 0.03) / (x (2.43 x + 0.59) + 0.14), at an exposure
    that keeps middle grey; black and white film gets a little more of both ends, and paper's black isn't quite black.
    """
    x = np.linspace(0, 2, _STEPS) ** 2 * 0.72
    curve = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    value = np.clip(curve, 0, 1) ** (1 / 2.2)
    black, white = (9, 250) if mono else (4, 254)
    return (black + (white - black) * value).astype(np.float32)


def developed_photograph(
    light: Array, places: tuple[Array, Array], scene: Scene, rng: np.random.Generator
) -> Image.Image:
    """The 8-bit photograph of a scene.

    Args:
        light: (H, W, 3) linear light; changed in place.
        places: scene coordinates X and Y of every pixel, each (H, W).
        scene: exposure, contrast, vignette, blur, clash and grain.
        rng: chooses the film's tint and grain.
    """
    image = np.maximum(light, 1e-4, out=light)
    image *= np.float32(MIDDLE * 2**scene.ev) / image[::4, ::4].mean()
    x, y = places
    image *= (1 - np.float32(scene.vignette * 1.6) * ((x - 0.5) ** 2 + (y - 0.5) ** 2))[..., None]
    grey = image @ (PANCHROMATIC if scene.mono else LUMINANCE)
    pivot = np.float32(MIDDLE * 2**scene.ev)
    gain = (grey / pivot) ** np.float32(-0.38 + 0.72 * scene.contrast)  # contrast by luminance keeps the hues
    grey = grey * gain
    tint = _film_tint(grey / pivot, scene, rng)
    image = grey[..., None] * tint if scene.mono else _natural(image * gain[..., None] * tint)
    index = np.minimum(np.sqrt(np.maximum(image, 0)) * np.float32((_STEPS - 1) / 2), _STEPS - 1)
    pixels = film_curve(scene.mono)[index.astype(np.int32)]
    picture = Image.fromarray((pixels + 0.5).astype(np.uint8))
    if scene.blur_px > 0.05:
        picture = picture.filter(ImageFilter.GaussianBlur(scene.blur_px))
    return _with_grain(picture, scene, rng)


def _film_tint(tone: Array, scene: Scene, rng: np.random.Generator) -> Array:
    """(H, W, 3) factors: shadows and highlights drift to opposite hues as on badly kept or cross-processed film."""
    hue = float(rng.choice((0.42, 0.55, 0.86, 0.12))) + float(rng.normal(0, 0.03))
    strength = (0.52 if scene.mono else 0.37) * scene.clash**1.1
    low = hue_colour(hue, strength)
    high = hue_colour(hue + 0.45, 0.8 * strength)
    part = np.clip(0.5 + 0.25 * np.log2(np.maximum(tone, 1e-3)), 0, 1)[..., None]
    return low + (high - low) * part


def _natural(image: Array) -> Array:
    """Colours drawn towards grey where they exceed what film shows."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]  # faster than max and min along an axis of three
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    wide = np.maximum((high - low) / np.maximum(high * np.float32(WIDEST_SATURATION), 1e-4), 1)
    return high[..., None] + (image - high[..., None]) / wide[..., None]


def _with_grain(picture: Image.Image, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Film grain, strongest in the middle tones."""
    top, left = rng.integers(0, 100, 2)
    grain = noise_tile(0.15)[top : top + picture.height, left : left + picture.width]
    if rng.random() < 0.5:
        grain = grain[:, ::-1]
    pixels = np.asarray(picture, np.float32)
    middle = pixels[..., 1]
    strength = 255 * scene.grain * (1.5 if scene.mono else 1.0)
    weight = strength * (0.45 + 0.55 * np.sin(middle * np.float32(np.pi / 255)))
    noisy = pixels + (grain * weight)[..., None] + 0.5
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
