"""Runs and registry in a real Chromium: sort, filter, choose, compare, promote; with the keyboard alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tests.core.test_runs import WHOLE, write_run
from tests.serving.http.test_browser import assert_fits, chromium_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def page(start: Callable[..., Any]) -> Iterator[Page]:
    """A page of a phone's width, closed before the service ends; any console message fails the test."""
    with sync_playwright() as playwright:
        path = chromium_of(playwright.chromium.executable_path)
        if path is None:
            pytest.skip("no Chromium here: install one (apt install chromium, brew install chromium), or set CHROMIUM")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found, complaints = browser.new_page(viewport={"width": 390, "height": 844}), []
        found.on("console", lambda message: complaints.append(message.text))
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.set_default_timeout(60_000)
        yield found
        browser.close()
        assert complaints == []


def test_runs_are_sorted_filtered_chosen_and_compared(
    page: Page, start: Callable[..., Any], settings: Settings
) -> None:
    errors = {"a": 2.5, "b": 10.0, "c": None, "d": 1.5}
    for number, (name, error) in enumerate(errors.items(), start=1):
        metrics = json.loads(json.dumps(WHOLE["comparison_report.json"]))
        metrics["metrics"]["arms"]["candidate"]["scores"]["mse"] = error
        verdict = {"verdict": "FAIL" if name == "b" else "PASS"}
        write_run(settings.root, f"2026090{number}-000000-{name}", comparison_report=metrics, evaluate=verdict)
    page.goto(f"http://127.0.0.1:{start().port}/runs")
    assert_fits(page)

    def order() -> list[str]:
        shown = page.locator("tbody tr:visible .name-of-run").all_text_contents()
        return [name[-1] for name in shown]

    assert order() == ["d", "c", "b", "a"]
    heading = page.get_by_role("columnheader", name="Error", exact=True)
    heading.get_by_role("button").press("Enter")
    assert order() == ["d", "a", "b", "c"], "as numbers, unknown ones last"
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("button").press("Enter")
    assert order() == ["b", "a", "d", "c"], "unknown ones stay last"
    expect(page.get_by_role("button", name="Compare")).to_be_disabled()
    page.get_by_role("checkbox", name="Compare 20260902-000000-b").check()
    page.get_by_label("Verdict").select_option("PASS")
    page.get_by_label("Search").fill("000000-a")
    assert order() == ["b", "a"], "what is chosen stays in sight"
    expect(page.get_by_role("status")).to_contain_text("2 of 4 runs. 1 chosen.")
    page.get_by_role("checkbox", name="Compare 20260901-000000-a").check()
    page.get_by_role("button", name="Compare").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("2 runs compared")
    assert_fits(page)


def test_version_is_promoted_by_the_form(
    page: Page, start: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    page.goto(f"http://127.0.0.1:{start().port}/registry/ansel/v0002")
    page.get_by_role("link", name="Promote …").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("was never evaluated")
    button = page.get_by_role("button", name="Promote v0002")
    page.get_by_label("Reason").fill("A test.")
    page.get_by_label("Type v0002 to confirm").fill("v0001")
    page.get_by_label("Promote it against the gates").check()
    button.click()
    expect(page).to_have_url(re.compile(r"/promote$"))
    assert registry.current("ansel") is None, "the browser refuses another version's name"
    assert_fits(page)
    page.get_by_label("Type v0002 to confirm").fill("v0002")
    button.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("the champion is now v0002")
    entry = registry.history("ansel")[-1]
    assert (registry.current("ansel"), entry.reason, entry.forced) == ("v0002", "A test.", True)
    page.goto(page.url.replace("?changed=promote", "/rollback"))
    page.get_by_label("Reason").fill("Back.")
    page.get_by_role("button", name="Roll back to the base alone").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("the champion is now the base alone")
    assert registry.current("ansel") is None
