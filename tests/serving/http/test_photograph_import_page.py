"""The page that imports photographs, in a real Chromium: a folder, drops, results, and what axe-core finds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from mondrian_core.settings import Settings
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photographs
from tests.importing.conftest import write_photograph
from tests.serving.http.test_browser import assert_fits, drop
from tests.serving.http.test_browser import browser as browser
from tests.serving.http.test_browser import page as page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SHOTS = os.environ.get("SCREENSHOTS")  # a folder for pictures of the page, to look at


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing."""
    found = Axe().run(page).response["violations"]
    assert found == [], json.dumps([[each["id"], [node["html"] for node in each["nodes"]]] for each in found])


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=f"{SHOTS}/{name}-{scheme}.png", full_page=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "Lofoten"
    for number in range(3):
        write_photograph(top / "day 1" / f"IMG_{number:04}.jpg", number, (300, 200))
    write_photograph(top / "day 2" / "Überblick.png", 9, (300, 200))
    shutil.copy(top / "day 1" / "IMG_0001.jpg", top / "day 2" / "IMG_0001 copy.jpg")
    (top / "day 2" / "IMG_9999.jpg").write_bytes((top / "day 1" / "IMG_0000.jpg").read_bytes()[:900])
    (top / "day 2" / "film.mov").write_bytes(b"a film")
    (top / ".hidden").mkdir()
    write_photograph(top / ".hidden" / "x.jpg", 4)
    return top


# Answers arrive in an order that isn't that of the files: the copy's only after the damaged file's.
LATE_COPY = """
const send = window.fetch;
let damagedAnswered;
const damaged = new Promise((done) => { damagedAnswered = done; });
window.fetch = async (url, options) => {
  const answer = await send(url, options);
  const name = options?.body?.get?.("photographs")?.name ?? "";
  if (name.endsWith("copy.jpg")) await damaged;
  if (name.endsWith("IMG_9999.jpg")) damagedAnswered();
  return answer;
};
"""


def test_folder_and_dropped_files_are_imported(
    page: Page, start: Callable[..., Any], settings: Settings, folder: Path, photograph: Callable[..., bytes]
) -> None:
    running = start(model_mode="base")
    page.add_init_script(LATE_COPY)
    page.goto(f"http://127.0.0.1:{running.port}/photographs")
    page.get_by_role("link", name="Import photographs").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Import photographs")
    assert_accessible(page)
    assert_fits(page)
    width = page.viewport_size["width"] if page.viewport_size else 0
    shoot(page, f"import-empty-{width}")
    page.locator("#advisor").select_option("dorothea")
    with page.expect_file_chooser() as chooser:
        page.locator("#folder").press("Enter")
    chooser.value.set_files(folder)
    expect(page.locator("#summary")).to_have_text(
        "Done: 4 imported, 1 imported before, 1 not usable, 1 other file left alone."
    )
    drop(page, {"<b>dropped</b>.jpg": photograph(30, (240, 160))})
    expect(page.locator("#summary")).to_contain_text("5 imported")
    expect(page.locator("#rows li")).to_have_count(7)
    assert page.locator("#rows .bad").count() == 1 and page.locator("#rows b").count() == 0
    expect(page.locator("#rows")).to_contain_text("<b>dropped</b>.jpg")
    for image in page.locator("#rows img").all():
        image.scroll_into_view_if_needed()  # they are loaded when they are near
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 0
    assert_accessible(page)
    assert_fits(page)
    shoot(page, f"import-done-{width}")
    assert "advisor=dorothea" in (page.get_by_role("link", name="Write critiques").get_attribute("href") or "")
    with Store(settings.database, read_only=True) as store:
        paths = [each.image_path for each in Photographs(store).find("dorothea")]
    imported = [path for path in paths if path != "source/one.jpg"]  # which was there before
    assert "source/photographs/dorothea/Lofoten/day 2/Überblick.png" in imported and len(imported) == 5
