"""The renderer: repeatable, every number leaves its mark, and boxes lie on what is drawn."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from mondrian_core.mini.layout import RIVAL_KINDS, main_rival, picture_box, scene_layout
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import ASPECTS, SUBJECTS, Scene, sample_scene
from mondrian_core.rubric import Region

QUIET = dataclasses.replace(
    sample_scene(np.random.default_rng(5)),
    seed=7,
    aspect="3:2",
    mono=False,
    palette="alpine",
    subject="pine",
    subject_x=1 / 3,
    subject_size=0.33,
    subject_contrast=0.9,
    subject_bright=False,
    horizon=0.38,
    ev=0.0,
    relief=0.6,
    blur_px=0.0,
    clash=0.0,
    rivals=0,
    layers=4,
    haze=0.6,
    path=0.5,
    tilt_deg=0.0,
    mass=0.0,
    drama=0.5,
    contrast=0.6,
    grain=0.0,
    vignette=0.0,
    distortion=0.0,
)


def changed(**changes: object) -> Scene:
    return dataclasses.replace(QUIET, **changes)


def pixels(scene: Scene) -> np.ndarray:
    """(192, 256) or the like: the picture as a small model sees it."""
    picture = render_scene(scene)
    shrink = 256 / max(picture.size)
    small = picture.resize((round(picture.width * shrink), round(picture.height * shrink)), Image.Resampling.BICUBIC)
    return np.asarray(small, np.float64)


def detail(image: np.ndarray) -> float:
    grey = image.mean(2)
    return float(np.abs(np.diff(grey, axis=1)).mean())


def share_inside(difference: np.ndarray, box: Region, margin: float = 0.02) -> float:
    """Share of the strong differences that lie in a box widened by `margin`."""
    strong = difference > 24
    height, width = strong.shape
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    left, top, right, bottom = box
    inside = ((y > top - margin) & (y < bottom + margin))[:, None] & ((x > left - margin) & (x < right + margin))[None]
    return float((strong & inside).sum() / strong.sum())


def test_same_scene_gives_same_bytes() -> None:
    assert render_scene(QUIET).tobytes() == render_scene(changed()).tobytes()


@pytest.mark.parametrize("aspect", ASPECTS)
def test_photographs_have_their_aspect(aspect: str) -> None:
    assert render_scene(changed(aspect=aspect)).size == ASPECTS[aspect]


def test_pure_monochrome_is_grey_and_a_split_tone_is_not() -> None:
    pure, split = pixels(changed(mono=True)), pixels(changed(mono=True, clash=0.9))
    assert np.ptp(pure, axis=2).max() <= 1
    assert np.ptp(split, axis=2).mean() > 15


def test_clash_moves_colours_but_stays_out_of_neon() -> None:
    calm, loud = pixels(QUIET), pixels(changed(clash=1.0))
    assert np.ptp(loud, axis=2).mean() > 1.3 * np.ptp(calm, axis=2).mean()
    linear = (loud / 255) ** 2.2
    saturation = np.ptp(linear, axis=2) / np.maximum(linear.max(2), 0.02)
    assert np.quantile(saturation, 0.95) < 0.9


def test_exposure_orders_brightness() -> None:
    means = [pixels(changed(ev=ev)).mean() for ev in (-2.4, -1.0, 0.0, 1.0, 2.4)]
    assert all(low + 15 < high for low, high in itertools.pairwise(means))


def test_blur_orders_detail() -> None:
    details = [detail(pixels(changed(blur_px=blur))) for blur in (0.0, 0.8, 2.0, 5.0)]
    assert all(sharp > 1.15 * soft for sharp, soft in itertools.pairwise(details))


def test_tilt_lowers_one_side() -> None:
    def horizon_of_side(tilt: float, side: slice) -> int:
        """The row at which the bright sky ends."""
        scene = changed(tilt_deg=tilt, subject_x=0.5, drama=0.0, layers=1, path=0.0, relief=0.2, haze=0.0)
        rows = pixels(scene).mean(2)[:, side].mean(1)
        return int((rows < (rows[:10].mean() + rows[-40:].mean()) / 2).argmax())

    left, right = slice(0, 60), slice(-60, None)
    assert horizon_of_side(7, right) > horizon_of_side(7, left) + 8
    assert horizon_of_side(-7, left) > horizon_of_side(-7, right) + 8


def test_mass_darkens_its_side() -> None:
    plain, leaning = pixels(QUIET), pixels(changed(mass=-0.8))
    assert leaning[:, :30].mean() < 0.5 * plain[:, :30].mean()


def test_drama_gives_the_sky_contrast() -> None:
    empty, storm = (pixels(changed(drama=drama, layers=1))[:50] for drama in (0.05, 0.95))
    assert storm.std() > 1.6 * empty.std()


@pytest.mark.parametrize(("subject", "tilt"), [(subject, 8.0) for subject in SUBJECTS] + [("tree", 0.0)])
def test_subject_lies_in_its_box(subject: str, tilt: float) -> None:
    # compared with the same place without it: a subject too small to see
    scene = changed(subject=subject, tilt_deg=tilt, subject_bright=True, distortion=0.05, aspect="4:5")
    without = dataclasses.replace(scene, subject_size=0.005)
    difference = np.abs(pixels(scene) - pixels(without)).mean(2)
    assert share_inside(difference, picture_box(scene, scene_layout(scene).subject)) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_rival_lies_in_its_box(seed: int) -> None:
    scene = changed(seed=seed, rivals=1, tilt_deg=-6.0, distortion=-0.05)
    rival = main_rival(scene)
    assert rival is not None
    difference = np.abs(pixels(scene) - pixels(dataclasses.replace(scene, rivals=0))).mean(2)
    assert share_inside(difference, picture_box(scene, rival), margin=0.04) > 0.9


def test_boxes_lie_inside_the_picture() -> None:
    rng = np.random.default_rng(8)
    kinds = set()
    for scene in (sample_scene(rng) for _ in range(200)):
        layout = scene_layout(scene)
        for thing in (layout.subject, *layout.rivals):
            left, top, right, bottom = picture_box(scene, thing)
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        kinds |= {thing.kind for thing in layout.rivals}
    assert kinds == set(RIVAL_KINDS)
