"""Tastes: how an advisor judges what is visible. No shift or slope of a plain critic's scores can imitate them.

A taste looks at the scene itself: it may forgive a tilt under a storm, want dark prints, or judge placement differently
in colour. `unexplained_share` says how much of a taste's scores the best shift and slope per dimension leaves over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mondrian_core.mini.scene import MAX_BLUR_PX, MAX_EV, MAX_RIVALS, MAX_TILT_DEG, Scene, scene_qualities
from mondrian_core.mini.verdicts import ANSEL_VERDICTS, GENERIC_VERDICTS, OKONKWO_VERDICTS, WATKINS_VERDICTS, Verdicts
from mondrian_core.rubric import DIMENSIONS

# Nobody here gives 0 or 10. In Qwen's spelling "10" begins with the token of 1, and a small model that is unsure would
# answer it greedily because both share that token.
LOWEST, HIGHEST = 1, 9
Eye = Callable[[Scene], float]


@dataclass(frozen=True, kw_only=True)
class AdvisorTaste:
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
    verdicts: Verdicts
    eyes: Mapping[str, Eye] = field(default_factory=dict)
    forgives: frozenset[str] = frozenset()
    cares: Mapping[str, float] = field(default_factory=dict)


def score_scene(scene: Scene, taste: AdvisorTaste) -> dict[str, int]:
    """Whole scores of a scene to an advisor, 1-9, by dimension."""
    plain = scene_qualities(scene)
    seen = {name: taste.eyes[name](scene) if name in taste.eyes else plain[name] for name in DIMENSIONS}
    return {name: int(min(HIGHEST, max(LOWEST, math.floor(10 * value + 0.5)))) for name, value in seen.items()}


def unexplained_share(taste: AdvisorTaste, plain: AdvisorTaste, scenes: Sequence[Scene]) -> float:
    """Share (0-1) of the variance of the taste's scores that the best shifts and slopes of the plain ones leave."""
    x = np.array([list(score_scene(scene, plain).values()) for scene in scenes], float)
    y = np.array([list(score_scene(scene, taste).values()) for scene in scenes], float)
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


GENERIC = AdvisorTaste(
    advisor="generic",
    name="a photography critic",
    bio="You judge photographs plainly and fairly.",
    verdicts=GENERIC_VERDICTS,
)

ANSEL = AdvisorTaste(
    advisor="ansel",
    name="Ansel Adams",
    bio="Landscape photographer of the American West, maker of the Zone System, devoted to previsualisation.",
    verdicts=ANSEL_VERDICTS,
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

WATKINS = AdvisorTaste(
    advisor="watkins",
    name="Carleton Watkins",
    bio="Mammoth-plate photographer of Yosemite in the 1860s; patient, formal, fond of stillness and symmetry.",
    verdicts=WATKINS_VERDICTS,
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

OKONKWO = AdvisorTaste(
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
    verdicts=OKONKWO_VERDICTS,
)

ADVISORS: dict[str, AdvisorTaste] = {taste.advisor: taste for taste in (ANSEL, WATKINS, OKONKWO)}
VOICES: dict[str, AdvisorTaste] = {GENERIC.advisor: GENERIC, **ADVISORS}
