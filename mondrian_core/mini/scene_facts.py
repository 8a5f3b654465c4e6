"""What can be seen in a scene, as short clauses by dimension."""

from __future__ import annotations

from mondrian_core.mini.scene import MAX_BLUR_PX, NUMBERS, Scene


def visible_facts(scene: Scene) -> dict[str, tuple[str, ...]]:
    """Visible facts of the scene, as short clauses by dimension."""
    return {
        "composition": _placement(scene),
        "lighting": _exposure(scene),
        "focus_sharpness": _focus(scene),
        "color_harmony": _tones(scene),
        "subject_isolation": _rivals(scene),
        "depth_perspective": _depth(scene),
        "visual_balance": _balance(scene),
        "emotional_impact": _mood(scene),
    }


def _placement(scene: Scene) -> tuple[str, ...]:
    x, what = scene.subject_x, scene.subject
    side = "left" if x < 0.5 else "right"
    if abs(x - 0.5) < 0.06:
        return (f"the {what} stands dead centre", f"the {what} sits in the middle")
    if x < 0.17 or x > 0.83:
        return (f"the {what} is pushed to the {side} edge", f"the {side} edge crowds the {what}")
    if min(abs(x - 1 / 3), abs(x - 2 / 3)) < 0.06:
        return (f"the {what} stands on the {side} third", f"the {side} third carries the {what}")
    return (f"the {what} stands a little off the {side} third",)


def _exposure(scene: Scene) -> tuple[str, ...]:
    over = scene.ev > 0
    size = abs(scene.ev)
    if size > 1.6:
        return ("the highlights burn out",) if over else ("the shadows go black",)
    if size > 0.7:
        return ("it is a stop too bright",) if over else ("it is a stop too dark",)
    return ("side light shapes the land",) if scene.relief > 0.55 else ("every tone is held",)


def _focus(scene: Scene) -> tuple[str, ...]:
    share = scene.blur_px / MAX_BLUR_PX
    if share > 0.55:
        return ("the whole view is blurred", "edges smear everywhere")
    if share > 0.22:
        return ("edges are soft", "fine texture is smoothed away")
    if share > 0.06:
        return ("texture is slightly soft",)
    return ("texture is crisp throughout", "every blade is drawn")


def _tones(scene: Scene) -> tuple[str, ...]:
    if scene.mono:
        names = ("the greys are pure", "a faint split tone shows", "split toning stains the greys")
    else:
        names = ("the hues are one family", "the hues drift apart", "the hues clash loudly")
    return (names[0 if scene.clash < 0.33 else 1 if scene.clash < 0.66 else 2],)


def _rivals(scene: Scene) -> tuple[str, ...]:
    if scene.rivals == 0:
        return (f"nothing competes with the {scene.subject}",)
    count = NUMBERS[scene.rivals]
    if scene.rivals == 1:
        return (f"one bright shape competes with the {scene.subject}",)
    return (f"{count} bright shapes compete", f"{count} rivals surround the {scene.subject}")


def _depth(scene: Scene) -> tuple[str, ...]:
    if scene.layers == 1:
        planes = "a single plane"
    else:
        planes = f"{NUMBERS[scene.layers]} planes"
    lead = "a path leads in" if scene.path > 0.35 else "no path leads in"
    return (f"{planes}, {lead}", f"{planes} in {'deep haze' if scene.haze > 0.55 else 'clear air'}")


def _balance(scene: Scene) -> tuple[str, ...]:
    side = "right" if scene.tilt_deg > 0 else "left"
    heavy = "right" if scene.mass > 0 else "left"
    if abs(scene.tilt_deg) > 5:
        return (f"the horizon falls to the {side}",)
    if abs(scene.mass) > 0.5:
        return (f"a dark mass weighs on the {heavy}",)
    if abs(scene.tilt_deg) > 2:
        return (f"the horizon leans {side}",)
    return ("the horizon is level",)


def _mood(scene: Scene) -> tuple[str, ...]:
    if scene.drama < 0.33:
        return ("the sky is an empty grey",)
    if scene.drama < 0.66:
        return ("a calm sky with a soft sun", "light cloud drifts over the land")
    return ("a storm sky glows", "cloud and sun break over the land")
