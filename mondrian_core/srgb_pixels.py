"""Decoded pixels of any mode as 8-bit RGB in sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_ROWS = 256  # that are scaled at once


def in_srgb(image: Image.Image, decoded_side: int) -> Image.Image:
    """8-bit RGB in sRGB: deep pixels scaled, an embedded profile applied, transparency composed on white.

    A picture whose long side is at least twice `decoded_side` pixels is averaged down first.
    """
    profile = image.info.get("icc_profile")
    shallow = _eight_bit(image)
    if shallow.mode == "P":
        shallow = shallow.convert("RGBA" if "transparency" in shallow.info else "RGB")
    shallow = _reduced(shallow, decoded_side)
    opacity = shallow.getchannel("A") if shallow.mode in ("LA", "RGBA", "PA") else None
    coloured = _converted(shallow, profile)
    if opacity is None:
        return coloured
    white = Image.new("RGB", coloured.size, "white")
    white.paste(coloured, mask=opacity)
    return white


def _reduced(image: Image.Image, decoded_side: int) -> Image.Image:
    """The picture, averaged over squares of pixels where its long side is at least twice `decoded_side`."""
    factor = max(image.size) // decoded_side
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
            changed = None  # the profile is damaged or of another mode: pixels are taken as sRGB
        if changed is not None:
            return changed
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and floating-point gray as 8-bit gray; Pillow would clip instead of scaling."""
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
