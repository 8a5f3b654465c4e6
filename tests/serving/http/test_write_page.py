"""The page where critiques are written, in a real Chromium: keys alone, crashes, two tabs, a phone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from mondrian_core.writing.writing_desk import written_critique_id
from tests.serving.http.test_browser import chromium_of
from tests.serving.http.test_write_routes import add_photographs
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=60_000)  # the machine is shared


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> str:
    path = chromium_of(playwright.chromium.executable_path)
    if path is None:
        pytest.skip("no Chromium here: install one (apt install chromium, brew install chromium), or set CHROMIUM")
    return path


@pytest.fixture(scope="module")
def browser(playwright: Playwright, chromium: str) -> Iterator[Browser]:
    found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    yield found
    found.close()


@pytest.fixture
def site(start: Callable[..., Any], settings: Settings, photograph: Callable[..., bytes]) -> str:
    add_photographs(settings, photograph)
    return f"http://127.0.0.1:{start().port}"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport={"width": 1280, "height": 900})
    found.set_default_timeout(60_000)
    yield found
    found.close()


def sha256_of(page: Page) -> str:
    found = re.search(r"/write/([0-9a-f]{64})", page.url)
    assert found is not None
    return found.group(1)


def scores_in_workspace(settings: Settings, sha256: str) -> dict[str, float] | None:
    with Store(settings.database, read_only=True) as store:
        saved = store.profile(written_critique_id("ansel", sha256))
    return dict(saved.scores) if saved is not None else None


def typed_in_workspace(settings: Settings, sha256: str) -> str:
    with Store(settings.database, read_only=True) as store:
        rows = store.select("SELECT entry FROM unfinished_critiques WHERE sha256 = ?", (sha256,))
    return str(rows[0][0]) if rows else ""


def score(page: Page, name: str) -> Any:
    return page.locator(f"#entry-{name} output")


def test_a_critique_is_written_with_the_keyboard_alone(context: BrowserContext, site: str, settings: Settings) -> None:
    page = context.new_page()
    page.goto(f"{site}/write?advisor=ansel")
    first = sha256_of(page)
    expect(page.locator(".why")).to_have_text(re.compile("It is the most typical photograph"))
    page.keyboard.press("Shift+?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    for key in ("7", ".", "8", "x", "0", "5", "6", "7", "9"):
        page.keyboard.press(key)
    assert [score(page, name).inner_text() for name in DIMENSIONS] == ["7.5", "8", "10", "0", "5", "6", "7", "9"]
    page.keyboard.press("Control+Enter")  # a comment is missing everywhere: it says so and goes to the first
    expect(page.locator("#status")).to_contain_text("Not saved yet")
    for name in DIMENSIONS:
        assert page.evaluate("document.activeElement.id") == f"comment-{name}"
        page.keyboard.type(f"The {name} holds, 1 of 9?")
        page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda url: first not in url.split("?")[0])
    assert scores_in_workspace(settings, first) == dict(zip(DIMENSIONS, (7.5, 8, 10, 0, 5, 6, 7, 9), strict=True))
    expect(page.locator("#progress")).to_contain_text("1 critique. 7 more")
    page.keyboard.press("u")  # undo leads back, with the text to change
    page.wait_for_url(lambda url: first in url.split("?")[0])
    expect(page.locator("#comment-lighting")).to_have_value("The lighting holds, 1 of 9?")
    assert set((scores_in_workspace(settings, first) or {}).values()) == {None}


def test_what_was_typed_survives_the_death_of_the_browser_and_of_the_service(
    playwright: Playwright, chromium: str, start: Callable[..., Any], site: str, settings: Settings, tmp_path: Path
) -> None:
    folder = str(tmp_path / "profile")
    options: dict[str, Any] = {"executable_path": chromium, "args": ["--no-sandbox"]}
    context = playwright.chromium.launch_persistent_context(folder, **options)
    page = context.new_page()
    page.goto(f"{site}/write?advisor=ansel")
    sha256 = sha256_of(page)
    page.keyboard.press("4")
    page.locator("#comment-lighting").fill("The sky is burnt out.")
    wait_until(lambda: "burnt out" in typed_in_workspace(settings, sha256), "the stored text")
    kill_browser(folder)
    again = playwright.chromium.launch_persistent_context(str(tmp_path / "another"), **options)
    page = again.new_page()
    page.goto(f"{site}/write?advisor=ansel")  # another browser: it has nothing but the workspace
    assert sha256_of(page) == sha256
    expect(page.locator(".why")).to_have_text("You began this one.")
    expect(page.locator("#comment-lighting")).to_have_value("The sky is burnt out.")
    expect(score(page, "composition")).to_have_text("4")
    again.set_offline(True)
    page.locator("#comment-composition").fill("Typed while the service was away.")
    expect(page.locator("#status")).to_contain_text("kept in this browser")
    again.set_offline(False)
    wait_until(lambda: "was away" in typed_in_workspace(settings, sha256), "the text that was kept")
    again.close()


def kill_browser(folder: str) -> None:
    """Kill all processes of the browser that uses this profile."""
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    for line in found.splitlines():
        if folder in line and "chrom" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)


def test_two_tabs_are_told_and_nothing_is_overwritten(context: BrowserContext, site: str, settings: Settings) -> None:
    one, two = context.new_page(), context.new_page()
    one.goto(f"{site}/write?advisor=ansel")
    sha256 = sha256_of(one)
    two.goto(one.url)
    one.locator("#comment-lighting").fill("From the first tab.")
    wait_until(lambda: "first tab" in typed_in_workspace(settings, sha256), "the first tab's text")
    two.locator("#comment-lighting").fill("From the second tab.")
    expect(two.get_by_role("alert")).to_contain_text("changed in another tab")
    assert "first tab" in typed_in_workspace(settings, sha256)
    two.get_by_role("button", name="Keep what is on this page").click()
    wait_until(lambda: "second tab" in typed_in_workspace(settings, sha256), "the second tab's text")
    one.locator("#comment-lighting").fill("Again from the first tab.")
    expect(one.get_by_role("alert")).to_be_visible()
    one.get_by_role("button", name="Show the stored version").click()
    expect(one.locator("#comment-lighting")).to_have_value("From the second tab.")
    expect(one.get_by_role("alert")).to_be_hidden()


def test_a_phone_writes_by_touch(browser: Browser, site: str, settings: Settings) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(f"{site}/write?advisor=ansel")
    sha256 = sha256_of(page)
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    page.locator("#zoom").tap()
    expect(page.locator("#viewer")).to_have_class(re.compile("actual"))
    expect(page.locator("#viewer img:visible")).to_have_js_property("naturalWidth", 90)
    page.locator("#zoom").tap()
    for name in DIMENSIONS:
        slider = page.get_by_role("slider", name=f"{DIMENSION_TITLES[name]}, score")
        slider.tap()  # the middle, where the thumb already is
        page.locator(f"#comment-{name}").fill("Seen on a phone.")
    expect(score(page, "lighting")).to_have_text("5")
    page.get_by_role("button", name="Save and next").tap()
    page.wait_for_url(lambda url: sha256 not in url.split("?")[0])
    found = scores_in_workspace(settings, sha256)
    assert found is not None and set(found.values()) == {5.0}
    context.close()
