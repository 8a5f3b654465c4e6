"""Crops: what is proposed, how a frame is cut, and when one is offered."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.critique.crop_candidates import (
    MIN_SIDE_SHARE,
    MOST_CANDIDATES,
    WHOLE_FRAME,
    CropCandidate,
    CropFrame,
    crop_candidates,
    horizon_tilt,
    salience_map,
    subject_place,
)
from mondrian_core.serving.critique.crop_search import JUDGED_PAIRS, MOST_PASSES, CropSearch, scaled_frame, search_crops


def seascape(tilt: float = 0.0, size: tuple[int, int] = (480, 320)) -> Image.Image:
    """A bright sky over a dark sea, without stairs at the horizon, which falls to the right by `tilt` degrees."""
    width, height = (4 * side for side in size)
    image = Image.new("RGB", (width, height), (190, 205, 220))
    drop = math.tan(math.radians(tilt)) * width / 2
    middle = height * 0.55
    ImageDraw.Draw(image).polygon(
        [(0, middle - drop), (width, middle + drop), (width, height), (0, height)], (40, 60, 80)
    )
    return image.resize(size, Image.Resampling.BOX)


def with_spot(x: float, y: float) -> Image.Image:
    image = Image.new("RGB", (480, 320), (120, 125, 130))
    ImageDraw.Draw(image).ellipse((480 * x - 14, 320 * y - 14, 480 * x + 14, 320 * y + 14), (240, 40, 30))
    return image


@pytest.mark.parametrize("tilt", [-5.0, -2.0, 1.5, 4.0])
def test_tilted_horizon_is_levelled(tilt: float) -> None:
    found = horizon_tilt(seascape(tilt))
    assert found == pytest.approx(tilt, abs=0.3)
    level = next(each for each in crop_candidates(seascape(tilt)) if "levels" in each.reason)
    assert horizon_tilt(level.frame.cut_from(seascape(tilt))) is None


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_level_horizon_and_meant_tilt_stay(tilt: float) -> None:
    assert horizon_tilt(seascape(tilt)) is None


def test_rotated_crop_has_no_empty_corners() -> None:
    white = Image.new("RGB", (301, 203), "white")
    share = next(each for each in crop_candidates(seascape(6.0, (301, 203))) if "levels" in each.reason).frame
    assert np.asarray(share.cut_from(white)).min() > 250


def test_corners_of_a_rotated_frame_lie_on_the_photograph() -> None:
    size = (480, 320)
    frame = CropFrame(0.1, 0.1, 0.9, 0.9, 5.0)
    image = Image.new("L", size)
    corners = [(x * size[0], y * size[1]) for x, y in frame.corners(size)]
    ImageDraw.Draw(image).polygon(corners, 255)
    cut = np.asarray(frame.cut_from(image))
    assert cut.mean() > 250, "the frame shows what its corners enclose"
    assert np.asarray(image).sum() / 255 == pytest.approx(cut.size, rel=0.03)


@pytest.mark.parametrize("place", [(0.3, 0.4), (0.7, 0.6)])
def test_subject_is_found_and_put_on_a_third(place: tuple[float, float]) -> None:
    image = with_spot(*place)
    x, y = subject_place(salience_map(image))
    assert math.hypot(x - place[0], y - place[1]) < 0.05
    thirds = [each for each in crop_candidates(image) if "third" in each.reason]
    assert thirds
    for each in thirds:
        found = subject_place(salience_map(each.frame.cut_from(image)))
        assert all(min(abs(side - third) for third in (1 / 3, 2 / 3)) < 0.08 for side in found)


def test_distraction_at_an_edge_is_left_out() -> None:
    image = with_spot(0.4, 0.5)
    ImageDraw.Draw(image).ellipse((456, 150, 478, 172), (250, 240, 40))
    left_out = next(each for each in crop_candidates(image) if "right edge" in each.reason)
    assert left_out.frame.right < 456 / 480 and left_out.frame.left == 0


@pytest.mark.parametrize("size", [(480, 320), (320, 480), (400, 400), (900, 300)])
def test_candidates_are_few_distinct_and_inside(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8))
    found = crop_candidates(image)
    assert 0 < len(found) <= MOST_CANDIDATES
    assert len({each.frame for each in found}) == len(found)
    for each in found:
        left, top, right, bottom = each.frame.box
        assert 0 <= left < right <= 1 + 1e-9 and 0 <= top < bottom <= 1 + 1e-9
        assert min(right - left, bottom - top) >= MIN_SIDE_SHARE
        cut = scaled_frame(image, each.frame)
        assert cut.width * cut.height == pytest.approx(image.width * image.height, rel=0.02)


def test_tiny_or_empty_photograph_has_no_crop() -> None:
    assert crop_candidates(Image.new("RGB", (20, 14))) == ()
    search = search_crops(Image.new("RGB", (20, 14)), lambda image: dict.fromkeys(DIMENSIONS, 5.0))
    assert not search.is_offered and search.passes == 0 and "too small" in search.reason


# --- when a crop is offered ----------------------------------------------------------------------------------------


def noisy_score(rng: np.random.Generator, noise: float, value: Callable[[Image.Image], float]) -> Callable[..., dict]:
    def score(image: Image.Image) -> dict[str, float]:
        return dict.fromkeys(DIMENSIONS, float(np.clip(value(image) + rng.normal(0, noise), 0, 10)))

    return score


CANDIDATES = [CropCandidate(WHOLE_FRAME.within(0.8, x, y), "tries it") for x in (0, 0.5, 1) for y in (0, 0.5, 1)]


def searches(photographs: int, noise: float, value: Callable[[Image.Image], float]) -> list[CropSearch]:
    rng = np.random.default_rng(11)
    image = Image.linear_gradient("L").convert("RGB").resize((32, 32))
    score = noisy_score(rng, noise, value)
    return [search_crops(image, score, candidates=CANDIDATES) for _ in range(photographs)]


def test_best_of_many_equal_crops_is_rarely_offered_though_it_looks_better() -> None:
    found = searches(200, 0.3, lambda image: 6.0)
    judged = [each for each in found if each.best is not None]
    first_looks = [max(grade for _, grade in each.tried) - 6.0 for each in judged]
    assert np.mean(first_looks) > 0.3, "the first look alone flatters the winner"
    assert abs(np.mean([np.mean(each.differences) for each in judged])) < 0.05, "the second doesn't"
    assert sum(each.is_offered for each in found) / len(found) < 0.05


def test_better_crop_is_offered_with_both_grades_and_their_intervals() -> None:
    dark_below = lambda image: 8 - 4 * np.asarray(image.convert("L")).mean() / 255  # noqa: E731
    found = searches(20, 0.05, dark_below)
    assert sum(each.is_offered for each in found) >= 15
    values = found[0].as_dict()
    low, high = values["difference_interval"]
    assert 0 < low < values["difference"] < high
    assert values["crop"]["interval"][0] <= values["crop"]["grade"] <= values["crop"]["interval"][1]
    assert values["crop"]["grade"] - values["whole"]["grade"] == pytest.approx(values["difference"], abs=0.02)
    assert set(values["crop"]["scores"]) == set(DIMENSIONS)


def test_gain_that_any_crop_of_the_size_has_is_not_offered() -> None:
    tighter = lambda image: 8.0 if np.ptp(np.asarray(image)) < 225 else 6.0  # noqa: E731
    found = searches(20, 0.05, tighter)
    assert all(each.beats_whole for each in found)
    refused = [each for each in found if not each.is_offered]
    assert len(refused) >= 17
    assert all("other crops of its size" in each.reason for each in refused)


def test_difference_that_the_grade_does_not_show_is_not_offered() -> None:
    found = searches(5, 0.001, lambda image: 6 - 0.1 * np.asarray(image.convert("L")).mean() / 255)
    assert any(each.best is not None for each in found)
    assert not any(each.is_offered for each in found)


def test_passes_are_counted_and_bounded() -> None:
    seen: list[int] = []
    image = seascape(3.0)
    search = search_crops(image, lambda each: dict.fromkeys(DIMENSIONS, each.width / each.height), seen.append)
    assert seen == list(range(1, search.passes + 1))
    assert search.passes <= MOST_PASSES
    assert search.passes in (len(search.tried) + 1, len(search.tried) + 1 + 3 * JUDGED_PAIRS)
