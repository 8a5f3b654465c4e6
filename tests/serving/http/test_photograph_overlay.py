"""Outlines and crops on the page of a critique: words, keyboard, pointer, tap, no script, and their routes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.photograph_overlay import photograph_overlay, place_words
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.serving.http.test_browser import DESK, PHONE, assert_fits, browser, page  # noqa: F401

REGION = [0.1, 0.1, 0.3, 0.3]
BOX = [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (REGION, "upper left"),
        ([0.7, 0.7, 0.9, 0.95], "lower right"),
        ([0.4, 0.4, 0.6, 0.6], "middle"),
        ([0.4, 0.7, 0.6, 0.9], "lower middle"),
        ([0.1, 0.4, 0.3, 0.6], "left"),
        ([0.0, 0.8, 1.0, 1.0], "lower third, over the whole width"),
        ([0.0, 0.0, 0.2, 1.0], "left third, over the whole height"),
        ([0.0, 0.0, 1.0, 0.9], "nearly the whole photograph"),
    ],
)
def test_place_is_said_in_words(region: list[float], words: str) -> None:
    assert place_words(region) == words


@pytest.mark.parametrize(
    "regions", [7, "abcd", [None], [[1, 2]], [[0.5, 0.5, 0.5, 0.9]], [[float("nan"), 0, 1, 1]], [[True, 0, 1, 1]]]
)
def test_what_is_not_a_region_is_left_out(regions: Any) -> None:
    if isinstance(regions, int):
        regions = [regions]
    assert photograph_overlay({"lighting": {"regions": regions}}, None, (300, 200)).is_empty


def test_outline_has_the_photographs_proportion() -> None:
    overlay = photograph_overlay({"lighting": {"regions": [REGION]}}, {"box": BOX, "degrees": 0.0}, (300, 200))
    assert overlay.regions["lighting"][0].rectangle == pytest.approx((30, 20, 60, 40))
    assert overlay.crop == "0.0,0.0 150.0,0.0 150.0,100.0 0.0,100.0"
    assert overlay.crop_place == "takes off 50 % on the right and 50 % at the bottom"


@pytest.fixture
def advised(start: Callable[..., Any], photograph: Callable[..., bytes], settings: Settings) -> str:
    """The address of a critique with a recommendation that points at a region, and an offered crop."""
    running = start()
    job = running.post(photograph(21, (240, 160))).json()
    judged = {"grade": 5.0, "interval": [4.9, 5.1], "scores": dict.fromkeys(DIMENSIONS, 5.0)}
    crops = {
        "offered": True,
        "reason": "This crop leaves out what distracts at the right edge.",
        "passes": 31,
        "tried": [{}] * 12,
        "whole": judged,
        "crop": {"box": BOX, "degrees": 0.0, **judged, "grade": 6.1},
        "difference": 1.1,
        "difference_interval": [0.9, 1.3],
    }
    with Store(settings.database) as store:
        stored = store.job(job["job_id"])
        assert stored is not None and stored.answer is not None
        stored.answer["dimensional_analysis"]["lighting"] |= {"recommendation": "Burn the corner.", "regions": [REGION]}
        with store.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET details = ?, answer = ? WHERE id = ?",
                (json.dumps({**stored.details, "crops": crops}), json.dumps(stored.answer), stored.id),
            )
    return f"http://127.0.0.1:{running.port}/jobs/{job['job_id']}"


def test_crop_is_served_as_cut_and_only_where_one_is_offered(advised: str) -> None:
    cropped = httpx.get(f"{advised}/crop")
    with Image.open(io.BytesIO(cropped.content)) as image:
        assert image.size == (120, 80)
    assert httpx.get(advised, params={"format": "json"}).json()["crops"]["difference"] == 1.1


@pytest.mark.browser
@pytest.mark.parametrize("page", [DESK, PHONE], indirect=True, ids=["desk", "phone"])
def test_outline_shows_on_hover_focus_and_tap(advised: str, page: Page) -> None:  # noqa: F811
    page.goto(f"{advised}?format=html")
    outline = page.locator("[data-outline=region-lighting]")
    link = page.locator("a.place", has_text="upper left")
    expect(outline).to_have_css("opacity", "0")
    link.focus()
    expect(outline).to_have_css("opacity", "1")
    link.blur()
    expect(outline).to_have_css("opacity", "0")
    page.locator(".dimension", has_text="Burn the corner.").hover()
    expect(outline).to_have_css("opacity", "1")
    page.mouse.move(0, 0)
    expect(outline).to_have_css("opacity", "0")
    link.click()
    expect(outline).to_have_css("opacity", "1")
    expect(outline).to_be_in_viewport()
    shown, box = page.locator(".pictured img").bounding_box(), outline.bounding_box()
    assert shown is not None and box is not None
    width = min(shown["width"], shown["height"] * 1.5)  # the picture in its box keeps the proportion 240 x 160
    assert box["x"] - shown["x"] == pytest.approx(REGION[0] * width, abs=8)
    assert box["width"] == pytest.approx((REGION[2] - REGION[0]) * width, abs=16)
    assert_fits(page)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [DESK], indirect=True, ids=["desk"])
def test_crop_stands_beside_the_whole_and_the_page_is_accessible(advised: str, page: Page, theme: str) -> None:  # noqa: F811
    page.emulate_media(color_scheme=theme)
    page.goto(f"{advised}?format=html")
    offer = page.locator(".crop-offer")
    expect(offer.locator("figcaption").nth(0)).to_contain_text("5.0 (4.9 to 5.1)")
    expect(offer.locator("figcaption").nth(1)).to_contain_text("6.1")
    offer.locator("img").nth(1).scroll_into_view_if_needed()
    expect(offer.locator("img").nth(1)).to_have_js_property("complete", True)
    offer.get_by_role("button", name="Accept").click()
    expect(offer.get_by_role("status")).to_have_text("Saved.")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.browser
@pytest.mark.parametrize("page", [PHONE], indirect=True, ids=["phone"])
def test_recommendation_and_crop_are_judged_by_keyboard(advised: str, page: Page) -> None:  # noqa: F811
    page.goto(f"{advised}?format=html")
    advice = page.get_by_role("group", name="The recommendation on Lighting")
    useful, not_useful = (advice.get_by_role("button", name=name, exact=True) for name in ("Useful", "Not useful"))
    useful.press("Enter")
    expect(useful).to_have_attribute("aria-pressed", "true")
    not_useful.press("Space")
    expect(not_useful).to_have_attribute("aria-pressed", "true")
    expect(useful).to_have_attribute("aria-pressed", "false")
    refuse = page.get_by_role("group", name="The crop").get_by_role("button", name="Refuse")
    refuse.click()
    expect(refuse).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(not_useful).to_have_attribute("aria-pressed", "true")
    expect(refuse).to_have_attribute("aria-pressed", "true")
    stored = httpx.get(advised, params={"format": "json"}).json()["judgements"]
    assert {subject: each["useful"] for subject, each in stored.items()} == {"lighting": False, "crop": False}
    assert_fits(page)


@pytest.mark.browser
def test_without_scripts_the_place_is_written_and_its_link_shows_it(advised: str, browser: Browser) -> None:  # noqa: F811
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{advised}?format=html")
    plain.locator("a.place", has_text="upper left").click()
    expect(plain.locator("[data-outline=region-lighting]")).to_have_css("opacity", "1")
    expect(plain.locator(".crop-offer img")).to_have_count(2)
    plain.context.close()


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_switch_that_is_neither_on_nor_off_is_refused(
    start: Callable[..., Any], photograph: Callable[..., bytes], value: str
) -> None:
    running = start()
    for query, form in (({"crops": value}, {}), ({}, {"crops": value})):
        answer = httpx.post(
            f"http://127.0.0.1:{running.port}/analyze",
            params=query,
            data={"advisor": "ansel", **form},
            files={"image": ("a.jpg", photograph(3, (96, 64)))},
        )
        assert answer.status_code == 422 and "crops" in answer.json()["title"]
