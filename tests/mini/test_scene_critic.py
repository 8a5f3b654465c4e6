"""The critics: advisors differ from the base and from one another, and every critique reads strictly."""

from __future__ import annotations

import dataclasses

import numpy as np

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import ADVISORS, ANSEL, GENERIC, WATKINS, score_scene, write_scene_critique
from mondrian_core.rubric import DIMENSIONS, canonical_answer


def scenes(count: int) -> list:
    return [sample_scene(np.random.default_rng(1000 + i)) for i in range(count)]


def test_advisors_disagree_with_the_base_and_with_one_another() -> None:
    def table(taste: object) -> np.ndarray:
        return np.array([list(score_scene(scene, taste).values()) for scene in scenes(300)], float)

    generic, ansel, watkins = table(GENERIC), table(ANSEL), table(WATKINS)
    assert ((ansel - generic) ** 2).mean() > 1.5
    assert ((watkins - generic) ** 2).mean() > 1.0
    assert ((watkins - ansel) ** 2).mean() > 2.0


def test_scene_critiques_parse_strictly() -> None:
    for taste in (GENERIC, *ADVISORS.values()):
        for i, scene in enumerate(scenes(60)):
            critique = write_scene_critique(scene, taste, np.random.default_rng(i))
            assert parse_critique_strict(canonical_answer(critique)).scores == critique.scores
            for name in DIMENSIONS:
                assert 4 <= len(critique.assessments[name].comment.split()) <= 16


def test_seed_changes_only_wording() -> None:
    scene = scenes(1)[0]
    critiques = [write_scene_critique(scene, ANSEL, np.random.default_rng(i)) for i in range(20)]
    assert len({canonical_answer(critique) for critique in critiques}) > 1
    assert len({tuple(critique.scores.values()) for critique in critiques}) == 1


def test_ansel_prefers_black_and_white() -> None:
    scene = dataclasses.replace(scenes(1)[0], layers=5, mono=True, clash=0.3, drama=0.5, contrast=0.5)
    mono, colour = score_scene(scene, ANSEL), score_scene(dataclasses.replace(scene, mono=False), ANSEL)
    assert mono["color_harmony"] > colour["color_harmony"]
    assert mono["emotional_impact"] > colour["emotional_impact"]
