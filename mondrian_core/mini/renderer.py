"""Draws a scene so that it looks like a photograph.

Everything is drawn in linear light, float32, from back to front, then developed with the curve of a film. Only numpy
and Pillow are needed. Legend: `X`, `Y` the (H, W) coordinates of the tilted scene, 0..1 over the picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from mondrian_core.mini.development import developed_photograph
from mondrian_core.mini.layout import LAYOUT_STREAM, PlacedThing, SceneLayout, scene_layout
from mondrian_core.mini.noise import (
    TILE,
    Array,
    fine_tile,
    hillshade_tile,
    noise_tile,
    ridge_line,
    sample_fine_tile,
    sample_tile,
    smooth_step,
)
from mondrian_core.mini.palettes import PALETTE_COLOURS, hue_colour, linear_colour, saturated, turned_hue
from mondrian_core.mini.scene import ASPECTS, Scene
from mondrian_core.mini.sprites import HIGH, LEFT, LOW, RIGHT, SIDE, sprite

__all__ = ["render_scene"]

_STEPS = ("textures", "colours", "sun", "land", "path", "things", "mass", "film")
SUNLIGHT, SKYLIGHT = np.array([1.07, 1.0, 0.88], np.float32), np.array([0.88, 0.98, 1.14], np.float32)


def render_scene(scene: Scene) -> Image.Image:
    """The photograph of a scene, RGB, at ASPECTS[scene.aspect] pixels. The same scene gives the same bytes."""
    painter = _Painter(scene, scene_layout(scene))
    painter.sky()
    painter.land()
    painter.path()
    painter.things()
    painter.mass()
    return developed_photograph(painter.canvas, (painter.X, painter.Y), scene, painter.stream("film"))


def _blend(canvas: Array, colour: Array, mask: Array) -> None:
    """In place: canvas towards colour where mask is 1. Shapes (h, w, 3), (3,) or (h, w, 3), (h, w)."""
    canvas += (colour - canvas) * mask[..., None]


def _lit(sunny: Array, shade: Array) -> Array:
    """(h, w, 3) light of brightness `shade`: warm where `sunny` is 1, the blue of the sky where it is 0."""
    part = np.minimum(sunny, 1)
    return np.stack([(sky + (sun - sky) * part) * shade for sky, sun in zip(SKYLIGHT, SUNLIGHT, strict=True)], -1)


class _Painter:
    """One picture in progress; holds what the steps share."""

    def __init__(self, scene: Scene, layout: SceneLayout) -> None:
        self.scene, self.layout = scene, layout
        self.width, self.height = ASPECTS[scene.aspect]
        self.canvas = np.zeros((self.height, self.width, 3), np.float32)
        self.X, self.Y = self._coordinates()
        self.index = np.clip(self.X * 700 + 160, 0, 1023).astype(np.int32)
        self.shift: list[int] = (
            self.stream("textures").integers(0, TILE, 16).tolist()
        )  # where each texture starts in its tile
        self.side = np.float32(1.0 if scene.light_x < 0.5 else -1.0)  # the side that the light comes from
        self._choose_colours()

    def stream(self, step: str) -> np.random.Generator:
        """A step's own random numbers, so that a change of one thing leaves the others where they are."""
        return np.random.default_rng([self.scene.seed, LAYOUT_STREAM + 1 + _STEPS.index(step)])

    def _coordinates(self) -> tuple[Array, Array]:
        """Scene coordinates of every pixel: rotated by the tilt, bent by the lens."""
        scene, height, width = self.scene, self.height, self.width
        x = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - width / 2) / width
        y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / width
        bend = 1 + scene.distortion * (x * x + y * y) * 4
        angle = np.deg2rad(scene.tilt_deg)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        turned_x, turned_y = (x * cos + y * sin) * bend, (y * cos - x * sin) * bend
        return turned_x + 0.5, turned_y * (width / height) + 0.5

    def _choose_colours(self) -> None:
        """Zenith, horizon, far land, near land, subject. A clash turns the land's hue away from the sky's."""
        scene, rng = self.scene, self.stream("colours")
        turns = scene.clash**1.2 * rng.choice((-1.0, 1.0)) * np.array([-0.06, 0.06, 0.08, -0.08, 0.25])
        colours = []
        for code, turn in zip(PALETTE_COLOURS[scene.palette], turns, strict=True):
            colour = linear_colour(code) * np.float32(rng.uniform(0.9, 1.1))
            turned = turned_hue(colour, turn + float(rng.normal(0, 0.008)))
            colours.append(saturated(turned, 0.95 + 0.75 * scene.clash))
        self.zenith, self.low_sky, self.far, self.near, self.subject_colour = colours

    def sky(self) -> None:
        """From an empty grey over light clouds to a storm with light that breaks through."""
        scene = self.scene
        drama = np.float32(scene.drama)
        grey = 0.55 * self.low_sky.mean() + 0.45 * self.zenith.mean()
        dull = np.float32(0.85 * (1 - drama) ** 1.5)
        top = self.zenith * (1 - dull) + np.float32(grey) * dull
        low = self.low_sky * (1 - dull) + np.float32(1.05 * grey) * dull
        # most of a sky's gradient lies low
        t = np.clip(self.Y / scene.horizon, 0, 1.15)[..., None] ** np.float32(1.5)
        self.canvas[:] = top * (1 - drama * np.float32(0.45)) * (1 - t) + low * t
        self._clouds()
        if scene.drama > 0.3:
            self._sun()

    def _clouds(self) -> None:
        scene, drama = self.scene, np.float32(self.scene.drama)
        up = np.maximum(scene.horizon - self.Y, -0.02) + np.float32(0.10)
        scale = np.float32(80.0) / (up + 0.5)  # clouds are a ceiling: smaller towards the horizon
        across = (self.X - 0.5) * scale + self.shift[0]
        along = np.float32(1.3) * scale + self.shift[1]
        tile = fine_tile(1.55)
        big = sample_fine_tile(tile, across, along)
        detail = sample_fine_tile(tile, across * 2.7, along * 2.7)
        density = big + 0.33 * detail
        lit = density - sample_fine_tile(tile, across - 5 * self.side, along + 4) - 0.33 * detail
        cover = smooth_step(density, 1.5 - 2.0 * scene.drama, 2.5 - 1.4 * scene.drama) * drama**0.5
        cover *= np.clip((scene.horizon - self.Y) * 16 + 0.4, 0, 1)
        white = 0.35 * self.low_sky + np.float32(0.55)
        storm = drama**1.6
        shade = np.exp2(np.clip(1.1 * lit, -1, 1) * (0.35 + 0.9 * drama) - storm * np.clip(density + 0.5, 0, 1.8))
        _blend(self.canvas, white * shade[..., None], cover * np.float32(0.92))
        self.canvas *= np.exp2(np.float32(0.55 * scene.drama**1.3) * np.clip(big, -2, 2))[..., None]

    def _sun(self) -> None:
        """The sun behind thin cloud: a wide glow, with a small bright core; it grows with the drama."""
        scene, rng = self.scene, self.stream("sun")
        cx, cy = scene.light_x, scene.horizon * float(rng.uniform(0.25, 0.8))
        ratio = self.height / self.width
        r2 = (self.X - cx) ** 2 + ((self.Y - cy) * ratio) ** 2
        size = 0.016 + 0.022 * scene.drama
        glow = 0.9 * np.exp(r2 / np.float32(-2 * (3.0 * size) ** 2)) + 0.35 / (1 + r2 / np.float32((4 * size) ** 2))
        warm = 0.5 * self.low_sky / self.low_sky.max() + 0.5
        core = smooth_step(-np.sqrt(r2), -1.7 * size, -0.4 * size)
        self.canvas += (glow * np.float32(0.9 * scene.drama) + 1.6 * core)[..., None] * warm

    def land(self) -> None:
        """Ridges from far to near; haze lightens the far ones, so separation shows the depth."""
        scene, rng = self.scene, self.stream("land")
        n = scene.layers
        for k in range(n):
            near = (k + 1) / n
            ground = k == n - 1
            peaked = 0.0 if ground else float(np.clip(0.75 - 0.8 * near + rng.normal(0, 0.1), 0, 0.8))
            line = ridge_line(rng, float(rng.uniform(0.42, 0.56)), peaked)
            # the last layer is the ground the subject stands on; the others rise behind it
            base = scene.horizon + (0.0 if ground else 0.02) + (near - 1) * (0.30 if n > 1 else 0)
            amplitude = 0.012 if ground else 0.085 - 0.06 * near
            height = base + amplitude * line[self.index]
            if not ground and near > 0.45:  # woods on the nearer hills
                height -= np.float32(0.012) * np.abs(noise_tile(0.45)[self.shift[2], self.index & (TILE - 1)])
            top = max(0, int((base - 0.11) * self.height - abs(scene.tilt_deg) * self.width * 0.012) - 2)
            # the next plane hides what lies lower
            reach = 0.16 + 0.30 / n + abs(scene.tilt_deg) * self.width * 0.012 / self.height
            band = np.s_[top:] if ground else np.s_[top : int((base + reach) * self.height) + 2]
            mask = np.clip((self.Y[band] - height[band]) * self.height + 0.5, 0, 1)
            colour = self._ground(band) if ground else self._ridge(k, near, height, band)
            _blend(self.canvas[band], colour, mask)

    def _ridge(self, k: int, near: float, height: Array, band: slice) -> Array:
        """A mountain or a hill: lit faces, mist at its foot."""
        scene = self.scene
        below = self.Y[band] - height[band]  # texture hangs from the crest
        scale = np.float32(260 - 110 * (1 - near))
        x = self.X[band] * scale + self.shift[3] + 97 * k
        faces = sample_fine_tile(fine_tile(None), x * self.side, below * scale * 1.5 + self.shift[4] + 31 * k)
        colour = self.far * (1 - near) + (0.35 * self.far + 0.65 * self.near) * near
        strength = np.float32(0.18 + 0.62 * scene.relief) * np.float32(scene.texture * (0.55 + 0.45 * near))
        sunny = faces * strength - np.float32(0.55) * scene.relief * np.abs(self.X[band] - scene.light_x)
        tone = 0.2 * np.sin(2.4 * k + self.shift[15]) - 0.35 * near  # nearer ridges are darker
        shade = np.exp2(np.clip(sunny, -1.8, 1.3) + np.float32(tone))
        if near < 0.4 and scene.palette in ("alpine", "coast") and scene.layers > 3:
            snow = smooth_step(faces * 0.5 - below * 22, -1.7, -0.7) * np.float32(0.7)
            colour = colour * (1 - snow[..., None]) + np.float32(0.62) * snow[..., None]
        lit = colour * _lit(shade * 0.6, shade)
        mist = np.clip(below * 7, 0, 1) * np.float32(0.35 * scene.haze)
        air = np.float32(0.82 * scene.haze * (1 - near) ** 0.8) + mist * np.float32(1 - 0.6 * near)
        veil = 0.75 * self.low_sky + 0.25 * self.zenith
        return lit * (1 - air)[..., None] + veil * air[..., None]

    def _ground(self, band: slice) -> Array:
        """The near ground in perspective: bumps, tufts and drifting shade."""
        scene = self.scene
        t = np.clip((self.Y[band] - scene.horizon) / np.float32(1 - scene.horizon), 0, 1.2)
        depth = 1 / (t + np.float32(0.07))
        x, z = (self.X[band] - 0.5) * depth * 150, depth * 150
        bumps = sample_tile(hillshade_tile(), x * self.side + self.shift[5], z + self.shift[6])
        tufts = sample_tile(noise_tile(0.45), x * 2.3 + self.shift[7], z * 2.3 + self.shift[8])
        patches = sample_fine_tile(fine_tile(1.55), x * 0.22 + self.shift[9], z * 0.45 + self.shift[10])
        near = np.clip(t * 2.2 + 0.25, 0, 1)  # detail fades with distance
        light = bumps * (np.float32(0.12 + 0.42 * scene.relief) * near) + tufts * (np.float32(0.34) * near)
        light *= np.float32(scene.texture)
        light += np.float32(0.16 + 0.38 * scene.relief) * np.clip(patches, -1.6, 1.4)
        light -= np.float32(0.55) * scene.relief * (np.abs(self.X[band] - scene.light_x) - 0.3)
        shade = np.exp2(np.clip(light, -2.0, 1.6) - np.float32(0.35) * np.clip(t, 0, 1))
        warm = np.clip(0.5 + 0.35 * patches, 0, 1)[..., None]
        colour = self.near * (1 - 0.3 * warm) + (0.8 * self.far + 0.2 * self.near) * (0.3 * warm)
        lit = colour * _lit(shade * 0.65, shade)
        air = np.float32(0.30 * scene.haze) * np.clip(1 - t * 3.5, 0, 1)
        return lit * (1 - air)[..., None] + self.low_sky * air[..., None]

    def path(self) -> None:
        """A worn track that narrows towards the horizon."""
        scene, rng = self.scene, self.stream("path")
        start, goal = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.35, 0.65))
        bend, phase = float(rng.uniform(0.2, 0.55)), float(rng.uniform(0, 6))
        if scene.path <= 0:
            return
        t = np.clip((self.Y - scene.horizon - 0.012) / (1 - scene.horizon), 0, 1.2)
        depth = 1 / (t + np.float32(0.12))
        middle = goal + (start - goal) * t + bend * np.sin(depth * 1.1 + phase) * t * (1 - 0.55 * t)
        half = (0.005 + 0.145 * t) * np.float32(0.35 + 0.65 * scene.path)
        rough = sample_tile(noise_tile(0.45), (self.X - 0.5) * depth * 260 + self.shift[11], depth * 260)
        gap = (half - np.abs(self.X - middle)) / (half + 0.004) + 0.10 * rough
        mask = np.clip(gap * 5, 0, 1) * np.clip(t * 40, 0, 1)
        rut = 1 - 0.22 * smooth_step(-np.abs(np.abs(self.X - middle) / half - 0.5), -0.22, -0.06)
        colour = (0.40 * self.low_sky + 0.35 * self.near + 0.06) * (rut * np.exp2(0.22 * rough))[..., None]
        _blend(self.canvas, colour, mask.astype(np.float32) * np.float32(0.85))

    def things(self) -> None:
        """The subject, then its rivals from far to near."""
        scene, rng = self.scene, self.stream("things")
        ground = self.near
        far = np.float32(0.80) if scene.subject_bright else np.float32(0.012)
        target = far * (0.4 * self.subject_colour / self.subject_colour.max() + 0.6)
        amount = np.float32(0.42 + 0.58 * scene.subject_contrast)
        self._stamp(self.layout.subject, ground * (1 - amount) + target * amount)
        for thing in self.layout.rivals:
            hue = float(rng.random())
            cloth = hue_colour(hue, 0.10 + 0.50 * scene.clash)
            self._stamp(thing, cloth * np.float32(rng.uniform(0.62, 0.85)))

    def _stamp(self, thing: PlacedThing, colour: Array) -> None:
        """Sets a sprite into the picture, with its shadow on the ground."""
        pixels = thing.size * min(self.height, self.width)
        u = (self.X - thing.x) * np.float32(self.width / pixels)
        v = (thing.foot - self.Y) * np.float32(self.height / pixels)
        inside = (np.abs(u) < RIGHT) & (v > LOW - 0.1) & (v < HIGH)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not rows.size:
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        u, v, canvas = u[box], v[box], self.canvas[box]
        self._shadow(canvas, u, v)
        drawing = sprite(thing.kind, thing.variant)
        level = int(np.clip(np.floor(np.log2(SIDE / pixels) + 0.35), 0, 3))
        cover, light = drawing.cover[level], drawing.light[level]
        scale = SIDE / 2**level
        column = ((-u if thing.mirrored else u) - LEFT) * scale - 0.5
        row = (HIGH - v) * scale - 0.5
        mask, lit = _sampled(cover, column, row), _sampled(light, column, row)
        relief = np.float32(0.65 + 0.35 * self.scene.relief)
        body = colour * (1 + (lit - 0.8) * relief)[..., None]
        _blend(canvas, np.maximum(body, 0.002), mask)

    def _shadow(self, canvas: Array, u: Array, v: Array) -> None:
        """A soft dark ellipse on the ground, away from the light."""
        scene = self.scene
        across = u - np.float32(0.22) * self.side
        r2 = (across / 0.55) ** 2 + ((v + 0.02) / 0.075) ** 2
        canvas *= (1 - np.float32(0.35 + 0.35 * scene.relief) * np.exp(-r2))[..., None]

    def mass(self) -> None:
        """A rock face in the shade that takes one whole side: the picture's weight leans there."""
        scene = self.scene
        line = ridge_line(self.stream("mass"), 0.55, 0.4)
        if abs(scene.mass) <= 0.08:
            return
        rows = np.clip(self.Y * 700 + 160, 0, 1023).astype(np.int32)
        inward = self.X if scene.mass < 0 else 1 - self.X
        edge = 0.36 * abs(scene.mass) ** 1.4 * (1 - 0.35 * (1 - self.Y)) + 0.022 * line[rows]
        mask = np.clip((edge - inward) * self.width * 0.7 + 0.5, 0, 1)
        x, y = self.X * 230 + self.shift[12], self.Y * 130 + self.shift[13]
        faces = sample_fine_tile(fine_tile(None), x, y)
        cracks = sample_tile(noise_tile(0.45), self.X * 500 + self.shift[14], self.Y * 300)
        stone = (0.10 * self.near + 0.05 * self.far) * np.exp2(0.55 * faces + 0.2 * cracks)[..., None]
        _blend(self.canvas, stone, mask.astype(np.float32))


def _sampled(image: Array, column: Array, row: Array) -> Array:
    """Bilinear samples of a sprite; 0 outside."""
    height, width = image.shape
    column, row = np.clip(column, 0, width - 1.001), np.clip(row, 0, height - 1.001)
    left, top = column.astype(np.int32), row.astype(np.int32)
    fx, fy = column - left, row - top
    upper = image[top, left] * (1 - fx) + image[top, left + 1] * fx
    lower = image[top + 1, left] * (1 - fx) + image[top + 1, left + 1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)
