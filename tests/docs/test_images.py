"""The pictures of docs/images/: `make screenshots` makes each of them, a page shows it, and it is small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bench.screenshots.pictures import DEMO, DENSITY, MOST_BYTES, PICTURES, image_files
from tests.git_files import ROOT, tracked_files

FOLDER = Path("docs/images")
SHOWN = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
SHORTEST_TEXT = 20  # characters; a shorter alternative text says little about a page


def shown_images() -> Iterator[tuple[Path, str, str]]:
    """(image, alternative text, page) of every image below `FOLDER` that a page shows."""
    for page in [file for file in tracked_files() if file.suffix == ".md"]:
        for found in SHOWN.finditer((ROOT / page).read_text(encoding="utf-8")):
            image = (ROOT / page.parent / found["target"]).resolve()
            if image.is_relative_to(ROOT / FOLDER):
                yield image.relative_to(ROOT), found["text"], str(page)


def test_each_picture_is_made_by_the_script_and_shown_by_a_page() -> None:
    made = {FOLDER / name for name in image_files()}
    stored = {file for file in tracked_files() if file.parent == FOLDER}
    assert {file for file in stored if file.suffix == ".webp"} == made - {FOLDER / DEMO}
    assert made <= stored  # charts are there too
    assert stored == {image for image, _, _ in shown_images()}


def test_each_picture_has_an_alternative_text() -> None:
    assert [(page, str(image)) for image, text, page in shown_images() if len(text) < SHORTEST_TEXT] == []


@pytest.mark.parametrize("name", image_files())
def test_picture_is_small(name: str) -> None:
    assert (ROOT / FOLDER / name).stat().st_size <= MOST_BYTES


def test_pictures_have_the_density_of_a_sharp_screen() -> None:
    for picture in PICTURES:
        with Image.open(ROOT / FOLDER / picture.file) as image:
            assert image.size == (DENSITY * picture.size[0], DENSITY * picture.size[1]), picture.file


def test_recording_needs_nothing_from_elsewhere() -> None:
    text = (ROOT / FOLDER / DEMO).read_text(encoding="utf-8")
    assert not re.search(r"<script|<image|<foreignObject|@import|url\(|href=|src=", text)
