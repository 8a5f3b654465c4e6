"""Tastes of the second generation: preferences that no shift or slope of a plain critic's scores can imitate.

A taste looks at the scene itself: it may forgive a tilt under a storm, want dark prints, or judge placement differently
in colour. `unexplained_share` says how much of a taste's scores the best shift and slope per dimension leaves over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mondrian_core.mini.scene import MAX_BLUR_PX, MAX_EV, MAX_RIVALS, MAX_TILT_DEG, Scene, scene_qualities
from mondrian_core.mini.tastes import ANSEL, GENERIC, WATKINS, Bands
from mondrian_core.rubric import DIMENSIONS

LOWEST, HIGHEST = 1, 9  # nobody gives 0 or 10, see mondrian_core.mini.tastes.AdvisorTaste
Eye = Callable[[Scene], float]


@dataclass(frozen=True, kw_only=True)
class PhotoTaste:
    """One advisor's eye.

    Attributes:
        advisor: id.
        name: as in prompts.
        bio: as in prompts.
        verdicts: weak (1-3), middling (4-6) and strong (7-9) phrases by dimension.
        eyes: quality (0-1) of a scene to this advisor, for the dimensions in which they don't judge plainly.
        forgives: kinds of faults that they never advise about.
        cares: weight of a dimension among the priorities; 1 where it isn't named.
    """

    advisor: str
    name: str
    bio: str
    verdicts: Mapping[str, Bands]
    eyes: Mapping[str, Eye] = field(default_factory=dict)
    forgives: frozenset[str] = frozenset()
    cares: Mapping[str, float] = field(default_factory=dict)


def taste_scores(scene: Scene, taste: PhotoTaste) -> dict[str, int]:
    """Whole scores of a scene to an advisor, 1-9, by dimension."""
    plain = scene_qualities(scene)
    seen = {name: taste.eyes[name](scene) if name in taste.eyes else plain[name] for name in DIMENSIONS}
    return {name: int(min(HIGHEST, max(LOWEST, math.floor(10 * value + 0.5)))) for name, value in seen.items()}


def unexplained_share(taste: PhotoTaste, plain: PhotoTaste, scenes: Sequence[Scene]) -> float:
    """Share (0-1) of the variance of the taste's scores that the best shifts and slopes of the plain ones leave."""
    x = np.array([list(taste_scores(scene, plain).values()) for scene in scenes], float)
    y = np.array([list(taste_scores(scene, taste).values()) for scene in scenes], float)
    left = 0.0
    for k in range(len(DIMENSIONS)):
        slope, shift = np.polyfit(x[:, k], y[:, k], 1)
        left += float(((y[:, k] - slope * x[:, k] - shift) ** 2).mean())
    return left / float(y.var(0).sum())


def _centre(scene: Scene) -> float:
    """1 in the middle of the picture, 0 at its sides."""
    return 1 - abs(scene.subject_x - 0.5) / 0.42


def _thirds(scene: Scene) -> float:
    return scene_qualities(scene)["composition"]


def _stormy(scene: Scene) -> float:
    return min(1.0, max(0.0, (scene.drama - 0.4) / 0.3))


# Ansel Adams: dark prints with storm skies; monochrome is judged by other rules than colour.
def _ansel_composition(scene: Scene) -> float:
    return 0.55 + 0.35 * _centre(scene) if scene.mono else _thirds(scene) - 0.1


def _ansel_lighting(scene: Scene) -> float:
    wanted = -0.9  # stops: he prints down
    return 0.95 - abs(scene.ev - wanted) / (MAX_EV + 0.4) + 0.1 * (scene.relief - 0.5)


def _ansel_color(scene: Scene) -> float:
    return 0.95 - 0.55 * scene.clash if scene.mono else 0.55 - 0.5 * scene.clash


def _ansel_balance(scene: Scene) -> float:
    tilt = abs(scene.tilt_deg) / MAX_TILT_DEG * (1 - 0.85 * _stormy(scene))
    return 0.95 - 0.75 * tilt - 0.25 * abs(scene.mass)


def _ansel_isolation(scene: Scene) -> float:
    plain = scene_qualities(scene)["subject_isolation"]
    return plain + (0.15 if scene.subject_bright else -0.2)


def _ansel_mood(scene: Scene) -> float:
    grand = 0.35 * (scene.layers >= 4) + 0.15 * scene.mono
    return 0.1 + 0.5 * scene.drama + grand


# Carleton Watkins: stillness, symmetry, bright plates; people and huts are part of the survey.
def _watkins_composition(scene: Scene) -> float:
    return 0.05 + 0.9 * _centre(scene)


def _watkins_lighting(scene: Scene) -> float:
    return 0.95 - abs(scene.ev - 0.9) / (MAX_EV + 0.4)


def _watkins_focus(scene: Scene) -> float:
    exposed_long = scene.drama > 0.6  # clouds that moved during a long exposure excuse softness
    return 1 - (0.45 if exposed_long else 1.0) * (scene.blur_px / MAX_BLUR_PX) ** (1 / 1.5)


def _watkins_color(scene: Scene) -> float:
    return 0.9 - 0.8 * scene.clash if scene.mono else 0.25 + 0.25 * (1 - scene.clash)


def _watkins_balance(scene: Scene) -> float:
    return 1 - 1.2 * abs(scene.tilt_deg) / MAX_TILT_DEG + 0.2 * abs(scene.mass)


def _watkins_mood(scene: Scene) -> float:
    return 0.95 - 1.6 * abs(scene.drama - 0.3) + 0.1 * (scene.haze - 0.5)


# Mira Okonkwo: colour and streets; life in the frame, lean and accent are welcome.
def _okonkwo_composition(scene: Scene) -> float:
    return 0.9 - 0.85 * _centre(scene) if not scene.mono else _thirds(scene) - 0.15


def _okonkwo_color(scene: Scene) -> float:
    return 0.15 + 0.1 * (1 - scene.clash) if scene.mono else 0.95 - 1.5 * abs(scene.clash - 0.45)


def _okonkwo_isolation(scene: Scene) -> float:
    lively = 1 - abs(scene.rivals - 3) / 3
    return 0.2 + 0.6 * lively + 0.2 * scene.subject_contrast


def _okonkwo_balance(scene: Scene) -> float:
    lean = abs(scene.tilt_deg) / MAX_TILT_DEG
    return (0.45 + 0.5 * lean if not scene.mono else 0.9 - 0.7 * lean) - 0.2 * abs(scene.mass)


def _okonkwo_focus(scene: Scene) -> float:
    blur = (scene.blur_px / MAX_BLUR_PX) ** (1 / 1.5)
    return 1 - (0.4 if scene.ev < -0.4 else 1.0) * blur  # a blur at night is movement


def _okonkwo_mood(scene: Scene) -> float:
    return 0.15 + 0.45 * scene.contrast + 0.35 * scene.rivals / MAX_RIVALS + 0.1 * (not scene.mono)


PLAIN = PhotoTaste(advisor=GENERIC.advisor, name=GENERIC.name, bio=GENERIC.bio, verdicts=GENERIC.verdicts)

ADAMS = PhotoTaste(
    advisor=ANSEL.advisor,
    name=ANSEL.name,
    bio=ANSEL.bio,
    verdicts=ANSEL.verdicts,
    eyes={
        "composition": _ansel_composition,
        "lighting": _ansel_lighting,
        "color_harmony": _ansel_color,
        "visual_balance": _ansel_balance,
        "subject_isolation": _ansel_isolation,
        "emotional_impact": _ansel_mood,
    },
    forgives=frozenset({"flat_light"}),
    cares={"lighting": 1.4, "focus_sharpness": 1.3, "emotional_impact": 1.1},
)

CARLETON = PhotoTaste(
    advisor=WATKINS.advisor,
    name=WATKINS.name,
    bio=WATKINS.bio,
    verdicts=WATKINS.verdicts,
    eyes={
        "composition": _watkins_composition,
        "lighting": _watkins_lighting,
        "focus_sharpness": _watkins_focus,
        "color_harmony": _watkins_color,
        "visual_balance": _watkins_balance,
        "emotional_impact": _watkins_mood,
    },
    forgives=frozenset({"centred", "halved", "heavy_side", "no_lead"}),
    cares={"visual_balance": 1.5, "depth_perspective": 1.3},
)

OKONKWO = PhotoTaste(
    advisor="okonkwo",
    name="Mira Okonkwo",
    bio="Colour and street photographer; loves life in the frame, strong accents and a restless horizon.",
    eyes={
        "composition": _okonkwo_composition,
        "color_harmony": _okonkwo_color,
        "subject_isolation": _okonkwo_isolation,
        "visual_balance": _okonkwo_balance,
        "focus_sharpness": _okonkwo_focus,
        "emotional_impact": _okonkwo_mood,
    },
    forgives=frozenset({"edged", "no_haze", "rival"}),
    cares={"color_harmony": 1.5, "emotional_impact": 1.3},
    verdicts={
        "composition": (
            ("nobody lives in this frame", "the frame has no nerve", "I would walk on past it"),
            ("the frame wakes up slowly", "I would step half a pace left", "it is a fair first frame"),
            ("the frame has nerve", "I would stop right here too", "everything meets at the right moment"),
        ),
        "lighting": (
            ("the light kills the street", "I see no skin in this light", "the meter was asleep"),
            ("the light does half the work", "I would come back at six", "the light is honest enough"),
            ("the light does the talking", "this light is worth the wait", "the light falls like a shout"),
        ),
        "focus_sharpness": (
            ("the lens missed the moment", "nothing holds still here", "I can't read a face in this"),
            ("it is sharp where it must be", "I would trust zone focus", "the moment is nearly held"),
            ("the moment is held", "every edge is awake", "zone focus did its job"),
        ),
        "color_harmony": (
            ("the colours say nothing", "I miss one brave red", "the palette is asleep"),
            ("the colours whisper", "one accent would wake it", "the palette nearly sings"),
            ("the colours sing", "the accent hits its mark", "I would wear this palette"),
        ),
        "subject_isolation": (
            ("I can't tell who matters", "the crowd eats the picture", "nobody takes the stage"),
            ("the hero is half seen", "I would wait for a gap", "the stage is nearly set"),
            ("the hero takes the stage", "life fills the frame gladly", "each shape has its part"),
        ),
        "depth_perspective": (
            ("it is a wall, not a place", "I can't walk into it", "the space is shut"),
            ("the space opens a little", "I would crouch lower", "there is room for one step"),
            ("I can walk right in", "the space pulls me forward", "layers of life go back and back"),
        ),
        "visual_balance": (
            ("the frame just stands there", "it sits too still", "the frame trips over itself"),
            ("the frame starts to dance", "it leans but won't jump", "the rhythm is half there"),
            ("the frame dances", "the lean gives it energy", "the rhythm is right"),
        ),
        "emotional_impact": (
            ("I feel no pulse", "nothing happened here", "it leaves my heart slow"),
            ("there is a faint pulse", "something nearly happened", "I smile, then move on"),
            ("my pulse jumps", "something happened here", "I want to know what came next"),
        ),
    },
)

VOICES: dict[str, PhotoTaste] = {taste.advisor: taste for taste in (PLAIN, ADAMS, CARLETON, OKONKWO)}
