"""Where the things of a scene stand: the subject and its rivals, in the scene and as boxes of the picture.

The renderer draws by it and the advice points by it, so that a recommendation's region is on what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mondrian_core.mini.scene import ASPECTS, Scene
from mondrian_core.rubric import Region

RIVAL_KINDS = ("rock", "cabin", "figure", "sign", "tent")
FOOT_BELOW_HORIZON = 0.10  # where the subject stands, share of the height
LAYOUT_STREAM = 2  # of the random numbers of a scene's seed; the renderer's steps have the next ones
# half width of each kind as a share of its height
HALF_WIDTHS = {
    "tree": 0.46,
    "pine": 0.30,
    "cabin": 0.60,
    "rock": 0.62,
    "figure": 0.20,
    "tower": 0.20,
    "sign": 0.32,
    "tent": 0.62,
}


@dataclass(frozen=True, kw_only=True)
class PlacedThing:
    """A thing that stands in the scene.

    Attributes:
        kind: a name of `HALF_WIDTHS`.
        x, foot: where it stands, in scene coordinates (0-1; before tilt and lens).
        size: height as a share of the picture's short side.
        variant: which of the drawings of its kind.
        mirrored: True draws it as in a mirror.
    """

    kind: str
    x: float
    foot: float
    size: float
    variant: int
    mirrored: bool


@dataclass(frozen=True)
class SceneLayout:
    """The subject and its rivals, from the farthest rival to the nearest."""

    subject: PlacedThing
    rivals: tuple[PlacedThing, ...]


def scene_layout(scene: Scene) -> SceneLayout:
    """The places of subject and rivals; the same scene has the same layout."""
    rng = np.random.default_rng([scene.seed, LAYOUT_STREAM])
    foot = scene.horizon + FOOT_BELOW_HORIZON + 0.04 * float(rng.random())
    subject = PlacedThing(
        kind=scene.subject,
        x=scene.subject_x,
        foot=foot,
        size=scene.subject_size,
        variant=int(rng.integers(3)),
        mirrored=scene.light_x > scene.subject_x,
    )
    rivals = []
    for k in range(scene.rivals):
        x = (k + float(rng.uniform(0.2, 0.8))) / scene.rivals
        if abs(x - scene.subject_x) < 0.11:
            x = scene.subject_x + (0.14 if x > scene.subject_x else -0.14)
        x = float(np.clip(x, 0.04, 0.96))
        lower = min(0.97, foot + float(rng.uniform(0.08, 0.34)))
        kind = str(rng.choice(RIVAL_KINDS))
        small = 0.8 if kind in ("rock", "tent") else 1.0  # wide things are lower
        size = small * float(rng.uniform(0.12, 0.17))
        rivals.append(
            PlacedThing(kind=kind, x=x, foot=lower, size=size, variant=int(rng.integers(3)), mirrored=scene.light_x > x)
        )
    return SceneLayout(subject, tuple(sorted(rivals, key=lambda thing: thing.foot)))


def picture_box(scene: Scene, thing: PlacedThing) -> Region:
    """The upright box around a thing as drawn, in fractions of the picture, cut at its edges."""
    width, height = ASPECTS[scene.aspect]
    tall = thing.size * min(width, height) / height
    half = thing.size * HALF_WIDTHS[thing.kind] * min(width, height) / width
    corners = [
        _picture_point(scene, x, y)
        for x in (thing.x - half, thing.x + half)
        for y in (thing.foot - tall, thing.foot + 0.01)
    ]
    left, right = (f(x for x, _ in corners) for f in (min, max))
    top, bottom = (f(y for _, y in corners) for f in (min, max))
    return max(0.0, left), max(0.0, top), min(1.0, right), min(1.0, bottom)


def main_rival(scene: Scene) -> PlacedThing | None:
    """The rival that stands nearest to the camera; None without rivals."""
    return scene_layout(scene).rivals[-1] if scene.rivals else None


def _picture_point(scene: Scene, x: float, y: float) -> tuple[float, float]:
    """Where a point of the scene appears in the picture, in fractions: turned by the tilt, bent by the lens."""
    width, height = ASPECTS[scene.aspect]
    across, down = x - 0.5, (y - 0.5) * height / width
    bend = 1.0
    for _ in range(3):  # the renderer bends the other way round; a few turns invert it
        bend = 1 + scene.distortion * 4 * (across**2 + down**2) / bend**2
    across, down = across / bend, down / bend
    angle = np.deg2rad(scene.tilt_deg)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return across * cos - down * sin + 0.5, (across * sin + down * cos) * width / height + 0.5
