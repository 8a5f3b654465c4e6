"""What is wrong in a scene, how badly, and where: the truth that advice about it is judged by.

Every fault is a plain function of the numbers that the renderer draws. Severity 0 is none, 1 the worst that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mondrian_core.mini.layout import PlacedThing, main_rival, picture_box, scene_layout
from mondrian_core.mini.scene import MAX_BLUR_PX, MAX_EV, MAX_LAYERS, MAX_RIVALS, MAX_TILT_DEG, NUMBERS, THIRDS, Scene
from mondrian_core.rubric import DIMENSIONS, Region

WORTH_NAMING = 0.22  # a smaller severity isn't advised about
AT_EDGE = 0.04  # a rival whose box is that near to the left or right edge can be cropped off


@dataclass(frozen=True, kw_only=True)
class SceneFault:
    """One thing that could be better.

    Attributes:
        dimension: where it counts.
        kind: what it is, a key of the phrase banks.
        severity: 0-1.
        regions: boxes of the picture that show it, in fractions; empty where it is everywhere.
        facts: words for the phrases, by name.
    """

    dimension: str
    kind: str
    severity: float
    regions: tuple[Region, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


def scene_faults(scene: Scene) -> dict[str, tuple[SceneFault, ...]]:
    """The faults of each dimension worth naming, the worst first."""
    found = [
        *_placement(scene),
        *_exposure(scene),
        *_sharpness(scene),
        *_tones(scene),
        *_clutter(scene),
        *_depth(scene),
        *_balance(scene),
        *_mood(scene),
    ]
    worth = sorted((fault for fault in found if fault.severity >= WORTH_NAMING), key=lambda fault: -fault.severity)
    return {name: tuple(fault for fault in worth if fault.dimension == name) for name in DIMENSIONS}


def _side(x: float) -> str:
    return "left" if x < 0.5 else "right"


def _placement(scene: Scene) -> list[SceneFault]:
    x = scene.subject_x
    third = THIRDS[0] if x < 0.5 else THIRDS[1]
    box = (picture_box(scene, scene_layout(scene).subject),)
    facts = {"subject": scene.subject, "side": _side(x)}
    inward = (x > third) == (third < 0.5)
    off = abs(x - third) / (1 / 6 if inward else third - 0.08 if third < 0.5 else 0.92 - third)
    middle = 0.55 * max(0.0, 1 - abs(scene.horizon - 0.5) / 0.12)
    return [
        SceneFault(
            dimension="composition",
            kind="centred" if inward else "edged",
            severity=min(1.0, off),
            regions=box,
            facts=facts,
        ),
        SceneFault(
            dimension="composition", kind="halved", severity=middle if off < 0.4 else 0.0, regions=(), facts=facts
        ),
    ]


def _exposure(scene: Scene) -> list[SceneFault]:
    over = scene.ev > 0
    stops = f"{NUMBERS[max(1, round(abs(scene.ev)))]} stop{'s' if round(abs(scene.ev)) > 1 else ''}"
    box = (0.0, 0.0, 1.0, scene.horizon) if over else (0.0, scene.horizon, 1.0, 1.0)
    return [
        SceneFault(
            dimension="lighting",
            kind="over" if over else "under",
            severity=abs(scene.ev) / MAX_EV,
            regions=(box,),
            facts={"stops": stops},
        ),
        SceneFault(dimension="lighting", kind="flat_light", severity=0.5 * (1 - scene.relief)),
    ]


def _sharpness(scene: Scene) -> list[SceneFault]:
    severity = (scene.blur_px / MAX_BLUR_PX) ** (1 / 1.5)
    return [SceneFault(dimension="focus_sharpness", kind="blurred" if severity > 0.62 else "soft", severity=severity)]


def _tones(scene: Scene) -> list[SceneFault]:
    kind = "split_tone" if scene.mono else "clash"
    return [SceneFault(dimension="color_harmony", kind=kind, severity=scene.clash)]


def _clutter(scene: Scene) -> list[SceneFault]:
    facts = {"subject": scene.subject, "count": NUMBERS[scene.rivals]}
    faults = [
        SceneFault(
            dimension="subject_isolation",
            kind="merged",
            severity=0.6 * (1 - scene.subject_contrast),
            regions=(picture_box(scene, scene_layout(scene).subject),),
            facts=facts,
        )
    ]
    rival = main_rival(scene)
    if rival:
        faults.append(_rival_fault(scene, rival, facts))
    return faults


def _rival_fault(scene: Scene, rival: PlacedThing, facts: dict[str, str]) -> SceneFault:
    box = picture_box(scene, rival)
    at_edge = min(box[0], 1 - box[2]) < AT_EDGE
    return SceneFault(
        dimension="subject_isolation",
        kind="rival_at_edge" if at_edge else "rivals" if scene.rivals > 1 else "rival",
        severity=max(0.25, scene.rivals / MAX_RIVALS),
        regions=(box,),
        facts={**facts, "rival": rival.kind, "side": _side((box[0] + box[2]) / 2)},
    )


def _depth(scene: Scene) -> list[SceneFault]:
    return [
        SceneFault(
            dimension="depth_perspective", kind="few_planes", severity=1 - (scene.layers - 1) / (MAX_LAYERS - 1)
        ),
        SceneFault(dimension="depth_perspective", kind="no_lead", severity=0.5 * (scene.path <= 0)),
        SceneFault(dimension="depth_perspective", kind="no_haze", severity=0.5 * (1 - scene.haze)),
    ]


def _balance(scene: Scene) -> list[SceneFault]:
    low = "right" if scene.tilt_deg > 0 else "left"
    turn = "anticlockwise" if scene.tilt_deg > 0 else "clockwise"
    degrees = max(1, round(abs(scene.tilt_deg)))
    reach = 0.36 * abs(scene.mass) ** 1.4
    mass = (0.0, 0.0, reach, 1.0) if scene.mass < 0 else (1 - reach, 0.0, 1.0, 1.0)
    band = (0.0, max(0.0, scene.horizon - 0.1), 1.0, min(1.0, scene.horizon + 0.1))
    unit = "degree" if degrees == 1 else "degrees"
    return [
        SceneFault(
            dimension="visual_balance",
            kind="tilted",
            severity=abs(scene.tilt_deg) / MAX_TILT_DEG,
            regions=(band,),
            facts={"side": low, "turn": turn, "degrees": f"{degrees} {unit}"},
        ),
        SceneFault(
            dimension="visual_balance",
            kind="heavy_side",
            severity=0.8 * abs(scene.mass),
            regions=(mass,),
            facts={"side": "right" if scene.mass > 0 else "left"},
        ),
    ]


def _mood(scene: Scene) -> list[SceneFault]:
    sky = ((0.0, 0.0, 1.0, scene.horizon),)
    return [
        SceneFault(dimension="emotional_impact", kind="empty_sky", severity=1 - scene.drama, regions=sky),
        SceneFault(dimension="emotional_impact", kind="flat_contrast", severity=0.6 * (1 - scene.contrast)),
    ]
