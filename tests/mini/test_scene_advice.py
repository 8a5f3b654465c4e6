"""Advice on scenes: it names the true worst fault, points at what is drawn, differs by voice, and reads strictly."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from mini_training.answer_forms import sample_answer_example, sample_comparison
from mini_training.tokenizer_training import answer_scaffold
from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.mini.advice_phrases import PRIORITIES, RECOMMENDATIONS, STRENGTHS
from mondrian_core.mini.layout import main_rival, picture_box, scene_layout
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import (
    GOOD,
    advised_faults,
    by_priority,
    compose_critique,
    write_scene_critique,
    written_region,
)
from mondrian_core.mini.scene_faults import scene_faults
from mondrian_core.mini.tastes import GENERIC, VOICES, score_scene, unexplained_share
from mondrian_core.prompts import asked_answer_form
from mondrian_core.rubric import DIMENSIONS, AnswerForm, canonical_answer
from mondrian_core.text_quality import critique_text_problem
from mondrian_core.training_target import training_target

SCENES = [sample_scene(np.random.default_rng(seed)) for seed in range(120)]


def test_phrase_banks_cover_every_fault_and_dimension() -> None:
    kinds = {fault.kind for scene in SCENES for faults in scene_faults(scene).values() for fault in faults}
    assert kinds == set(PRIORITIES)
    assert set(RECOMMENDATIONS) == set(STRENGTHS) == set(VOICES)
    assert all(set(bank) == kinds for bank in RECOMMENDATIONS.values())
    assert all(set(bank) == set(DIMENSIONS) for bank in STRENGTHS.values())


def test_recommendations_are_short_and_no_voice_repeats_another() -> None:
    told = [phrase for bank in RECOMMENDATIONS.values() for phrases in bank.values() for phrase in phrases]
    assert len(told) == len(set(told))
    assert max(len(phrase.split()) for phrase in told) <= 14


@pytest.mark.parametrize(
    ("changes", "dimension", "kind"),
    [
        ({"tilt_deg": 8.5, "mass": 0.0}, "visual_balance", "tilted"),
        ({"tilt_deg": 0.0, "mass": 0.9}, "visual_balance", "heavy_side"),
        ({"ev": 2.3}, "lighting", "over"),
        ({"ev": -2.3}, "lighting", "under"),
        ({"blur_px": 4.8}, "focus_sharpness", "blurred"),
        ({"clash": 0.9, "mono": True}, "color_harmony", "split_tone"),
        ({"clash": 0.9, "mono": False}, "color_harmony", "clash"),
        ({"subject_x": 0.5}, "composition", "centred"),
        ({"subject_x": 0.09}, "composition", "edged"),
        ({"drama": 0.0}, "emotional_impact", "empty_sky"),
        ({"layers": 1}, "depth_perspective", "few_planes"),
    ],
)
def test_planted_fault_is_the_worst_of_its_dimension(changes: dict, dimension: str, kind: str) -> None:
    scene = dataclasses.replace(SCENES[0], **changes)
    assert scene_faults(scene)[dimension][0].kind == kind


def test_first_priority_names_the_worst_fault() -> None:
    for seed, scene in enumerate(SCENES):
        scores = score_scene(scene, GENERIC)
        critique = write_scene_critique(scene, GENERIC, np.random.default_rng(seed))
        faults = advised_faults(scene, scores, GENERIC)
        assert set(critique.recommendations) == {fault.dimension for fault in faults}
        if faults:
            worst = min(faults, key=lambda fault: (scores[fault.dimension], -fault.severity))
            assert by_priority(faults, scores, GENERIC)[0] == worst
            assert critique.priority_improvements[0] == PRIORITIES[worst.kind][0].format(**worst.facts)


def test_good_dimensions_get_no_advice_and_only_they_are_strengths() -> None:
    scene = dataclasses.replace(SCENES[3], tilt_deg=8.0)
    everything_good = dict.fromkeys(DIMENSIONS, GOOD)
    critique = compose_critique(scene, everything_good, GENERIC, np.random.default_rng(0))
    assert not critique.recommendations and not critique.priority_improvements and critique.strengths
    nothing_good = dict.fromkeys(DIMENSIONS, GOOD - 1)
    critique = compose_critique(scene, nothing_good, GENERIC, np.random.default_rng(0))
    assert "visual_balance" in critique.recommendations and not critique.strengths


def test_boxes_of_advice_lie_on_what_is_meant() -> None:
    for scene in SCENES:
        faults = [fault for faults in scene_faults(scene).values() for fault in faults]
        for fault in faults:
            for left, top, right, bottom in map(written_region, fault.regions):
                assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
            if fault.kind in ("centred", "edged", "merged"):
                assert fault.regions == (picture_box(scene, scene_layout(scene).subject),)
            if fault.kind.startswith("rival"):
                rival = main_rival(scene)
                assert rival is not None and fault.regions == (picture_box(scene, rival),)


def test_voices_advise_differently_about_one_scene() -> None:
    scene = dataclasses.replace(SCENES[0], subject_x=0.5, ev=-2.0, clash=0.8, mono=False, blur_px=3.0, drama=0.1)
    told = [write_scene_critique(scene, taste, np.random.default_rng(0)) for taste in VOICES.values()]
    assert len({tuple(critique.recommendations.items()) for critique in told}) == len(VOICES)
    assert len({critique.priority_improvements for critique in told}) >= 3


def test_watkins_forgives_the_centre_that_ansel_corrects() -> None:
    scene = dataclasses.replace(SCENES[0], subject_x=0.5, mono=False)
    rng = np.random.default_rng(0)
    assert "composition" in write_scene_critique(scene, VOICES["ansel"], rng).recommendations
    assert "composition" not in write_scene_critique(scene, VOICES["watkins"], rng).recommendations


@pytest.mark.parametrize("advisor", [name for name in VOICES if name != GENERIC.advisor])
def test_no_shift_and_slope_imitates_a_taste(advisor: str) -> None:
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in range(400)]
    assert unexplained_share(VOICES[advisor], GENERIC, scenes) > 0.3
    assert unexplained_share(GENERIC, GENERIC, scenes) < 1e-9


@pytest.mark.parametrize("advisor", VOICES)
@pytest.mark.parametrize("form", AnswerForm)
def test_answers_are_read_strictly_and_are_readable(advisor: str, form: AnswerForm) -> None:
    for seed, scene in enumerate(SCENES[:40]):
        critique = write_scene_critique(scene, VOICES[advisor], np.random.default_rng(seed))
        answer = training_target(critique, form)
        read = parse_critique_strict(answer)
        assert answer == canonical_answer(read, form)
        assert critique_text_problem(read) is None
        assert bool(read.recommendations) == (form is AnswerForm.ADVICE and bool(critique.recommendations))


def test_examples_ask_for_the_form_that_they_answer() -> None:
    rng = np.random.default_rng(2)
    seen = set()
    for scene in SCENES:
        example = sample_answer_example(scene, rng, compared=bool(rng.random() < 0.5))
        form = asked_answer_form(example.messages)
        compared = any("Compare with" in part.get("text", "") for part in example.messages[1]["content"])
        seen.add((form, compared, example.honest))
        read = parse_critique_strict(example.answer)
        assert form is AnswerForm.ADVICE or not read.recommendations
        if example.honest:
            assert read.scores == score_scene(scene, GENERIC)
    assert len(seen) == 8


def test_comparisons_stay_near_the_scores_of_the_answer() -> None:
    scores = score_scene(SCENES[0], GENERIC)
    comparison = sample_comparison(scores, VOICES["ansel"], np.random.default_rng(1))
    assert all(abs(comparison.scores[name] - scores[name]) <= 4 for name in DIMENSIONS)
    assert 2 <= len(comparison.neighbours) <= 3


def test_scaffold_takes_the_longest_piece() -> None:
    answer = canonical_answer(write_scene_critique(SCENES[1], GENERIC, np.random.default_rng(1)), AnswerForm.ADVICE)
    pieces = re.findall(answer_scaffold(), answer)
    assert '.", "recommendation": "' in pieces and '": {"score": ' in pieces
    assert any(piece.endswith('"overall_grade": "') for piece in pieces)
    assert ", " in pieces  # between the numbers of a box
