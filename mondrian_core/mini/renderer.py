"""Draws a scene as a stylised landscape photograph.

Legend: `H`, `W` height and width in pixels; `X`, `Y` the (H, W) coordinates of the tilted scene, 0..1 over the picture.
Everything is drawn in linear light, float32, from back to front; only numpy and Pillow are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mondrian_core.mini.scene import ASPECTS, PALETTES, Scene, generic_scores, sample_scene, scene_qualities
from mondrian_core.rubric import DIMENSIONS

__all__ = ["DIMENSIONS", "Scene", "generic_scores", "render_scene", "sample_scene", "scene_qualities"]

Array = NDArray[np.floating]
TILE = 768


@lru_cache(maxsize=8)
def _tile(falloff: float) -> Array:
    """Fractal noise (TILE, TILE), mean 0, sd 1, amplitude falling as frequency ** -falloff."""
    rng = np.random.default_rng(int(falloff * 1000) + 7)
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * radius**-falloff
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return (noise / noise.std()).astype(np.float32)


def _crop(falloff: float, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    top, left = (int(rng.integers(TILE - n)) for n in shape)
    piece = _tile(falloff)[top : top + shape[0], left : left + shape[1]]
    return piece[:, ::-1] if rng.random() < 0.5 else piece


def _profile(rng: np.random.Generator, roughness: float) -> Array:
    """A mountain line: 1024 heights, mean 0, about -1..1."""
    t = np.linspace(0, 1, 1024, dtype=np.float32)
    line = np.zeros_like(t)
    for octave in range(8):
        frequency = 1.3 * 2**octave * rng.uniform(0.8, 1.25)
        line += roughness**octave * np.sin(2 * np.pi * (frequency * t + rng.random()), dtype=np.float32)
    return line / np.abs(line).max()


def _hsv(hue: float, saturation: float, value: float) -> Array:
    """Linear-light colour of a hue in turns."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    rgb = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return (rgb**2.0).astype(np.float32)


def _blend(canvas: Array, colour: Array, mask: Array) -> None:
    """In place: canvas towards colour where mask is 1. Shapes (h, w, 3), (3,) or (h, w, 3), (h, w)."""
    canvas += (colour - canvas) * mask[..., None]


class _Painter:
    """One picture in progress; holds what the steps share."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = np.random.default_rng(scene.seed)
        self.width, self.height = ASPECTS[scene.aspect]
        self.shape = (self.height, self.width)
        self.canvas = np.zeros((*self.shape, 3), np.float32)
        self.X, self.Y = self._coordinates()
        self.index = np.clip(self.X * 700 + 160, 0, 1023).astype(np.int32)
        self.fine = _crop(0.45, self.shape, self.rng)
        self.colours = self._colours()

    def _coordinates(self) -> tuple[Array, Array]:
        """Scene coordinates of every pixel: rotated by the tilt, bent by the lens."""
        scene, (height, width) = self.scene, self.shape
        x = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - width / 2) / width
        y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / width
        bend = 1 + scene.distortion * (x * x + y * y) * 4
        angle = np.deg2rad(scene.tilt_deg)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        turned_x, turned_y = (x * cos + y * sin) * bend, (y * cos - x * sin) * bend
        return turned_x + 0.5, turned_y * (width / height) + 0.5

    def _colours(self) -> list[Array]:
        """Sky, horizon, far land, near land, subject; a clash turns the hues apart and saturates them."""
        scene, rng = self.scene, self.rng
        values = (0.72, 0.92, 0.62, 0.42, 0.5)
        turns = scene.clash**1.2 * rng.choice((-1.0, 1.0)) * np.array([0.0, 0.22, 0.42, -0.28, 0.55])
        colours = []
        for (hue, saturation), value, turn in zip(PALETTES[scene.palette], values, turns, strict=True):
            hue = hue + rng.normal(0, 0.012) + turn
            saturation = min(1.0, saturation + 0.45 * scene.clash)
            colours.append(_hsv(hue % 1, saturation, value * float(rng.uniform(0.94, 1.06))))
        return colours

    def sky(self) -> None:
        scene, rng = self.scene, self.rng
        top, low = self.colours[0], self.colours[1]
        flat = np.float32(0.5) * (top.mean() + low.mean())
        pale = np.float32(0.55) * (1 - scene.drama)
        top, low = top * (1 - pale) + flat * pale, low * (1 - pale) + flat * pale
        t = np.clip(self.Y / scene.horizon, 0, 1)[..., None] ** np.float32(1.3)
        self.canvas[:] = top * (1 - scene.drama * np.float32(0.55)) * (1 - t) + low * t
        clouds = _crop(1.55, self.shape, rng)
        stretched = np.clip(clouds[:, :] * 0.9 + 0.25 * self.fine, -2, 2.2)
        self.canvas *= np.exp2(stretched * np.float32(1.25 * scene.drama**1.2))[..., None]
        if scene.drama > 0.35:
            self._sun()

    def _sun(self) -> None:
        """Sun or moon with its glow; it grows with the drama."""
        scene, rng = self.scene, self.rng
        cx, cy = scene.light_x, scene.horizon * float(rng.uniform(0.2, 0.75))
        ratio = self.height / self.width
        r2 = (self.X - cx) ** 2 + ((self.Y - cy) * ratio) ** 2
        size = 0.018 + 0.035 * scene.drama
        glow = np.exp(-r2 / (2 * (3.2 * size) ** 2)) * np.float32(0.9 * scene.drama)
        disc = np.clip((size - np.sqrt(r2)) * self.width + 0.5, 0, 1)
        warm = self.colours[1] / self.colours[1].max()
        self.canvas += glow[..., None] * warm
        _blend(self.canvas, np.float32(1.6) * (0.5 + 0.5 * warm), disc)

    def land(self) -> None:
        """Ridges from far to near; haze lightens the far ones, so separation shows the depth."""
        scene, rng = self.scene, self.rng
        n = scene.layers
        patches = _crop(1.7, self.shape, rng)
        for k in range(n):
            near = (k + 1) / n
            line = _profile(rng, float(rng.uniform(0.42, 0.6)))
            # the last layer is the ground the subject stands on; the others rise behind it
            base = scene.horizon + (0.0 if k == n - 1 else 0.02) + (near - 1) * (0.30 if n > 1 else 0)
            amplitude = (0.075 - 0.055 * near) if k < n - 1 else 0.018
            height = base + amplitude * line[self.index]
            top = max(0, int((base - 0.1) * self.height - abs(scene.tilt_deg) * self.width * 0.012) - 2)
            mask = np.clip((self.Y[top:] - height[top:]) * self.height + 0.5, 0, 1)
            _blend(self.canvas[top:], self._ground(k, near, patches, top), mask)

    def _ground(self, k: int, near: float, patches: Array, top: int) -> Array:
        scene, rng = self.scene, self.rng
        colour = self.colours[2] * (1 - near) + self.colours[3] * near
        if scene.clash > 0.3 and k % 2:
            colour = colour[::-1] * (1 - 0.3 * near)
        tone = rng.uniform(-1, 1) * 0.35 * scene.clash
        lit = scene.relief * (0.55 * patches[top:] + 0.9 * (0.5 - np.abs(self.X[top:] - scene.light_x)))
        grainy = np.float32(0.62 * scene.texture * (0.45 + 0.55 * near)) * self.fine[top:]
        shade = np.exp2(np.clip(lit + grainy, -2.2, 2.2) + np.float32(tone))[..., None]
        air = np.float32(0.9 * scene.haze * (1 - near) ** 0.8)
        return colour * shade * (1 - air) + self.colours[1] * air

    def path(self) -> None:
        """A bright track from the lower edge that narrows towards the horizon."""
        scene, rng = self.scene, self.rng
        start, goal = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.35, 0.65))
        bend = float(rng.uniform(-0.12, 0.12))
        t = np.clip((self.Y - scene.horizon - 0.01) / (1 - scene.horizon), 0, 1.2)
        middle = goal + (start - goal) * t + bend * np.sin(np.pi * t)
        half = (0.006 + 0.15 * t) * np.float32(0.35 + 0.65 * scene.path)
        mask = np.clip((half - np.abs(self.X - middle)) * self.width * 0.5, 0, 1) * (t > 0)
        colour = (0.45 * self.colours[1] + 0.25) * np.exp2(0.35 * self.fine)[..., None]
        _blend(self.canvas, colour, mask.astype(np.float32) * np.float32(0.85))

    def mass(self) -> None:
        """A dark cliff that takes one whole side: the picture's weight leans there."""
        scene = self.scene
        line = _profile(self.rng, 0.5)
        rows = np.clip(self.Y * 700 + 160, 0, 1023).astype(np.int32)
        inward = self.X if scene.mass < 0 else 1 - self.X
        edge = 0.36 * abs(scene.mass) ** 1.4 * (1 - 0.35 * (1 - self.Y)) + 0.02 * line[rows]
        mask = np.clip((edge - inward) * self.width * 0.7 + 0.5, 0, 1) * (abs(scene.mass) > 0.08)
        colour = 0.16 * self.colours[3] * np.exp2(0.8 * self.fine)[..., None]
        _blend(self.canvas, colour, mask.astype(np.float32))

    def stamp(self, shape: str, x: float, y: float, size: float, colour: Array) -> None:
        """Draws a subject standing at (x, y); size is its height as a share of the short side."""
        pixels = size * min(self.shape)
        u = (self.X - x) * (self.width / pixels)
        v = (y - self.Y) * (self.height / pixels)
        inside = (np.abs(u) < 0.8) & (v > -0.15) & (v < 1.15)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not rows.size:
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        rough = self.fine[box] * np.float32(0.035)
        distance = _SHAPES[shape](u[box] + rough, v[box] + rough[::-1])
        mask = np.clip(distance * np.float32(pixels) + 0.5, 0, 1)
        side = 1 + np.float32(0.5) * np.clip(u[box] * np.sign(self.scene.light_x - x), -0.7, 0.7)
        body = colour * (side * np.exp2(0.4 * self.scene.texture * self.fine[box]))[..., None]
        _blend(self.canvas[box], body.astype(np.float32), mask.astype(np.float32))

    def subjects(self) -> None:
        scene, rng = self.scene, self.rng
        foot = scene.horizon + 0.10 + 0.04 * float(rng.random())
        for k in range(scene.rivals):
            x = (k + float(rng.uniform(0.2, 0.8))) / scene.rivals
            if abs(x - scene.subject_x) < 0.09:
                x = scene.subject_x + (0.12 if x > scene.subject_x else -0.12)
            hue = (0.13 + scene.clash * float(rng.random())) % 1
            colour = _hsv(hue, 0.15 + 0.7 * scene.clash, 1.0) * np.float32(rng.uniform(0.9, 1.2))
            y = min(0.98, foot + float(rng.uniform(0.10, 0.36)))
            self.stamp(str(rng.choice(("rock", "cabin", "figure"))), x, y, float(rng.uniform(0.10, 0.15)), colour)
        ground = self.colours[3]
        far = np.float32(1.0) if scene.subject_bright else np.float32(0.012)
        target = 0.35 * far * self.colours[4] / self.colours[4].max() + 0.65 * far
        amount = np.float32(0.40 + 0.60 * scene.subject_contrast)
        self.stamp(scene.subject, scene.subject_x, foot, scene.subject_size, ground * (1 - amount) + target * amount)

    def develop(self) -> Image.Image:
        """Exposure, contrast, toning, lens and grain: linear light to an 8-bit photograph."""
        scene, rng = self.scene, self.rng
        image = np.maximum(self.canvas, 1e-4)
        image *= np.float32(0.20) / image[::4, ::4].mean()
        image *= np.exp2(np.float32(scene.ev))
        radius = (self.X - 0.5) ** 2 + (self.Y - 0.5) ** 2
        image *= (1 - np.float32(scene.vignette * 1.6) * radius)[..., None]
        pivot = np.float32(0.20 * 2**scene.ev)
        image = pivot * (image / pivot) ** np.float32(0.55 + 0.75 * scene.contrast)
        if scene.mono:
            image = self._tone(image)
        image = np.sqrt(np.clip(image, 0, 1), dtype=np.float32)
        picture = Image.fromarray((image * 255 + 0.5).astype(np.uint8))
        if scene.blur_px > 0.05:
            picture = picture.filter(ImageFilter.GaussianBlur(scene.blur_px))
        grain = rng.standard_normal(self.shape, dtype=np.float32) * np.float32(255 * scene.grain)
        noisy = np.asarray(picture, np.float32) + grain[..., None] + 0.5
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))

    def _tone(self, image: Array) -> Array:
        """Black and white; a clash here is a split tone whose shadows and highlights fight."""
        scene, rng = self.scene, self.rng
        grey = image @ np.array([0.3, 0.55, 0.15], np.float32)
        hue = float(rng.random())
        low = _hsv(hue, 0.95 * scene.clash, 1.0)
        high = _hsv((hue + 0.5) % 1, 0.8 * scene.clash, 1.0)
        split = np.clip(np.sqrt(np.clip(grey, 0, 1)) * 1.8 - 0.4, 0, 1)[..., None]
        tint = low / low.mean() * (1 - split) + high / high.mean() * split
        return grey[..., None] * tint


def _tree(u: Array, v: Array) -> Array:
    crown = np.float32(0.36) - np.hypot(u, (v - 0.64) * 1.05)
    side = np.float32(0.2) - np.hypot(np.abs(u) - 0.3, v - 0.5)
    trunk = np.minimum(0.06 - np.abs(u), 0.6 - np.abs(v - 0.3) - 0.3)
    return np.maximum(np.maximum(crown, side), trunk)


def _pine(u: Array, v: Array) -> Array:
    saw = (v * 5) % 1
    return np.minimum(0.36 * (1 - v) * (1 - 0.35 * saw) - np.abs(u), np.minimum(v, 1 - v) + 0.02)


def _cabin(u: Array, v: Array) -> Array:
    walls = np.minimum(0.46 - np.abs(u), 0.3 - np.abs(v - 0.3))
    roof = np.minimum(0.62 - np.abs(u) - (v - 0.5) * 1.25, v - 0.5)
    window = 0.09 - np.maximum(np.abs(u - 0.15), np.abs(v - 0.3))
    return np.minimum(np.maximum(walls, roof), -window)


def _rock(u: Array, v: Array) -> Array:
    return np.minimum(np.float32(0.5) - np.hypot(u * 0.8, v * 0.72 + 0.04 * np.sin(9 * u)), v + 0.04)


def _figure(u: Array, v: Array) -> Array:
    body = np.float32(1) - np.hypot(u / 0.17, (v - 0.42) / 0.44)
    head = np.float32(0.11) - np.hypot(u, v - 0.9)
    return np.maximum(body * 0.2, head)


def _tower(u: Array, v: Array) -> Array:
    shaft = np.minimum(0.2 - 0.09 * v - np.abs(u), 0.42 - np.abs(v - 0.4))
    lamp = np.minimum(0.15 - np.abs(u), 0.07 - np.abs(v - 0.9))
    return np.maximum(shaft, lamp)


_SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "tree": _tree,
    "pine": _pine,
    "cabin": _cabin,
    "rock": _rock,
    "figure": _figure,
    "tower": _tower,
}


def render_scene(scene: Scene) -> Image.Image:
    """The photograph of a scene, RGB, at ASPECTS[scene.aspect] pixels. The same scene gives the same bytes."""
    painter = _Painter(scene)
    painter.sky()
    painter.land()
    if scene.path > 0:
        painter.path()
    painter.mass()
    painter.subjects()
    return painter.develop()
