"""The figures of advice: right answers get full marks, and each planted error lowers its own figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mini_training.advice_metrics import (
    AdviceAnswer,
    advice_metrics,
    kind_of_priority,
    kind_of_recommendation,
    overlap,
    readable_share,
    worst_faults,
)
from mondrian_core.mini.advice_phrases import PRIORITIES
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import advised_faults, score_scene, write_scene_critique
from mondrian_core.mini.scene_faults import scene_faults
from mondrian_core.mini.tastes import GENERIC, VOICES
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique, canonical_answer

SCENES = [sample_scene(np.random.default_rng(seed)) for seed in range(60)]
CRITIQUES = [write_scene_critique(scene, GENERIC, np.random.default_rng(i)) for i, scene in enumerate(SCENES)]


def figures(critiques: list[Critique | None]) -> dict:
    return advice_metrics([AdviceAnswer(scene, each) for scene, each in zip(SCENES, critiques, strict=True)])


def test_true_advice_gets_full_marks() -> None:
    result = figures(list(CRITIQUES))
    assert result["compliance"] == result["worst_fault_named"] == result["boxes_given"] == result["box_overlap"] == 1
    assert result["true_recommendations"] == 1


def test_another_photographs_advice_names_few_faults_and_misses_boxes() -> None:
    exchanged = figures([*CRITIQUES[1:], CRITIQUES[0]])
    assert exchanged["worst_fault_named"] < 0.5
    assert exchanged["true_recommendations"] < 0.85
    assert exchanged["box_overlap"] < 0.8


def test_unreadable_answers_lower_every_share() -> None:
    result = figures([None] * 30 + list(CRITIQUES[30:]))
    assert result["compliance"] == 0.5
    assert 0.3 < result["worst_fault_named"] < 0.7 and 0.3 < result["boxes_given"] < 0.7


def test_last_priority_first_names_another_fault() -> None:
    turned = [replace(each, priority_improvements=each.priority_improvements[::-1]) for each in CRITIQUES]
    assert figures(turned)["worst_fault_named"] < 0.5


def test_priorities_of_all_faults_are_told_apart() -> None:
    for scene in SCENES:
        for name in DIMENSIONS:
            for fault in scene_faults(scene)[name]:
                assert kind_of_priority(PRIORITIES[fault.kind][0].format(**fault.facts)) == fault.kind
    assert kind_of_priority("Buy a better camera.") is None


@pytest.mark.parametrize("advisor", VOICES)
def test_recommendations_of_every_voice_are_told_apart(advisor: str) -> None:
    for i, scene in enumerate(SCENES):
        scores = score_scene(scene, VOICES[advisor])
        critique = write_scene_critique(scene, VOICES[advisor], np.random.default_rng(i))
        kinds = [fault.kind for fault in advised_faults(scene, scores, VOICES[advisor])]
        assert [kind_of_recommendation(text) for text in critique.recommendations.values()] == kinds


def test_worst_faults_share_the_lowest_advised_score() -> None:
    for scene in SCENES:
        assert len({fault.dimension for fault in worst_faults(scene)}) == len(worst_faults(scene))


@pytest.mark.parametrize(
    ("second", "expected"),
    [((0, 0, 0.5, 1), 1.0), ((0.5, 0, 1, 1), 0.0), ((0, 0, 1, 1), 0.5), ((0.25, 0, 0.75, 1), 1 / 3)],
)
def test_overlap_is_intersection_over_union(second: tuple, expected: float) -> None:
    assert overlap((0, 0, 0.5, 1), second) == pytest.approx(expected)


def test_readable_share_refuses_repetition_and_broken_answers() -> None:
    good = canonical_answer(CRITIQUES[0], AnswerForm.ADVICE)
    comment = CRITIQUES[0].assessments["lighting"].comment
    repeated = good.replace(comment, "The light the light the light the light the light.")
    assert readable_share([good, good]) == 1
    assert readable_share([good, repeated, good[:-9], good]) == 0.5
