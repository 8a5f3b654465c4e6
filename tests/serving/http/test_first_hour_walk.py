"""The first hour in a real Chromium: from an empty folder to a critique by an adapter of that advisor, on real mini."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mondrian_core.files import file_sha256
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import Scene, sample_scene
from mondrian_core.mini.scene_critic import ANSEL, write_scene_critique
from mondrian_core.ports import find_free_port
from mondrian_core.rubric import DIMENSIONS
from tests.serving.http.test_browser import chromium_of
from tests.small_recipe import WHOLE_ANSWERS, small_recipe_toml
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(900)]
ADVISOR = "imogen-cunningham"
# The recipe that ten critiques choose, with the fewest steps that still train, judge and register.
FEWEST_STEPS = small_recipe_toml(name="small-set", evaluate={"folds": 2, **WHOLE_ANSWERS})
SITE = """
from pathlib import Path
import mondrian_core.recipes
mondrian_core.recipes.BUNDLED_RECIPES_FOLDER = Path({folder!r})
"""


@pytest.fixture
def address(tmp_path: Path, root: Path) -> Iterator[str]:
    """A service that `mondrian start --page` began in an empty folder."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "small-set.toml").write_text(FEWEST_STEPS)
    (tmp_path / "sitecustomize.py").write_text(SITE.format(folder=str(folder)))
    port = find_free_port()
    place = tmp_path / "empty"
    place.mkdir()
    with (tmp_path / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mondrian_core.cli", "start", "--page", "--port", str(port), "--base-model", "mini"],
            cwd=place,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or _answers(base), "the service")
        assert process.poll() is None, (tmp_path / "service.log").read_text()
        yield base
    finally:
        process.terminate()
        process.wait(60)


def _answers(base: str) -> bool:
    try:
        return httpx.get(f"{base}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        path = chromium_of(playwright.chromium.executable_path)
        if path is None:
            pytest.skip("no Chromium here: install one (apt install chromium, brew install chromium), or set CHROMIUM")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found = browser.new_page()
        found.set_default_timeout(60_000)
        yield found
        browser.close()


def current(page: Page) -> str:
    return page.locator("li[aria-current=step] h2").inner_text()


def test_empty_folder_to_a_critique_by_the_own_adapter(address: str, page: Page, tmp_path: Path) -> None:
    page.goto(f"{address}/start")
    assert current(page).startswith("Advisor")
    page.get_by_label("Name").fill("Imogen Cunningham")
    page.get_by_role("button", name="Continue").click()
    assert current(page).startswith("Photographs")

    scenes = render_photographs(tmp_path / "my prints")
    named = page.locator("li[aria-current=step] code").inner_text()
    run_command(named.replace("FOLDER", shlex.quote(str(tmp_path / "my prints"))), tmp_path / "empty")
    page.get_by_role("link", name="Look again").click()
    assert current(page).startswith("10 critiques")
    assert httpx.post(f"{address}/start/training", data={"advisor": ADVISOR}).status_code == 422

    page.get_by_role("link", name="Write the first one").click()
    for number in range(len(scenes)):
        write_critique(page, scenes)
        wait_until(partial(has_critiques, address, number + 1), "the critique")
    page.goto(f"{address}/start")
    assert "the recipe 'small-set'" in page.locator("li[aria-current=step]").inner_text()
    page.get_by_role("button", name="Train").click()
    expect(page.get_by_role("progressbar", name="Training")).to_be_visible()
    page.screenshot(path=tmp_path / "training.png", full_page=True)
    expect(page.locator("li[aria-current=step] h2")).to_contain_text("Report", timeout=400_000)
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    report = page.locator("li[aria-current=step]").inner_text()
    assert "v0001" in report and "chance alone" in report

    promote_on_the_page(page)
    page.goto(f"{address}/start")
    assert current(page).startswith("Critiques by the adapter")
    render_scene(sample_scene(np.random.default_rng(99))).save(tmp_path / "visitor.jpg")
    page.get_by_role("link", name="Critique a photograph").click()
    page.wait_for_url(f"{address}/")  # loaded, with its scripts
    page.locator("#files").set_input_files(tmp_path / "visitor.jpg")
    card = page.locator("article.card").first
    expect(card.locator(".grade")).to_have_text(re.compile(r"\d\.\d"), timeout=120_000)
    expect(card.locator(".more")).to_contain_text("adapter v0001")


def render_photographs(folder: Path) -> dict[str, Scene]:
    """Ten rendered photographs in a folder; scenes by SHA-256."""
    rng, found = np.random.default_rng(7), {}
    folder.mkdir()
    for number in range(10):
        scene, file = sample_scene(rng), folder / f"{number}.jpg"
        render_scene(scene).save(file, quality=92)
        found[file_sha256(file)] = scene
    return found


def run_command(command: str, place: Path) -> None:
    """Run a command exactly as a page names it, in the folder where the way began."""
    program, *words = shlex.split(command)
    assert program == "mondrian"
    done = subprocess.run(
        [sys.executable, "-m", "mondrian_core.cli", *words], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def write_critique(page: Page, scenes: dict[str, Scene]) -> None:
    """Type scores and comments for the photograph that the page shows, and save."""
    page.wait_for_load_state("load")  # the keys work from then on
    sha256 = page.locator("#desk").get_attribute("data-photograph") or ""
    critique = write_scene_critique(scenes[sha256], ANSEL, np.random.default_rng(8))
    for name in DIMENSIONS:
        page.keyboard.press(str(min(round(critique.scores[name]), 9)))
        expect(page.locator(f"#score-{name}")).to_have_attribute("data-scored", "yes")
    for name in DIMENSIONS:
        page.locator(f"#comment-{name}").fill(critique.assessments[name].comment)
    page.get_by_role("button", name="Save and next").click()
    page.locator(f"#desk[data-photograph='{sha256}']").wait_for(state="detached")


def has_critiques(address: str, count: int) -> bool:
    way = httpx.get(f"{address}/start", params={"advisor": ADVISOR}).json()
    return bool(way["counts"]["critiques"] == count)


def promote_on_the_page(page: Page) -> None:
    """Read the warning and what was measured, give a reason, promote."""
    page.get_by_text("Promote v0001 all the same").click()
    details = page.locator("li[aria-current=step] details[open]")
    expect(details).to_contain_text("It may be worse")
    expect(details.locator("code")).to_contain_text(f"mondrian adapters promote --advisor {ADVISOR} --version v0001")
    page.get_by_role("link", name="Review and promote v0001").click()
    page.get_by_label("Reason").fill("To see how it answers.")
    page.get_by_label("Type v0001 to confirm").fill("v0001")
    page.get_by_role("button", name="Promote v0001").click()
    page.wait_for_url(re.compile(r"/registry/[^/]+(/v0001)?(\?.*)?$"), timeout=120_000)
