"""Scenes: what a rendered photograph shows, and its quality in each dimension.

A `Scene` holds every number that `renderer.render_scene` needs. `sample_scene` draws a quality in 0..1 for each
dimension, nearly independently, and turns it into visible things (a tilted horizon, a blur radius, rival subjects).
`scene_qualities` computes the qualities from those visible things, so the truth is what the picture shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mondrian_core.rubric import DIMENSIONS

ASPECTS: dict[str, tuple[int, int]] = {
    "3:2": (384, 256),
    "2:3": (256, 384),
    "4:3": (384, 288),
    "1:1": (320, 320),
    "16:9": (400, 225),
    "4:5": (288, 360),
}
SUBJECTS = ("tree", "pine", "cabin", "rock", "figure", "tower")
PALETTES = ("alpine", "desert", "autumn", "dusk", "coast", "meadow")
THIRDS = (1 / 3, 2 / 3)
MAX_BLUR_PX = 5.0
MAX_TILT_DEG = 9.0
MAX_EV = 2.6
MAX_RIVALS = 6
MAX_LAYERS = 6
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One photograph to be rendered. Lengths are shares of the picture, angles degrees, blur pixels at 384 wide."""

    seed: int
    aspect: str
    mono: bool
    palette: str
    subject: str
    subject_x: float  # 0 left .. 1 right
    subject_size: float  # share of the picture's short side
    subject_contrast: float  # 0 sinks into the ground .. 1 stands out
    subject_bright: bool
    horizon: float  # 0 top .. 1 bottom
    ev: float  # stops away from a correct exposure
    relief: float  # 0 flat frontal light .. 1 low side light
    blur_px: float
    clash: float  # 0 one colour family .. 1 hues (or tones) that fight
    rivals: int
    layers: int
    haze: float
    path: float  # 0 none .. 1 a broad path converging on the horizon
    tilt_deg: float  # positive: the right side hangs lower
    mass: float  # -1 all weight left .. 1 all weight right
    drama: float  # 0 empty grey sky .. 1 storm, sun or moon
    contrast: float  # 0 flat .. 1 strong
    light_x: float
    grain: float
    vignette: float
    distortion: float
    texture: float


def sample_scene(rng: np.random.Generator) -> Scene:
    """A scene whose qualities, one per dimension, are drawn widely and nearly independently from `rng`."""
    quality = {name: float(rng.beta(1.1, 1.1)) for name in DIMENSIONS}
    mono = bool(rng.random() < 0.4)
    subject_x, horizon = _place(quality["composition"], rng)
    ev, relief = _light(quality["lighting"], rng)
    rivals, contrast = _isolate(quality["subject_isolation"], rng)
    layers, haze, path = _recede(quality["depth_perspective"], rng)
    tilt, mass = _weigh(quality["visual_balance"], subject_x, rng)
    drama = float(np.clip(quality["emotional_impact"] + rng.normal(0, 0.06), 0, 1))
    return Scene(
        seed=int(rng.integers(2**31)),
        aspect=str(rng.choice(list(ASPECTS), p=[0.3, 0.12, 0.16, 0.16, 0.14, 0.12])),
        mono=mono,
        palette=str(rng.choice(PALETTES)),
        subject=str(rng.choice(SUBJECTS)),
        subject_x=subject_x,
        subject_size=float(rng.uniform(0.26, 0.40)),
        subject_contrast=contrast,
        subject_bright=bool(rng.random() < 0.5),
        horizon=horizon,
        ev=ev,
        relief=relief,
        blur_px=float(MAX_BLUR_PX * (1 - quality["focus_sharpness"]) ** 1.5),
        clash=float(1 - quality["color_harmony"]),
        rivals=rivals,
        layers=layers,
        haze=haze,
        path=path,
        tilt_deg=tilt,
        mass=mass,
        drama=drama,
        contrast=float(np.clip(quality["emotional_impact"] + rng.normal(0, 0.12), 0, 1)),
        light_x=float(rng.uniform(0.1, 0.9)),
        grain=float(rng.uniform(0, 0.012)),
        vignette=float(rng.uniform(0, 0.35)),
        distortion=float(rng.uniform(-0.05, 0.05)),
        texture=float(rng.uniform(0.7, 1.3)),
    )


def _place(quality: float, rng: np.random.Generator) -> tuple[float, float]:
    """Subject x and horizon: quality 1 sits on a third, 0 dead in the centre or against an edge."""
    third = float(rng.choice(THIRDS))
    bad = 0.5 if rng.random() < 0.5 else (0.08 if third < 0.5 else 0.92)
    x = third + (bad - third) * (1 - quality)
    line = float(rng.choice((0.38, 0.62)))
    spread = np.clip(quality + rng.normal(0, 0.15), 0, 1)
    return float(x), float(line + (0.5 - line) * (1 - spread))


def _light(quality: float, rng: np.random.Generator) -> tuple[float, float]:
    relief = float(np.clip(quality + rng.normal(0, 0.15), 0, 1))
    error = MAX_EV * (1 - quality)
    return float(error if rng.random() < 0.45 else -error), relief


def _isolate(quality: float, rng: np.random.Generator) -> tuple[int, float]:
    rivals = int(np.clip(np.round(MAX_RIVALS * (1 - quality) + rng.normal(0, 0.3)), 0, MAX_RIVALS))
    return rivals, float(np.clip(quality + rng.normal(0, 0.12), 0, 1))


def _recede(quality: float, rng: np.random.Generator) -> tuple[int, float, float]:
    layers = int(np.clip(np.round(1 + (MAX_LAYERS - 1) * quality + rng.normal(0, 0.4)), 1, MAX_LAYERS))
    haze = float(np.clip(quality + rng.normal(0, 0.12), 0, 1))
    path = float(np.clip(quality + rng.normal(0, 0.2), 0, 1))
    return layers, haze, path if path > 0.35 else 0.0


def _weigh(quality: float, subject_x: float, rng: np.random.Generator) -> tuple[float, float]:
    tilt = float(np.clip((1 - quality) + rng.normal(0, 0.08), 0, 1)) * MAX_TILT_DEG
    mass = float(np.clip((1 - quality) + rng.normal(0, 0.10), 0, 1))
    side = -1.0 if subject_x > 0.55 else 1.0 if subject_x < 0.45 else float(rng.choice((-1, 1)))
    return tilt * float(rng.choice((-1, 1))), mass * side


def scene_qualities(scene: Scene) -> dict[str, float]:
    """Visible quality of each dimension, 0..1, a plain function of what the renderer draws."""
    off_third = min(_off_third(scene.subject_x), 1.0)
    off_line = min(abs(scene.horizon - line) for line in (0.38, 0.62)) / 0.12
    return {
        "composition": 0.85 * (1 - off_third) + 0.15 * (1 - off_line),
        "lighting": 0.8 * (1 - abs(scene.ev) / MAX_EV) + 0.2 * scene.relief,
        "focus_sharpness": 1 - (scene.blur_px / MAX_BLUR_PX) ** (1 / 1.5),
        "color_harmony": 1 - scene.clash,
        "subject_isolation": 0.75 * (1 - scene.rivals / MAX_RIVALS) + 0.25 * scene.subject_contrast,
        "depth_perspective": 0.5 * (scene.layers - 1) / (MAX_LAYERS - 1) + 0.25 * scene.haze + 0.25 * scene.path,
        "visual_balance": 1 - 0.6 * abs(scene.tilt_deg) / MAX_TILT_DEG - 0.4 * abs(scene.mass),
        "emotional_impact": 0.7 * scene.drama + 0.3 * scene.contrast,
    }


def _off_third(x: float) -> float:
    """Distance from the nearest third, 0..1, where 1 is the centre or 0.08 from an edge."""
    third = THIRDS[0] if x < 0.5 else THIRDS[1]
    towards_centre = (x > third) == (third < 0.5)
    return abs(x - third) / (1 / 6 if towards_centre else third - 0.08 if third < 0.5 else 0.92 - third)
