"""Tastes: how an advisor turns what is visible into a score, and in which words.

Verdicts are three tuples per dimension: weak (0-3), middling (4-6), strong (7-10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mondrian_core.mini.scene import Scene

Bands = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class AdvisorTaste:
    """One advisor's eye. A score is pivot + slope * (visible - pivot) + offset + habits, within lowest..highest.

    Nobody here gives 0 or 10. In Qwen's spelling "10" begins with the token of 1, and a small model that is unsure
    would answer it greedily because both share that token.
    """

    advisor: str
    name: str
    bio: str
    verdicts: Mapping[str, Bands]
    offset: Mapping[str, float] = field(default_factory=dict)
    slope: Mapping[str, float] = field(default_factory=dict)
    pivot: float = 5.0
    lowest: int = 1
    highest: int = 9
    mono_bonus: Mapping[str, float] = field(default_factory=dict)
    colour_bonus: Mapping[str, float] = field(default_factory=dict)
    blown_penalty: float = 0.0  # lighting, per stop of overexposure
    clutter_penalty: float = 0.0  # subject_isolation, per rival beyond the second
    deep_mono_bonus: float = 0.0  # depth and emotion of a monochrome with four or more planes

    def habit_points(self, name: str, scene: Scene) -> float:
        """What this advisor adds for things they care about, in points."""
        value = (self.mono_bonus if scene.mono else self.colour_bonus).get(name, 0.0)
        if name == "lighting" and scene.ev > 0.5:
            value -= self.blown_penalty * scene.ev
        if name == "subject_isolation":
            value -= self.clutter_penalty * max(0, scene.rivals - 2)
        if name in ("depth_perspective", "emotional_impact") and scene.mono and scene.layers >= 4:
            value += self.deep_mono_bonus
        return value


GENERIC = AdvisorTaste(
    advisor="generic",
    name="a photography critic",
    bio="You judge photographs plainly and fairly.",
    verdicts={
        "composition": (
            ("the placement is weak", "the frame feels unplanned", "the arrangement falls apart"),
            ("the placement is acceptable", "the frame works in part", "the arrangement is ordinary"),
            ("the placement is strong", "the frame is well planned", "the arrangement guides the eye"),
        ),
        "lighting": (
            ("the exposure is poor", "the light is badly handled", "much tone is lost"),
            ("the exposure is fair", "the light is usable", "some tone is lost"),
            ("the exposure is good", "the light is well handled", "the tones are complete"),
        ),
        "focus_sharpness": (
            ("the picture is out of focus", "detail is lost", "nothing is sharp"),
            ("the picture is a little soft", "detail is fair", "the focus is not exact"),
            ("the picture is sharp", "detail is excellent", "the focus is exact"),
        ),
        "color_harmony": (
            ("the palette does not agree", "the tones disturb", "the treatment is harsh"),
            ("the palette is uneven", "the tones agree in part", "the treatment is passable"),
            ("the palette agrees", "the tones sit well together", "the treatment is consistent"),
        ),
        "subject_isolation": (
            ("the subject gets lost", "the scene is crowded", "the eye wanders"),
            ("the subject holds on", "the scene is a little busy", "the eye finds its way"),
            ("the subject stands clear", "the scene is clean", "the eye rests at once"),
        ),
        "depth_perspective": (
            ("the space is flat", "there is little depth", "the scene lacks distance"),
            ("the space is moderate", "there is some depth", "the distance is suggested"),
            ("the space is deep", "there is great depth", "the distance is convincing"),
        ),
        "visual_balance": (
            ("the frame tips over", "the weight is lopsided", "the picture is unstable"),
            ("the frame is nearly steady", "the weight is uneven", "the picture is a bit unsettled"),
            ("the frame is steady", "the weight is even", "the picture is stable"),
        ),
        "emotional_impact": (
            ("there is little feeling", "the mood is dull", "the picture leaves one cold"),
            ("there is some feeling", "the mood is mild", "the picture pleases"),
            ("there is strong feeling", "the mood is powerful", "the picture stays in mind"),
        ),
    },
)

ANSEL = AdvisorTaste(
    advisor="ansel",
    name="Ansel Adams",
    bio="Landscape photographer of the American West, maker of the Zone System, devoted to previsualisation.",
    offset={
        "composition": 0.8,
        "lighting": -1.2,
        "focus_sharpness": -1.5,
        "color_harmony": 0.3,
        "subject_isolation": -0.8,
        "depth_perspective": 1.3,
        "visual_balance": -0.9,
        "emotional_impact": 1.4,
    },
    slope={
        "composition": 0.7,
        "lighting": 1.1,
        "focus_sharpness": 1.15,
        "emotional_impact": 0.75,
        "visual_balance": 0.8,
    },
    mono_bonus={"color_harmony": 1.4, "emotional_impact": 0.6},
    colour_bonus={"color_harmony": -2.2, "emotional_impact": -0.6},
    blown_penalty=0.9,
    clutter_penalty=0.5,
    deep_mono_bonus=1.0,
    verdicts={
        "composition": (
            ("I see no previsualisation here", "I would move the camera", "this was taken, not made"),
            ("I feel a picture beginning", "I would wait and step aside", "the ground glass asks for more"),
            ("I recognise a previsualised frame", "this was made, not taken", "I would set my tripod there too"),
        ),
        "lighting": (
            ("the Zone scale has collapsed", "I can print no detail from this", "the negative is lost"),
            ("I would place the shadows higher", "the zones are nearly right", "I would meter once more"),
            ("the zones fall where they must", "I could print this straight", "the negative holds everything"),
        ),
        "focus_sharpness": (
            ("I cannot forgive a fuzzy image", "the lens was not stopped down", "f/64 would weep"),
            ("I want a smaller aperture", "the lens could give more", "I would refocus under the cloth"),
            ("this is the f/64 clarity I seek", "the lens resolves every leaf", "I admire the fine definition"),
        ),
        "color_harmony": (
            ("I would leave colour aside", "the values quarrel in print", "I hear noise, not music"),
            ("I would translate this to grey", "the values are half resolved", "I would filter deep yellow"),
            ("the values sing in print", "I hear a full tonal scale", "the greys are orchestrated"),
        ),
        "subject_isolation": (
            ("I would clear the stage", "I cannot tell what was seen", "simplify, always simplify"),
            ("I would simplify the ground", "the seeing is half done", "a longer lens would help"),
            ("I know at once what was seen", "the seeing is simple and true", "nothing here is wasted"),
        ),
        "depth_perspective": (
            ("I find no distance in the land", "the valley is missing", "the plane is a wall"),
            ("I begin to feel the valley", "I would seek higher ground", "the planes half open"),
            ("I feel the whole valley open", "the planes recede as in Yosemite", "the distance breathes"),
        ),
        "visual_balance": (
            ("I would level the camera", "the masses fall off the print", "the tripod was careless"),
            ("I would adjust the masses", "the level needs a touch", "the print nearly rests"),
            ("the masses rest in the print", "the camera stood level and sure", "I feel at rest here"),
        ),
        "emotional_impact": (
            ("I felt nothing of the mountain", "the equivalent is missing", "I would wait for weather"),
            ("I sense a quiet equivalent", "I would wait for clearing storm", "the spirit stirs a little"),
            ("I feel the grandeur of the place", "the equivalent is complete", "this performance of light moves me"),
        ),
    },
)

WATKINS = AdvisorTaste(
    advisor="watkins",
    name="Carleton Watkins",
    bio="Mammoth-plate photographer of Yosemite in the 1860s; patient, formal, fond of stillness and symmetry.",
    offset={
        "composition": -1.0,
        "lighting": 1.2,
        "focus_sharpness": 0.8,
        "color_harmony": -0.6,
        "subject_isolation": 1.3,
        "depth_perspective": -1.1,
        "visual_balance": 1.2,
        "emotional_impact": -1.4,
    },
    slope={"visual_balance": 1.2, "emotional_impact": 0.6, "lighting": 0.8},
    mono_bonus={"color_harmony": 1.2},
    verdicts={
        name: (
            (f"{weak}", f"the plate is wasted on this {noun}"),
            (f"{fair}", f"the plate records a fair {noun}"),
            (f"{good}", f"the plate is worthy of this {noun}"),
        )
        for name, noun, weak, fair, good in (
            ("composition", "view", "the stand was ill chosen", "the stand will serve", "the stand was well chosen"),
            ("lighting", "light", "the collodion saw little", "the collodion saw enough", "the collodion drank it in"),
            ("focus_sharpness", "detail", "the great lens was idle", "the lens did its duty", "the great lens excels"),
            ("color_harmony", "tone", "the tones jar", "the tones are sober", "the tones are noble"),
            ("subject_isolation", "monument", "the monument is hidden", "the monument shows", "the monument commands"),
            ("depth_perspective", "vista", "the vista is shut", "the vista is narrow", "the vista is immense"),
            ("visual_balance", "poise", "the poise is broken", "the poise is uncertain", "the poise is perfect"),
            ("emotional_impact", "silence", "the silence is empty", "the silence is gentle", "the silence is grand"),
        )
    },
)

ADVISORS: dict[str, AdvisorTaste] = {taste.advisor: taste for taste in (ANSEL, WATKINS)}
