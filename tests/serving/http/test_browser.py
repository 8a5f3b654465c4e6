"""The pages in a real Chromium, with their content security policy; any console message fails a test."""

from __future__ import annotations

import base64
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from mondrian_core.settings import Settings
from mondrian_core.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Start = Callable[..., Any]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = ("Google Chrome", "Chromium")
PHONE, DESK = (390, 844), (1280, 900)
expect.set_options(timeout=60_000)  # the machine is shared
REMARKS = (
    "The foreground rock anchors the frame and leads the eye to the ridge.",
    "Light from the left models the slope; the deep shadow keeps a trace of detail.",
    "Sharp from front to back.",
)


def chromium_of(bundled: str) -> str | None:
    """A Chromium on this machine: the one that CHROMIUM names, an installed one, or playwright's own."""
    found = [os.environ.get("CHROMIUM"), *(shutil.which(name) for name in NAMES)]
    found += [f"/Applications/{name}.app/Contents/MacOS/{name}" for name in APPLICATIONS]
    return next((path for path in (*found, bundled) if path and Path(path).is_file()), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = chromium_of(playwright.chromium.executable_path)
        if path is None:
            pytest.skip("no Chromium here: install one (apt install chromium, brew install chromium), or set CHROMIUM")
        found = playwright.chromium.launch(executable_path=path)
        yield found
        found.close()


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a desk's and of a phone's width; any console message fails the test."""
    width, height = getattr(request, "param", DESK)
    context = browser.new_context(viewport={"width": width, "height": height})
    found, complaints = context.new_page(), []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    found.on("console", hear)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    found.set_default_timeout(60_000)
    yield found
    context.close()
    assert complaints == []


@pytest.fixture
def site(start: Start, promote: Callable[[str], None], photograph: Callable[..., bytes]) -> str:
    """The address of a service with one promoted adapter and three critiques."""
    promote("v0002")
    running = start(model_mode="fine_tuned")
    for seed in (21, 22, 23):
        running.post(photograph(seed))
    return f"http://127.0.0.1:{running.port}"


def texts(count: int) -> list[str]:
    """Answers that read like critiques, one of them with markup in it."""
    comments = [REMARKS[index % len(REMARKS)] for index in range(len(DIMENSIONS))]
    comments[3] = "<img src=x onerror=alert(1)> & a warm palette"
    scores = [dict(zip(DIMENSIONS, (7, 8, 9, 6, 5, 8, 7, (6 + turn) % 11), strict=True)) for turn in range(count)]
    return [canonical_answer(make_critique(each, dict(zip(DIMENSIONS, comments, strict=True)))) for each in scores]


def drop(page: Page, photographs: dict[str, bytes]) -> None:
    """Drop files on the page, as with a mouse."""
    files = [[name, base64.b64encode(data).decode()] for name, data in photographs.items()]
    transfer = page.evaluate_handle(
        """files => {
          const transfer = new DataTransfer();
          for (const [name, data] of files) {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
          }
          return transfer;
        }""",
        files,
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": transfer})


def assert_fits(page: Page) -> None:
    """Nothing overflows the right edge."""
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]


def test_dropped_photographs_are_critiqued_and_rated(
    page: Page,
    site: str,
    control: Callable[..., None],
    photograph: Callable[..., bytes],
    settings: Settings,
    tmp_path: Path,
) -> None:
    control(tokens=30, pace=0.02, texts=texts(6))
    page.goto(site)
    assert page.get_by_label("Mean score of 3 photographs").count() == 1
    drop(page, {f"photograph {number}.jpg": photograph(number, (240, 160)) for number in range(6)})
    expect(page.locator("article.card")).to_have_count(6)
    expect(page.locator("progress[value]").first).to_be_visible()
    seen = page.evaluate("document.querySelector('progress[value]').value")
    assert 0 < seen < 100
    page.screenshot(path=tmp_path / "at-work.png", full_page=True)
    expect(page.locator("article.card[data-status=completed]")).to_have_count(6)
    card = page.locator("article.card").first
    # four are sent at once, so which answer is whose depends on who arrives first
    expect(card.locator(".grade")).to_have_text(re.compile(r"^[67]\.\d$"))
    expect(card.locator(".more")).to_contain_text("adapter v0002")
    expect(card.locator("img")).to_have_js_property("complete", True)
    card.get_by_role("button", name="4 of 5").click()
    expect(card.locator(".stars .on")).to_have_count(4)
    with Store(settings.database, read_only=True) as store:
        assert store.job(card.get_attribute("data-job") or "").details["rating"] == 4
    page.screenshot(path=tmp_path / "done.png", full_page=True)
    assert_fits(page)


def test_base_and_adapter_are_shown_side_by_side(
    page: Page, site: str, photograph: Callable[..., bytes], tmp_path: Path
) -> None:
    page.goto(site)
    page.get_by_label("Mode").select_option("both")
    page.get_by_label("Look for a better crop").check()
    page.set_input_files("#files", [{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph(5, (240, 160))}])
    pair = page.locator(".pair")
    expect(pair.locator(".card[data-status=completed]")).to_have_count(2)
    expect(pair.locator(".difference")).to_have_text(
        re.compile(r"Adapter v0002 compared with the base model: Composition \u22123, Lighting \u22123")
    )
    expect(pair.locator(".more").nth(1)).to_contain_text(re.compile("base model.*; no better crop"))
    page.screenshot(path=tmp_path / "pair.png", full_page=True)
    assert_fits(page)


def test_card_shows_why_a_photograph_is_refused(page: Page, site: str) -> None:
    page.goto(site)
    # a refused request is an error in the browser's console by itself, so the refusal comes without one
    page.evaluate("""window.fetch = async () => new Response(
        JSON.stringify({title: "It is not a photograph.", detail: "Send a JPEG."}), {status: 415})""")
    drop(page, {"notes.txt": b"no photograph"})
    expect(page.locator(".card .state")).to_have_text("It is not a photograph. Send a JPEG.")
    expect(page.locator(".card progress")).to_be_hidden()


def test_critique_page_rates_and_corrects(
    page: Page,
    site: str,
    start: Start,
    control: Callable[..., None],
    photograph: Callable[..., bytes],
    settings: Settings,
    tmp_path: Path,
) -> None:
    control(texts=texts(1))
    image = {"name": "ridge.jpg", "mimeType": "image/jpeg", "buffer": photograph(7, (600, 400))}
    answer = page.request.post(f"{site}/analyze", multipart={"advisor": "ansel", "image": image})
    job = answer.json()["job_id"]
    page.goto(f"{site}/jobs/{job}?format=html")
    expect(page.get_by_role("img", name="Scores by dimension")).to_be_visible()
    expect(page.locator("figure img")).to_have_js_property("naturalWidth", 600)
    expect(page.locator(".dimension")).to_have_count(len(DIMENSIONS))
    expect(page.locator(".dimension").nth(3)).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator(".changes li")).to_have_count(2)
    page.get_by_role("button", name="2 of 5").click()
    expect(page.locator(".stars .on")).to_have_count(2)
    page.get_by_text("Correct this critique").click()
    field = page.locator("fieldset[data-dimension=lighting]")
    field.get_by_label("Score").fill("3.5")
    field.get_by_label("Comment").fill("The sky is burnt out.")
    page.screenshot(path=tmp_path / "correcting.png", full_page=True)
    assert_fits(page)
    page.get_by_role("button", name="Save correction").click()
    expect(page.locator(".feedback .buttons .status")).to_contain_text("Saved.")
    page.reload()
    expect(page.locator(".dimension").nth(1).locator(".yours")).to_have_text("3.5 The sky is burnt out.")
    expect(page.locator(".stars .on")).to_have_count(2)
    page.screenshot(path=tmp_path / "corrected.png", full_page=True)
    with Store(settings.database, read_only=True) as store:
        kept = store.profile(f"correction-{job}")
    assert kept is not None and kept.origin == "human" and kept.scores["lighting"] == 3.5


@pytest.fixture
def plain_page(browser: Browser) -> Iterator[Page]:
    """A page whose console messages are allowed (the service is down or refuses requests)."""
    context = browser.new_context()
    found = context.new_page()
    found.set_default_timeout(60_000)
    yield found
    context.close()


def test_page_reconnects_after_service_crash(
    plain_page: Page, start: Start, control: Callable[..., None], photograph: Callable[..., bytes]
) -> None:
    control(tokens=1000, pace=0.05)
    running = start()
    plain_page.goto(f"http://127.0.0.1:{running.port}")
    drop(plain_page, {"ridge.jpg": photograph(31), "sea.jpg": photograph(32)})
    expect(plain_page.locator("progress[value]").first).to_be_visible()
    running.process.kill()
    running.process.communicate()
    expect(plain_page.locator(".card .state").first).to_contain_text("retrying")
    control()
    start(port=running.port)
    expect(plain_page.locator("article.card[data-status=completed]")).to_have_count(2)


def test_page_reports_missing_job(
    plain_page: Page, start: Start, control: Callable[..., None], photograph: Callable[..., bytes], settings: Settings
) -> None:
    control(tokens=1000, pace=0.05)
    running = start()
    plain_page.goto(f"http://127.0.0.1:{running.port}")
    drop(plain_page, {"ridge.jpg": photograph(31)})
    expect(plain_page.locator("progress[value]").first).to_be_visible()
    running.process.kill()
    running.process.communicate()
    with Store(settings.database) as store, store.transaction() as connection:
        connection.execute("DELETE FROM jobs")
    start(port=running.port)
    expect(plain_page.locator(".card .state").first).to_contain_text("no longer has this job")


ANOTHER_SITE = """<!doctype html><title>waiting</title><body><script>
const service = "http://127.0.0.1:%(port)d";
const tries = [];
const form = new FormData();
form.append("advisor", "ansel");
form.append("image", new File([Uint8Array.from(atob("%(photograph)s"), each => each.charCodeAt(0))], "x.jpg"));
tries.push(fetch(service + "/analyze", {method: "POST", mode: "no-cors", body: form}));
tries.push(fetch(service + "/jobs/%(job)s/cancel", {method: "POST", mode: "no-cors"}));
tries.push(fetch(service + "/jobs/%(job)s", {mode: "cors"}).then(() => { document.title = "read"; }, () => {}));
tries.push(new Promise((done) => {
  const picture = new Image();
  picture.onload = () => { document.title = "seen"; done(); };
  picture.onerror = done;
  picture.src = service + "/jobs/%(job)s/photograph";
  document.body.append(picture);
}));
Promise.allSettled(tries).then(() => {
  if (document.title !== "waiting") return;
  const real = document.createElement("form");
  real.method = "POST"; real.enctype = "multipart/form-data"; real.action = service + "/jobs/%(job)s/cancel";
  document.body.append(real);
  real.submit();
});
</script>"""


def test_page_of_another_site_is_refused(
    plain_page: Page,
    start: Start,
    control: Callable[..., None],
    photograph: Callable[..., bytes],
    settings: Settings,
    tmp_path: Path,
) -> None:
    control(tokens=3000, pace=0.1)
    running = start()
    job = running.post(photograph(41), Prefer="respond-async").json()["job_id"]
    data = base64.b64encode(photograph(42)).decode()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "page.html").write_text(ANOTHER_SITE % {"port": running.port, "job": job, "photograph": data})
    with http_server(tmp_path / "other") as port:
        plain_page.goto(f"http://127.0.0.1:{port}/page.html")
        plain_page.wait_for_url(f"http://127.0.0.1:{running.port}/**")
    expect(plain_page.locator("body")).to_contain_text("another site's page")
    with Store(settings.database, read_only=True) as store:
        assert [(each.id, each.status) for each in store.jobs()] == [(job, "running")]


@contextmanager
def http_server(folder: Path) -> Iterator[int]:
    """A web server for the files of a folder, on its own port."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """A request handler without a log."""

    def log_message(self, *arguments: object) -> None:
        pass
