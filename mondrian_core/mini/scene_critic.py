"""Writes an advisor's critique of a scene: scores and comments, recommendations with boxes, strengths, priorities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mondrian_core.mini.advice_phrases import PRIORITIES, RECOMMENDATIONS, STRENGTHS
from mondrian_core.mini.scene import Scene
from mondrian_core.mini.scene_facts import visible_facts
from mondrian_core.mini.scene_faults import SceneFault, scene_faults
from mondrian_core.mini.tastes import ADVISORS, ANSEL, GENERIC, OKONKWO, VOICES, WATKINS, AdvisorTaste, score_scene
from mondrian_core.rubric import DIMENSIONS, MAX_PRIORITIES, REGION_SCALE, Assessment, Critique, Region, make_critique

__all__ = [
    "ADVISORS",
    "ANSEL",
    "GENERIC",
    "OKONKWO",
    "VOICES",
    "WATKINS",
    "AdvisorTaste",
    "advised_faults",
    "by_priority",
    "compose_critique",
    "score_scene",
    "write_scene_critique",
    "written_region",
]

GOOD = 7  # a dimension with this score gets no advice, and may be named as a strength
MOST_STRENGTHS = 2
_STEP = 10  # boxes are written in hundredths, spelled in thousandths: fewer different numbers to learn


def advised_faults(scene: Scene, scores: Mapping[str, int], taste: AdvisorTaste) -> list[SceneFault]:
    """What the advisor advises about: one fault for each dimension scored below `GOOD`, in the order of the rubric.

    A fault that the advisor forgives isn't advised about, whatever the score.
    """
    chosen = []
    for name, faults in scene_faults(scene).items():
        blamed = [fault for fault in faults if fault.kind not in taste.forgives]
        if scores[name] < GOOD and blamed:
            chosen.append(blamed[0])
    return chosen


def by_priority(faults: list[SceneFault], scores: Mapping[str, int], taste: AdvisorTaste) -> list[SceneFault]:
    """The faults, first the one whose low score matters most to the advisor."""
    loss = {fault.kind: (10 - scores[fault.dimension]) * taste.cares.get(fault.dimension, 1.0) for fault in faults}
    return sorted(faults, key=lambda fault: (-loss[fault.kind], -fault.severity))


def write_scene_critique(scene: Scene, taste: AdvisorTaste, rng: np.random.Generator) -> Critique:
    """A critique of `scene` in the taste's scores and words, with advice; `rng` chooses among phrasings only."""
    return compose_critique(scene, score_scene(scene, taste), taste, rng)


def compose_critique(
    scene: Scene, scores: Mapping[str, int], taste: AdvisorTaste, rng: np.random.Generator
) -> Critique:
    """A critique with advice that fits the given scores (1-9), in the taste's words.

    Args:
        scene: what is shown.
        scores: by dimension, not necessarily the taste's own.
        taste: whose words and priorities.
        rng: chooses among phrasings.
    """
    critique = _compose_comments(scene, scores, taste, rng)
    faults = advised_faults(scene, scores, taste)
    told = RECOMMENDATIONS[taste.advisor]
    assessments: dict[str, Assessment] = dict(critique.assessments)
    for fault in faults:
        assessments[fault.dimension] = replace(
            assessments[fault.dimension],
            recommendation=str(rng.choice(told[fault.kind])).format(**fault.facts),
            regions=tuple(map(written_region, fault.regions)),
        )
    best = sorted((name for name in DIMENSIONS if scores[name] >= GOOD), key=lambda name: -scores[name])
    return replace(
        critique,
        assessments=assessments,
        strengths=tuple(
            str(rng.choice(STRENGTHS[taste.advisor][name])).format(subject=scene.subject)
            for name in best[:MOST_STRENGTHS]
        ),
        priority_improvements=tuple(
            PRIORITIES[fault.kind][0].format(**fault.facts)
            for fault in by_priority(faults, scores, taste)[:MAX_PRIORITIES]
        ),
    )


def _compose_comments(
    scene: Scene, scores: Mapping[str, int], taste: AdvisorTaste, rng: np.random.Generator
) -> Critique:
    """Scores and comments alone: the scene's facts, with verdicts that fit the given scores, in the taste's words.

    Args:
        scene: what is shown.
        scores: by dimension, 1-9.
        taste: whose words.
        rng: chooses among phrasings.
    """
    seen, comments = visible_facts(scene), {}
    for name in DIMENSIONS:
        band = 0 if scores[name] <= 3 else 1 if scores[name] <= 6 else 2
        fact, verdict = str(rng.choice(seen[name])), str(rng.choice(taste.verdicts[name][band]))
        first, second = (fact, verdict) if rng.random() < 0.5 else (verdict, fact)
        comments[name] = f"{first[0].upper()}{first[1:]}; {second}."
    return make_critique(scores, comments)


def written_region(region: Region) -> Region:
    """The box in hundredths, at least one wide and high."""
    left, top, right, bottom = (round(value * REGION_SCALE / _STEP) * _STEP / REGION_SCALE for value in region)
    least = _STEP / REGION_SCALE
    left, top = min(left, 1 - least), min(top, 1 - least)
    return left, top, max(right, left + least), max(bottom, top + least)
