"""Every page in a real Chromium: accessible in both themes and widths, usable with the keyboard alone."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.routing import APIRoute
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError
from starlette.routing import Match

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import Settings
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.photographs import Photograph, Photographs
from tests.core.test_runs import write_run
from tests.serving.http.test_browser import DESK, PHONE, assert_fits, browser, drop, page, texts  # noqa: F401
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Start = Callable[..., Any]
HTML = {"Accept": "text/html"}
MOST_VISITED = 150  # pages of the crawl
OF_COLOURS = ("color-contrast", "link-in-text-block")  # axe's rules that a theme can break
# A service without a token has no page to log in, and another test opens it. Reports are documents of an evaluation.
OTHERWISE = {"/login", "/runs/{run}/report", "/registry/{advisor}/{version}/report"}
ONCE = pytest.mark.parametrize("page", [DESK], indirect=True, ids=["desk"])  # where the width makes no difference
RUNS = ("20260901-000000-a", "20260902-000000-b")
LINK = re.compile(r'(?:href|action)="(/[^"#]*)"')


@pytest.fixture
def filled(start: Start, promote: Callable[[str], None], photograph: Callable[..., bytes], settings: Settings) -> Any:
    """A service with critiques by a model and by a person, a rating, a correction, and an imported photograph."""
    promote("v0002")
    running = start(model_mode="fine_tuned")
    jobs = [running.post(photograph(seed, (240, 160))).json() for seed in (21, 22, 21)]
    address = f"http://127.0.0.1:{running.port}"
    httpx.post(f"{address}/jobs/{jobs[0]['job_id']}/rating", json={"rating": 4})
    entries = {name: {"score": 6.5, "comment": "Seen by hand."} for name in DIMENSIONS}
    httpx.post(f"{address}/jobs/{jobs[0]['job_id']}/correction", json={"dimensional_analysis": entries})
    with Store(settings.database) as store:
        path = f"source/{jobs[1]['photograph']}"
        seen = Photograph(
            sha256=jobs[1]["photograph_sha256"],
            image_path=path,
            advisor="ansel",
            portfolio=False,
            width=240,
            height=160,
            taken_at="2026-05-01T08:00:00",
            camera={"camera": "NIKON D750", "aperture": "f/8"},
        )
        Photographs(store).add(seen)
        words = dict.fromkeys(DIMENSIONS, "A calm frame.")
        store.save_profile(
            DimensionalProfile(
                id="mine",
                advisor="ansel",
                image_path=path,
                scores=dict.fromkeys(DIMENSIONS, 7.0),
                comments=words,
                overall_grade="7.0",
            )
        )
    for name in RUNS:
        write_run(settings.root, name)
    group = httpx.post(f"{address}/analyze", json={"path": "one.jpg", "advisor": ["ansel", "dorothea"]}, timeout=60)
    running.unlinked = [
        f"/critiques/compare?id={jobs[0]['job_id']}&id={jobs[1]['job_id']}",
        group.json()["links"]["self"],
        "/registry/ansel/diff/v0001/v0002",
        f"/write/{seen.sha256}?advisor=ansel",
        f"/runs/compare?run={RUNS[0]}&run={RUNS[1]}",
    ]
    return running


# `filled` comes before `page` in every test, so that a page is closed before its service


def page_routes(service: Service) -> dict[str, APIRoute]:
    """The routes that answer with a page: those that say so."""
    routes = [route for route in create_app(service).routes if isinstance(route, APIRoute)]
    return {route.path: route for route in routes if "GET" in (route.methods or ()) and is_page(route)}


def is_page(route: APIRoute) -> bool:
    kinds = {"text/html"} & {kind for answer in route.responses.values() for kind in answer.get("content", {})}
    return bool(kinds) or getattr(route.response_class, "media_type", None) == "text/html"


def crawl(address: str, routes: dict[str, APIRoute], unlinked: list[str]) -> dict[str, str]:
    """One address for each route with a page: `unlinked`, pages without parameters, and what they link to."""
    waiting = deque([*unlinked, *(path for path in routes if "{" not in path)])
    seen, found = set(waiting), dict[str, str]()
    with httpx.Client(base_url=address, headers=HTML, timeout=60) as client:
        while waiting and len(seen) < MOST_VISITED:
            path = waiting.popleft()
            answer = client.get(path)
            if not answer.headers.get("content-type", "").startswith("text/html"):
                continue
            if answer.status_code == 200 and (name := route_of(path, routes)):
                found.setdefault(name, path)
            for link in LINK.findall(answer.text):
                link = link.replace("&amp;", "&")
                if link not in seen and (route_of(link, routes) or "") not in found:
                    seen.add(link)
                    waiting.append(link)
    return found


def route_of(path: str, routes: dict[str, APIRoute]) -> str | None:
    scope = {"type": "http", "method": "GET", "path": path.partition("?")[0]}
    return next((name for name, route in routes.items() if route.matches(scope)[0] == Match.FULL), None)


def violations(axe: Axe, page: Page, rules: tuple[str, ...] = ()) -> list[dict[str, Any]]:  # noqa: F811
    """What axe finds, by all its rules unless some are named.

    A page that has its script, half a megabyte, is not sent it again.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe.axe_script)
    only: dict[str, Any] = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    look = "options => axe.run(options).then(results => results.violations)"
    return list(page.evaluate(look, {"resultTypes": ["violations"], **only}))


def violations_of_a_whole_page(
    axe: Axe,
    page: Page,  # noqa: F811
    rules: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """What axe finds; a page that loads itself again in the meantime is only half there, and is looked at again."""
    loaded: list[Any] = []

    def note(frame: Any) -> None:
        loaded.append(frame)

    page.on("framenavigated", note)
    try:
        while True:
            page.wait_for_load_state("networkidle")  # a page that has begun to load again is not read before its end
            before = len(loaded)
            try:
                found = violations(axe, page, rules)
            except PlaywrightError as error:
                # the error may come before the event that tells of the same navigation
                if len(loaded) == before and "because of a navigation" not in error.message:
                    raise
                found = None
            page.wait_for_load_state("networkidle")
            if found is not None and len(loaded) == before:
                return found
    finally:
        page.remove_listener("framenavigated", note)


@ONCE  # both widths are looked at
def test_axe_finds_nothing_on_any_page(
    filled: Any,
    page: Page,  # noqa: F811
    make_service: Callable[..., Service],
) -> None:
    axe, problems = Axe(), []
    routes = page_routes(make_service("base"))
    address = f"http://127.0.0.1:{filled.port}"
    found = crawl(address, routes, filled.unlinked)
    assert sorted(set(routes) - set(found) - OTHERWISE) == [], "no page links to these; add one of each to `unlinked`"
    # pages that show photographs reload once those under source/ are recorded
    wait_until(lambda: not httpx.get(f"{address}/photographs/recording").json()["at_work"], "the photographs' rows")
    for name, path in found.items():
        page.goto(address + path, wait_until="networkidle")
        for scheme, rules in (("light", ()), ("dark", OF_COLOURS)):
            page.emulate_media(color_scheme=scheme)
            for width, height in (DESK, PHONE):
                page.set_viewport_size({"width": width, "height": height})
                where = f"{name} ({scheme}, {width} px)"
                if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                    problems.append(f"{where}: wider than the window")
                for each in violations_of_a_whole_page(axe, page, rules):
                    nodes = "; ".join(node["html"][:120] for node in each["nodes"][:3])
                    problems.append(f"{where}: {each['id']}: {nodes}")
    assert problems == []


def test_error_page_and_login_work_in_a_browser(
    browser: Browser,  # noqa: F811
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MONDRIAN_SERVICE_TOKEN", "a long and random token")
    running = start()
    context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]})
    page = context.new_page()  # noqa: F811
    page.goto(f"http://127.0.0.1:{running.port}/critiques?q=rock")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in first")
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("link", name="Log in").click()
    expect(page.get_by_label("Token")).to_be_focused()
    assert Axe().run(page).response["violations"] == []
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the token.")
    page.get_by_label("Token").fill("a long and random token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Critiques")
    assert page.evaluate("document.cookie") == ""
    page.goto(f"http://127.0.0.1:{running.port}/nothing")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is here")
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    context.close()


@ONCE
def test_theme_is_remembered_from_the_first_line_of_a_page(filled: Any, page: Page) -> None:  # noqa: F811
    page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    address = f"http://127.0.0.1:{filled.port}"
    page.emulate_media(color_scheme="light")
    page.goto(address)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for name in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        expect(page.locator(".theme-name")).to_have_text(name)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    # the theme is there when the body's first element is, so nothing is drawn in the other one
    page.add_init_script(
        """new MutationObserver((_, watch) => {
             if (!document.body) return;
             window.themeAtFirst = document.documentElement.dataset.theme;
             watch.disconnect();
           }).observe(document, {childList: true, subtree: true});"""
    )
    page.goto(f"{address}/critiques")
    assert page.evaluate("[window.themeAtFirst, getComputedStyle(document.body).backgroundColor]") == ["dark", dark]


def test_cards_neither_jump_nor_change_places(
    filled: Any,
    page: Page,  # noqa: F811
    control: Callable[..., None],
    photograph: Callable[..., bytes],
) -> None:
    control(tokens=20, pace=0.02, texts=texts(5))
    page.goto(f"http://127.0.0.1:{filled.port}")
    names = [f"frame {number}.jpg" for number in range(5)]
    drop(page, {name: photograph(50 + number, (240 - 40 * number, 160)) for number, name in enumerate(names)})
    boxes = "[...document.querySelectorAll('.result')].map(card => { const at = card.getBoundingClientRect(); "
    boxes += "return [card.querySelector('.file').textContent, at.x, at.y + scrollY, at.width, at.height]; })"
    before = page.evaluate(boxes)
    assert [each[0] for each in before] == names
    expect(page.locator(".result[data-status=completed]")).to_have_count(5)
    expect(page.locator(".result .stars button").first).to_be_visible()
    assert page.evaluate(boxes) == before


@ONCE
def test_photograph_that_browsers_cannot_show_has_a_preview(filled: Any, page: Page) -> None:  # noqa: F811
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), (90, 120, 60)).save(buffer, "TIFF")
    page.goto(f"http://127.0.0.1:{filled.port}")
    image = {"name": "scan.tif", "mimeType": "image/tiff", "buffer": buffer.getvalue()}
    page.set_input_files("#files", [image])
    expect(page.locator(".result img")).to_have_js_property("naturalWidth", 300)
    expect(page.locator(".result[data-status=completed]")).to_have_count(1)


@ONCE
def test_sample_is_critiqued_rated_and_compared_with_the_keyboard_alone(filled: Any, page: Page) -> None:  # noqa: F811
    page.goto(f"http://127.0.0.1:{filled.port}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "#sample")
    page.keyboard.press("Enter")
    expect(page.locator(".result[data-status=completed]")).to_have_count(1)
    tab_to(page, ".result .read a")
    page.keyboard.press("Enter")
    expect(page.locator("article.critique h1")).to_contain_text("sample")
    expect(page.locator(".stars button")).to_have_count(5)
    page.keyboard.press("4")
    expect(page.locator(".stars .on")).to_have_count(4)
    tab_to(page, ".feedback summary")
    page.keyboard.press("Enter")
    tab_to(page, "fieldset[data-dimension=lighting] textarea")
    page.keyboard.type("5 stops too dark")
    expect(page.locator(".stars .on")).to_have_count(4)
    assert "5 stops too dark" in page.evaluate("document.activeElement.value"), "a digit is text in a field"
    page.goto(f"http://127.0.0.1:{filled.port}/critiques")
    expect(page.locator(".critique-card")).to_have_count(6)
    tab_to(page, "input[name=id] >> nth=0")
    page.keyboard.press("Space")
    tab_to(page, "input[name=id] >> nth=1")
    page.keyboard.press("Space")
    expect(page.locator("#compare-hint")).to_have_text("Two are marked.")
    tab_to(page, "#compare button", backwards=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Two critiques compared")
    assert_fits(page)


def tab_to(page: Page, selector: str, *, backwards: bool = False) -> None:  # noqa: F811
    """Press Tab until an element has the focus, and check that the focus can be seen."""
    target = page.locator(selector)
    for _ in range(150):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if target.evaluate("element => element === document.activeElement"):
            assert target.evaluate("element => element.matches(':focus-visible')")
            return
    raise AssertionError(f"{selector} can't be reached with the keyboard")
