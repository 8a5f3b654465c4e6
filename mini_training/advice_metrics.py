"""How good mini's advice is: whether it names the scene's true faults, and where its boxes lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.mini.advice_phrases import PRIORITIES, RECOMMENDATIONS, Phrases
from mondrian_core.mini.scene import Scene
from mondrian_core.mini.scene_critic import GENERIC, advised_faults, by_priority, score_scene, written_region
from mondrian_core.mini.scene_faults import SceneFault, scene_faults
from mondrian_core.rubric import Critique, Region
from mondrian_core.text_quality import critique_text_problem


@dataclass(frozen=True)
class AdviceAnswer:
    """What the model wrote about one scene in the advice form; None where it can't be read strictly."""

    scene: Scene
    critique: Critique | None


def kind_of_priority(text: str) -> str | None:
    """Which fault a priority names; None for words that none of the phrases has."""
    return _kind_of(text, [PRIORITIES])


def kind_of_recommendation(text: str) -> str | None:
    """Which fault a recommendation is about, in any voice's words; None for words that none of the phrases has."""
    return _kind_of(text, RECOMMENDATIONS.values())


def _kind_of(text: str, banks: Iterable[Phrases]) -> str | None:
    for bank in banks:
        for kind, phrases in bank.items():
            if any(_pattern(phrase).fullmatch(text) for phrase in phrases):
                return kind
    return None


@cache
def _pattern(phrase: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(phrase)))


def worst_faults(scene: Scene) -> list[SceneFault]:
    """The true faults that matter most to a plain critic: one, or several with the same score."""
    scores = score_scene(scene, GENERIC)
    faults = by_priority(advised_faults(scene, scores, GENERIC), scores, GENERIC)
    return [fault for fault in faults if scores[fault.dimension] == scores[faults[0].dimension]]


def overlap(first: Region, second: Region) -> float:
    """Intersection over union of two boxes, 0-1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def advice_metrics(answers: Sequence[AdviceAnswer]) -> dict[str, Any]:
    """Shares (0-1) of answers that are read strictly, that name the worst fault first, and how well boxes lie.

    `true_recommendations` is over all recommendations given: those about a fault that their dimension has in the scene.
    `worst_fault_named` is over the scenes that have a fault worth naming, `box_overlap` over the dimensions for which
    both the scene and the answer have a box, `boxes_given` over those for which the scene has one.
    """
    named, overlaps, due = [], [], 0
    true: list[bool] = []
    for answer in answers:
        present = scene_faults(answer.scene)
        for name, text in (answer.critique.recommendations if answer.critique else {}).items():
            true.append(kind_of_recommendation(text) in {fault.kind for fault in present[name]})
        faults = advised_faults(answer.scene, score_scene(answer.scene, GENERIC), GENERIC)
        if not faults:
            continue
        given = answer.critique.priority_improvements if answer.critique else ()
        named.append(bool(given) and kind_of_priority(given[0]) in {fault.kind for fault in worst_faults(answer.scene)})
        boxes = answer.critique.regions if answer.critique else {}
        for fault in faults:
            due += bool(fault.regions)
            if fault.regions and boxes.get(fault.dimension):
                overlaps.append(overlap(written_region(fault.regions[0]), boxes[fault.dimension][0]))
    return {
        "photographs": len(answers),
        "compliance": _rounded(np.mean([answer.critique is not None for answer in answers])),
        "worst_fault_named": _rounded(np.mean(named)) if named else None,
        "true_recommendations": _rounded(np.mean(true)) if true else None,
        "boxes_given": _rounded(len(overlaps) / due) if due else None,
        "box_overlap": _rounded(np.mean(overlaps)) if overlaps else None,
    }


def readable_share(texts: Sequence[str]) -> float:
    """Share (0-1) of answers that are read strictly and in which no text is repeated or empty."""
    readable = [
        critique is not None and critique_text_problem(critique) is None for critique in map(read_critique, texts)
    ]
    return _rounded(np.mean(readable))


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def read_critique(text: str) -> Critique | None:
    """The critique of an answer; None where it can't be read strictly."""
    try:
        return parse_critique_strict(text)
    except CritiqueParseError:
        return None
