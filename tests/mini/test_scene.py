"""Scenes: repeatable, spread wide, and each attribute counts in its own dimension."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mondrian_core.mini.scene import Scene, sample_scene, scene_qualities
from mondrian_core.mini.tastes import GENERIC, score_scene
from mondrian_core.rubric import DIMENSIONS


def plain_scores(scene: Scene) -> dict[str, int]:
    return score_scene(scene, GENERIC)


def plain(**changes: object) -> Scene:
    """A good, quiet scene with some fields changed."""
    scene = sample_scene(np.random.default_rng(5))
    good = {
        "seed": 7,
        "aspect": "3:2",
        "mono": True,
        "palette": "alpine",
        "subject": "tree",
        "subject_x": 1 / 3,
        "subject_contrast": 0.9,
        "horizon": 0.38,
        "ev": 0.0,
        "relief": 0.6,
        "blur_px": 0.0,
        "clash": 0.0,
        "rivals": 0,
        "layers": 4,
        "haze": 0.6,
        "path": 0.5,
        "tilt_deg": 0.0,
        "mass": 0.0,
        "drama": 0.5,
        "contrast": 0.6,
        "grain": 0.0,
        "vignette": 0.0,
        "distortion": 0.0,
    }
    return dataclasses.replace(scene, **{**good, **changes})


def test_sampling_scenes_is_deterministic() -> None:
    assert sample_scene(np.random.default_rng(2)) == sample_scene(np.random.default_rng(2))


def test_scene_scores_are_spread_and_nearly_uncorrelated() -> None:
    rng = np.random.default_rng(3)
    scores = np.array([list(plain_scores(sample_scene(rng)).values()) for _ in range(800)])
    assert (scores.std(0) > 2).all() and (scores.std(0) < 3.2).all()
    assert (scores.min(0) <= 1).all() and (scores.max(0) >= 9).all()
    correlation = np.corrcoef(scores.T) - np.eye(len(DIMENSIONS))
    assert np.abs(correlation).max() < 0.25


def test_two_in_five_are_black_and_white() -> None:
    rng = np.random.default_rng(4)
    assert 0.33 < np.mean([sample_scene(rng).mono for _ in range(600)]) < 0.47


def test_attributes_stay_in_range() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        values = scene_qualities(sample_scene(rng))
        assert tuple(values) == DIMENSIONS
        assert all(-1e-9 <= value <= 1 + 1e-9 for value in values.values())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("composition", {"subject_x": 0.5}),
        ("lighting", {"ev": 2.0}),
        ("focus_sharpness", {"blur_px": 4.0}),
        ("color_harmony", {"clash": 0.9}),
        ("subject_isolation", {"rivals": 6}),
        ("depth_perspective", {"layers": 1}),
        ("visual_balance", {"tilt_deg": -8.0}),
        ("emotional_impact", {"drama": 0.0}),
    ],
)
def test_spoiled_quality_lowers_only_its_dimension(name: str, change: dict[str, float]) -> None:
    before, after = plain_scores(plain()), plain_scores(plain(**change))
    assert after[name] < before[name]
    assert {other: after[other] for other in DIMENSIONS if other != name} == {
        other: before[other] for other in DIMENSIONS if other != name
    }
