"""The first hour in a real Chromium: from an empty folder to a critique by an adapter of that advisor, on real mini."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mondrian_core.mini.renderer import Scene, render_scene, sample_scene
from mondrian_core.mini.scene_critic import ANSEL, write_scene_critique
from mondrian_core.ports import find_free_port
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store
from tests.serving.http.test_browser import chromium_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(900)]
# The recipe that ten critiques choose, with the fewest steps that still train, judge and register.
FEWEST_STEPS = """
name = "small-set"
[data]
variants = 0
[train]
epochs = 1
rank = 2
answered_photographs = 0
[evaluate]
folds = 2
rag = false
compliance_photographs = 2
constrained_photographs = 0
edited_photographs = 0
latency_pairs = 3
latency_tokens = 8
effect_photographs = 1
"""
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
        wait_until(lambda: process.poll() is not None or _answers(base), 180)
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

    workspace = tmp_path / "empty" / "workspace"
    scenes = put_photographs(workspace / "source" / "advisor" / "photographer" / "imogen-cunningham")
    page.get_by_role("link", name="Look again").click()
    assert current(page).startswith("10 critiques")
    assert httpx.post(f"{address}/start/training", data={"advisor": "imogen-cunningham"}).status_code == 422

    write_critiques(workspace, scenes)
    page.reload()
    assert "the recipe 'small-set'" in page.locator("li[aria-current=step]").inner_text()
    page.get_by_role("button", name="Train").click()
    expect(page.get_by_role("progressbar", name="Training")).to_be_visible()
    page.screenshot(path=tmp_path / "training.png", full_page=True)
    expect(page.locator("li[aria-current=step] h2")).to_contain_text("Report", timeout=400_000)
    report = page.locator("li[aria-current=step]").inner_text()
    assert "v0001" in report and "chance alone" in report

    page.screenshot(path=tmp_path / "report.png", full_page=True)
    promote_as_named(page, tmp_path / "empty")
    page.goto(f"{address}/start")
    assert current(page).startswith("Critiques by the adapter")
    with (tmp_path / "visitor.jpg").open("wb") as file:
        render_scene(sample_scene(np.random.default_rng(99))).save(file, "JPEG")
    page.get_by_role("link", name="Critique a photograph").click()
    page.locator("#files").set_input_files(tmp_path / "visitor.jpg")
    card = page.locator("article.card").first
    expect(card.locator(".grade")).to_have_text(re.compile(r"\d\.\d"), timeout=120_000)
    expect(card.locator(".more")).to_contain_text("adapter v0001")


def put_photographs(folder: Path) -> list[tuple[str, Scene]]:
    """Ten rendered photographs: (path below the workspace, scene)."""
    rng, found = np.random.default_rng(7), []
    folder.mkdir(parents=True)
    for number in range(10):
        scene = sample_scene(rng)
        render_scene(scene).save(folder / f"{number}.jpg", quality=92)
        found.append((f"source/advisor/photographer/{folder.name}/{number}.jpg", scene))
    return found


def write_critiques(workspace: Path, scenes: list[tuple[str, Scene]]) -> None:
    rng = np.random.default_rng(8)
    with Store(workspace / "mondrian.db") as store:
        for path, scene in scenes:
            critique = write_scene_critique(scene, ANSEL, rng)
            store.save_profile(
                DimensionalProfile(
                    id=path,
                    advisor="imogen-cunningham",
                    image_path=path,
                    scores=critique.scores,
                    comments={name: critique.assessments[name].comment for name in DIMENSIONS},
                    overall_grade=critique.overall_grade,
                )
            )


def promote_as_named(page: Page, place: Path) -> None:
    """Run the command that the page names, as it is written, in the folder where the way began."""
    page.get_by_text("Promote v0001 all the same").click()
    command = page.locator("li[aria-current=step] details code").inner_text()
    program, *words = shlex.split(command)
    assert program == "mondrian" and words[-2] == "--reason"
    done = subprocess.run(
        [sys.executable, "-m", "mondrian_core.cli", *words], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
