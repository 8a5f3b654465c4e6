"""From the front page to the critiques of all advisors, in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.serving.http.test_browser import PHONE, browser, drop, page, texts  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("page", [PHONE], indirect=True, ids=["phone"])
def test_all_advisors_are_asked_on_the_front_page_and_compared(
    start: Callable[..., Any],
    page: Page,  # noqa: F811
    photograph: Callable[..., bytes],
    control: Callable[..., None],
) -> None:
    control(texts=texts(2))
    page.goto(f"http://127.0.0.1:{start().port}/")
    page.get_by_label("Advisor").select_option("all")
    drop(page, {"harbour.jpg": photograph(5, (240, 160))})
    page.get_by_role("link", name="Compare the advisors").click()
    expect(page.get_by_role("rowheader", name="Emotional Impact")).to_be_visible()
    expect(page.locator(".lead")).to_contain_text("They differ most on emotional impact: 1 point apart.")
    assert page.locator("script:has-text('alert')").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    page.get_by_role("link", name="Read, rate or correct the critique by Dorothea Lange").click()
    expect(page.get_by_role("heading", name="Rate this critique")).to_be_visible()
