"""The contact sheet shows every variant, of any shape, with the scores that have no loss."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mondrian_core.data.dataset import contact_sheet as module
from mondrian_core.data.dataset.contact_sheet import CELL, MAX_STRIPS, Strip, Tile, contact_sheet
from mondrian_core.rubric import DIMENSIONS

RED, BLUE = (200, 0, 0), (0, 0, 200)


def tile(name: str, colour: tuple[int, int, int], size: tuple[int, int], kept: tuple[str, ...] = DIMENSIONS) -> Tile:
    return Tile(name, kept, Image.new("RGB", size, colour))


def area(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == colour).all(axis=2).sum())


@pytest.mark.parametrize("size", [(480, 240), (240, 480), (2400, 3)])
def test_contact_sheet_shows_every_image_uncropped(size: tuple[int, int]) -> None:
    strip = Strip("a.jpg", "", (tile("original", RED, size), tile("mirror", BLUE, size)))
    sheet = contact_sheet([strip], "What is trained on.")
    small = Image.new("RGB", size)
    small.thumbnail((CELL, CELL))
    assert area(sheet, RED) == area(sheet, BLUE) == small.width * small.height


def test_small_pictures_are_not_enlarged_and_empty_sheet_is_drawn() -> None:
    sheet = contact_sheet([Strip("a.jpg", "", (tile("original", RED, (10, 10)),))], "One.")
    assert area(sheet, RED) == 100
    assert contact_sheet([], "Nothing.").size[1] > 0


def test_contact_sheet_names_scores_without_loss() -> None:
    assert tile("original", RED, (9, 9)).notes == ("every score counts",)
    kept = tuple(name for name in DIMENSIONS if name not in ("lighting", "color_harmony", "emotional_impact"))
    assert tile("exposure", RED, (9, 9), kept).notes == ("these scores don't count:", "lighting, colour, emotion")
    for name in DIMENSIONS:
        assert len(tile("x", RED, (9, 9), tuple(each for each in DIMENSIONS if each != name)).notes) == 2
    assert len(tile("x", RED, (9, 9), ()).notes) == 3


def test_only_the_first_strips_are_shown_and_the_heading_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(module, "_write", lambda draw, left, top, text, *rest: lines.append(text))
    contact_sheet([Strip(f"{n}.jpg", "", (tile("original", RED, (9, 9)),)) for n in range(MAX_STRIPS + 3)], "Sheet.")
    assert lines[0] == f"Sheet. The first {MAX_STRIPS} of {MAX_STRIPS + 3} are shown."
    assert f"{MAX_STRIPS - 1}.jpg" in lines and f"{MAX_STRIPS}.jpg" not in lines


def test_long_names_stay_on_the_sheet() -> None:
    long = Strip("x" * 500, "a remark", (tile("y" * 200, RED, (9, 9)),))
    sheet = np.asarray(contact_sheet([long], "z" * 900))
    assert (sheet[:, -10:] == sheet[0, 0]).all()
