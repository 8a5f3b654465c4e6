"""Drawings of trees, buildings, rocks, people and signs that the renderer sets into its pictures.

A sprite is drawn once per process, from its own seed, lit from the left. Coordinates: u -0.8..0.8 across and v
-0.1..1.1 up, in units of the thing's height.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mondrian_core.mini.noise import noise_tile

Array = NDArray[np.floating]
LEFT, RIGHT, LOW, HIGH = -0.8, 0.8, -0.1, 1.1
SIDE = 240  # sprite pixels of the thing's height
_OVER = 2  # drawn at twice the size, then averaged
_WIDTH, _HEIGHT = int((RIGHT - LEFT) * SIDE), int((HIGH - LOW) * SIDE)


@dataclass(frozen=True)
class Sprite:
    """A drawing at falling sizes, each (h, w): how much it covers (0-1), and its brightness (about 0.2-1.5)."""

    cover: tuple[Array, ...]
    light: tuple[Array, ...]


class _Sheet:
    """Two images drawn together: cover and light."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        size = (_WIDTH * _OVER, _HEIGHT * _OVER)
        self.cover, self.light = Image.new("L", size), Image.new("L", size, 90)
        self._cover, self._light = ImageDraw.Draw(self.cover), ImageDraw.Draw(self.light)

    def point(self, u: float, v: float) -> tuple[float, float]:
        return (u - LEFT) * SIDE * _OVER, (HIGH - v) * SIDE * _OVER

    def polygon(self, points: list[tuple[float, float]], light: float) -> None:
        placed = [self.point(u, v) for u, v in points]
        self._cover.polygon(placed, fill=255)
        self._light.polygon(placed, fill=_level(light))

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], light: float) -> None:
        x, y = self.point(*centre)
        rx, ry = radii[0] * SIDE * _OVER, radii[1] * SIDE * _OVER
        box = (x - rx, y - ry, x + rx, y + ry)
        self._cover.ellipse(box, fill=255)
        self._light.ellipse(box, fill=_level(light))

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, light: float) -> None:
        pixels = max(1, round(width * SIDE * _OVER))
        placed = [self.point(*start), self.point(*end)]
        self._cover.line(placed, fill=255, width=pixels)
        self._light.line(placed, fill=_level(light), width=pixels)

    def finished(self) -> Sprite:
        """Averaged to sprite size; the brightness is that of the covered part."""
        cover, light = (np.asarray(image, np.float32) / 255 for image in (self.cover, self.light))
        return _with_smaller_ones(_halved(cover), _halved(cover * light) * 2)


def _level(light: float) -> int:
    return int(np.clip(light * 127.5, 0, 255))


def _halved(image: Array) -> Array:
    h, w = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    return image[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3)).astype(np.float32)


def _with_smaller_ones(cover: Array, lit: Array) -> Sprite:
    """A sprite with three more sizes, each half of the one before; `lit` is light times cover."""
    covers, lights = [], []
    for _ in range(4):
        covers.append(cover)
        lights.append(lit / np.maximum(cover, 1e-3))
        cover, lit = _halved(cover), _halved(lit)
    return Sprite(tuple(covers), tuple(lights))


@lru_cache(maxsize=64)
def sprite(kind: str, variant: int) -> Sprite:
    """The drawing of a thing; the same arguments give the same drawing."""
    return _DRAWERS[kind](_Sheet(1000 * variant + sum(kind.encode())))


def _crown_light(u: float, v: float, middle: float, radius: float) -> float:
    """Brightness of foliage: bright on the upper left of the crown, dark on its lower right."""
    return 0.72 + 0.42 * ((v - middle) - 0.9 * u) / radius


def _tree(sheet: _Sheet) -> Sprite:
    rng = sheet.rng
    tips: list[tuple[float, float]] = []

    def grow(u: float, v: float, angle: float, length: float, width: float, depth: int) -> None:
        end = (u + length * np.sin(angle), v + length * np.cos(angle))
        sheet.line((u, v), end, width, 0.42 + 0.2 * float(rng.random()))
        if depth == 0 or end[1] > 0.92:
            tips.append(end)
            return
        for side in (-1, 1) if depth < 4 else (-1, 0, 1):
            turn = side * float(rng.uniform(0.25, 0.62)) + float(rng.normal(0, 0.08))
            grow(*end, angle + turn, length * float(rng.uniform(0.66, 0.84)), width * 0.62, depth - 1)
        tips.append(end)

    lean = float(rng.normal(0, 0.06))
    grow(0.0, 0.0, lean, 0.27, 0.055, 5)
    sheet.polygon([(-0.05, 0), (0.05, 0), (0.025, 0.2), (-0.02, 0.2)], 0.42)
    leaves = [(u + rng.normal(0, 0.045), v + rng.normal(0, 0.04)) for u, v in tips for _ in range(11)]
    middle = float(np.mean([v for _, v in leaves]))
    for u, v in sorted(leaves, key=lambda place: place[1] - 0.6 * place[0] + rng.normal(0, 0.12)):
        if abs(u) > 0.46 or not 0.2 < v < 1.0:
            continue
        light = max(0.3, _crown_light(u, v, middle, 0.5)) + float(rng.normal(0, 0.14))
        radius = float(rng.uniform(0.010, 0.022))
        sheet.ellipse((float(u), float(v)), (radius * 1.2, radius), light)
    return sheet.finished()


def _pine(sheet: _Sheet) -> Sprite:
    rng = sheet.rng
    sheet.polygon([(-0.025, -0.01), (0.025, -0.01), (0.004, 0.97), (-0.004, 0.97)], 0.45)
    for at in np.linspace(0.1, 0.985, 60):
        reach = 0.30 * (1 - at) ** 0.85 * float(rng.uniform(0.75, 1.1)) + 0.008
        for _ in range(9):
            side = float(rng.choice((-1.0, 1.0)))
            long = reach * float(rng.uniform(0.35, 1.0))
            drop = long * float(rng.uniform(0.12, 0.42))
            end = (side * long, at - drop)
            light = 0.66 - 0.34 * side * (0.3 + 0.7 * long / 0.3) + float(rng.normal(0, 0.12)) + 0.1 * (at - 0.5)
            sheet.line((side * 0.2 * long, at), end, 0.012, light)
            for part in (0.45, 0.7, 0.95):  # needles hang from the bough
                u, v = side * long * part, at - drop * part
                sheet.ellipse((u, v), (0.016, 0.010), light + float(rng.normal(0, 0.08)))
    return sheet.finished()


def _cabin(sheet: _Sheet) -> Sprite:
    rng = sheet.rng
    gable = [(-0.5, 0.0), (-0.02, 0.0), (-0.02, 0.5), (-0.26, 0.86), (-0.5, 0.5)]
    sheet.polygon([(-0.02, 0.0), (0.54, 0.03), (0.54, 0.47), (-0.02, 0.5)], 0.55)
    sheet.polygon(gable, 1.05)
    for row in np.arange(0.05, 0.5, 0.055):  # boards
        sheet.line((-0.5, row), (-0.02, row), 0.005, 0.85)
        sheet.line((-0.02, row), (0.54, row + 0.02 * (0.25 - row)), 0.005, 0.45)
    roof = float(rng.choice((0.42, 0.75, 1.25)))
    sheet.polygon([(-0.29, 0.91), (0.33, 0.86), (0.60, 0.42), (0.01, 0.44)], roof)
    sheet.line((-0.26, 0.9), (-0.55, 0.44), 0.04, roof * 1.1)
    for _ in range(40):  # shingles
        part, along = float(rng.random()), float(rng.random())
        u, v = -0.27 + 0.28 * part + 0.6 * along, 0.9 - 0.45 * part - 0.04 * along
        sheet.line((u, v), (u + 0.05, v - 0.004), 0.008, roof * float(rng.uniform(0.82, 1.1)))
    sheet.polygon([(-0.20, 0.0), (-0.08, 0.0), (-0.08, 0.3), (-0.20, 0.3)], 0.25)
    sheet.polygon([(-0.42, 0.22), (-0.29, 0.22), (-0.29, 0.38), (-0.42, 0.38)], 0.2)
    sheet.polygon([(0.2, 0.2), (0.34, 0.21), (0.34, 0.36), (0.2, 0.36)], 0.18)
    sheet.polygon([(0.2, 0.78), (0.29, 0.77), (0.29, 1.0), (0.2, 1.0)], 0.7)
    return sheet.finished()


def _tower(sheet: _Sheet) -> Sprite:
    rng = sheet.rng
    for u in np.linspace(-1, 1, 41):  # a round wall, brighter towards the left
        light = 1.15 * max(0.0, float(np.cos(np.arcsin(np.clip(u + 0.5, -1, 1))))) + 0.2
        x0, x1 = u * 0.15, u * 0.105
        sheet.polygon([(x0, 0), (x0 + 0.009, 0), (x1 + 0.008, 0.74), (x1, 0.74)], light)
        sheet.polygon([(u * 0.08, 0.78), (u * 0.08 + 0.006, 0.78), (u * 0.08 + 0.006, 0.9), (u * 0.08, 0.9)], light)
    sheet.polygon([(-0.155, 0.74), (0.155, 0.74), (0.155, 0.78), (-0.155, 0.78)], 0.5)
    sheet.polygon([(-0.07, 0.80), (0.06, 0.80), (0.06, 0.88), (-0.07, 0.88)], 0.3)
    sheet.polygon([(-0.11, 0.9), (0.11, 0.9), (0.0, 1.0)], 0.6)
    for _ in range(90):  # stones
        v = float(rng.uniform(0.02, 0.72))
        u = float(rng.uniform(-1, 1)) * (0.15 - 0.06 * v)
        sheet.line((u, v), (u + 0.02, v), 0.006, float(rng.uniform(0.35, 1.0)) * (0.9 - 2.5 * u))
    for v in (0.2, 0.5):
        sheet.polygon([(-0.03, v), (0.015, v), (0.015, v + 0.08), (-0.03, v + 0.08)], 0.16)
    return sheet.finished()


def _sign(sheet: _Sheet) -> Sprite:
    for u in (-0.16, 0.13):
        sheet.polygon([(u, 0), (u + 0.035, 0), (u + 0.035, 0.9), (u, 0.9)], 0.45)
    sheet.polygon([(-0.31, 0.46), (0.31, 0.46), (0.31, 0.98), (-0.31, 0.98)], 1.25)
    sheet.polygon([(-0.31, 0.46), (0.31, 0.46), (0.31, 0.49), (-0.31, 0.49)], 0.8)
    for v, end in ((0.84, 0.22), (0.73, 0.12), (0.62, 0.2)):  # lettering
        sheet.line((-0.23, v), (end, v), 0.035, 0.45)
    return sheet.finished()


def _tent(sheet: _Sheet) -> Sprite:
    sheet.polygon([(-0.62, 0.0), (-0.14, 1.0), (0.18, 0.0)], 1.15)
    sheet.polygon([(-0.14, 1.0), (0.40, 0.86), (0.62, 0.0), (0.18, 0.0)], 0.68)
    sheet.polygon([(-0.24, 0.0), (-0.14, 0.75), (-0.02, 0.0)], 0.3)
    sheet.line((-0.14, 1.0), (0.40, 0.86), 0.015, 1.2)
    return sheet.finished()


def _grid() -> tuple[Array, Array]:
    u = np.linspace(LEFT, RIGHT, _WIDTH, dtype=np.float32)[None, :] + np.zeros((_HEIGHT, 1), np.float32)
    v = np.linspace(HIGH, LOW, _HEIGHT, dtype=np.float32)[:, None] + np.zeros((1, _WIDTH), np.float32)
    return u, v


def _rock(sheet: _Sheet) -> Sprite:
    """A boulder: the solid under a dozen planes, each lit by its slope."""
    rng = sheet.rng
    u, v = _grid()
    rough = noise_tile(1.3)[:_HEIGHT, :_WIDTH] * np.float32(0.02)
    u, v = u + rough, v + rough[::-1, ::-1]
    angles = np.linspace(0.05, np.pi - 0.05, 7) + rng.normal(0, 0.12, 7)
    reach = np.stack([np.cos(a) * u * 0.92 + np.sin(a) * (v - 0.1) * 0.95 for a in angles] + [-(v + 0.0) * 2.0])
    edge = np.array([*(0.56 + 0.22 * np.sin(angles) + rng.normal(0, 0.03, 7)), 0.0])[:, None, None]
    inside = (edge - reach).min(0)
    cover = np.clip(inside * SIDE * 0.7, 0, 1)
    # facets: the highest of many tilted planes
    tilt = rng.normal(0, 1.0, (16, 2))
    offset = rng.uniform(0, 0.25, 16)
    height = np.stack(
        [offset[k] - np.abs(u - tilt[k, 0] * 0.35) * 0.7 - np.abs(v - 0.4 - tilt[k, 1] * 0.3) for k in range(16)]
    )
    which = height.argmax(0)
    slope = 0.75 + 0.25 * np.tanh(-tilt[:, 0] * 0.9 + tilt[:, 1] * 0.5)
    light = slope[which] + 0.35 * (v - 0.45) - 0.35 * u + 2.0 * rough
    cracks = np.abs(noise_tile(1.7)[100 : 100 + _HEIGHT, 90 : 90 + _WIDTH]) < 0.05
    light = np.clip(light - 0.25 * cracks, 0.15, 1.4)
    return _with_smaller_ones(cover.astype(np.float32), (cover * light).astype(np.float32))


def _figure(sheet: _Sheet) -> Sprite:
    """A standing person: limbs as rounded bars, each shaded like a cylinder."""
    rng = sheet.rng
    u, v = _grid()
    step, arm = float(rng.uniform(0.03, 0.075)), float(rng.uniform(0.0, 0.05))
    bars = [  # (start, end, radii at both, brightness)
        ((-step, 0.03), (-0.035, 0.46), (0.032, 0.05), 0.55),
        ((step, 0.02), (0.035, 0.46), (0.032, 0.05), 0.5),
        ((-0.145 - arm, 0.42), (-0.105, 0.74), (0.026, 0.036), 0.95),
        ((0.145 + arm, 0.43), (0.105, 0.74), (0.026, 0.036), 0.85),
        ((0.0, 0.44), (0.0, 0.74), (0.115, 0.105), 1.0),
        ((0.0, 0.78), (0.0, 0.85), (0.04, 0.035), 0.8),
        ((0.0, 0.905), (0.0, 0.93), (0.066, 0.064), 0.75),
    ]
    if rng.random() < 0.6:
        bars.append(((-0.075, 0.957), (0.075, 0.957), (0.016, 0.016), 0.5))  # brim of a hat
    cover, light = np.zeros_like(u), np.full_like(u, 0.5)
    for (u0, v0), (u1, v1), (r0, r1), bright in bars:
        along = np.clip(((u - u0) * (u1 - u0) + (v - v0) * (v1 - v0)) / ((u1 - u0) ** 2 + (v1 - v0) ** 2), 0, 1)
        across = u - (u0 + along * (u1 - u0))
        distance = np.hypot(across, v - (v0 + along * (v1 - v0)))
        radius = r0 + along * (r1 - r0)
        mask = np.clip((radius - distance) * SIDE * 0.8, 0, 1)
        shade = bright * (0.85 - 0.45 * across / radius)
        light += (shade - light) * mask
        cover = np.maximum(cover, mask)
    return _with_smaller_ones(cover.astype(np.float32), (cover * light).astype(np.float32))


_DRAWERS: dict[str, Callable[[_Sheet], Sprite]] = {
    "tree": _tree,
    "pine": _pine,
    "cabin": _cabin,
    "rock": _rock,
    "figure": _figure,
    "tower": _tower,
    "sign": _sign,
    "tent": _tent,
}
