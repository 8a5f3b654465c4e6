"""The pictures of docs/images/: what each shows, and what a page must contain before it is taken."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, expect

from mondrian_core.data.sample_workspace import ADVISOR
from mondrian_core.errors import Broken
from mondrian_core.files import write_atomic

if TYPE_CHECKING:
    from bench.screenshots.studio import Studio

MOST_BYTES = 150_000
DENSITY = 2  # device pixels per CSS pixel
QUALITIES = (90, 84, 78, 70, 60)  # of WebP; the first one within the budget is taken
SECONDS = 900  # that a page may take to show what is waited for
DESK, PHONE = (1200, 800), (390, 844)
MOST_COLORS, DRAWN_COLORS = 1 << 16, 50  # of a drawing; one that is still empty has a few
# every image in the window is there; those further down may be loaded later
IMAGES_SHOWN = """[...document.images].every(image => {
  const {top, bottom, width} = image.getBoundingClientRect();
  return !width || bottom < 0 || top > innerHeight || (image.complete && image.naturalWidth > 0);
})"""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of the file, without suffix.
        show: opens the page and waits for what the picture shows.
        size: width and height of the window in CSS pixels.
    """

    name: str
    show: Callable[[Page, Studio], None]
    size: tuple[int, int] = DESK

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.webp"


def take_picture(context: BrowserContext, studio: Studio, picture: Picture, folder: Path) -> int:
    """Take one picture and write it; the number of bytes."""
    page = context.new_page()
    try:
        page.set_viewport_size({"width": picture.size[0], "height": picture.size[1]})
        page.set_default_timeout(1000 * SECONDS)
        expect.set_options(timeout=1000 * SECONDS)
        picture.show(page, studio)
        page.evaluate("document.fonts.ready")
        page.wait_for_function(IMAGES_SHOWN)
        taken = page.screenshot(type="png", animations="disabled", caret="hide")
    finally:
        page.close()
    data = webp_within(taken, MOST_BYTES)
    write_atomic(folder / picture.file, data)
    return len(data)


def webp_within(png: bytes, most: int) -> bytes:
    """A picture as WebP of at most `most` bytes, as good as that allows; a page of text is smallest without loss.

    Raises:
        Broken: even the lowest quality is larger.
    """
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for how in ({"lossless": True, "quality": 100}, *({"quality": quality} for quality in QUALITIES)):
        written = io.BytesIO()
        image.save(written, "WEBP", method=6, **how)
        if written.tell() <= most:
            return written.getvalue()
    raise Broken(f"A picture takes more than {most} bytes.", "Show less, or use a smaller window.")


# --- Mondrian's pages -------------------------------------------------------------------------------------------------


def _front(page: Page, studio: Studio) -> None:
    page.goto(studio.service)
    expect(page.locator(".answering li").first).to_be_visible()
    expect(page.locator(".critique-card .grade").nth(3)).to_be_visible()


def _critique(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.service}/jobs/{studio.shown_job}?format=html")
    expect(page.locator(".verdict .radar")).to_be_visible()
    expect(page.locator(".dimension")).to_have_count(8)
    expect(page.locator(".stars button")).to_have_count(5)


def _write(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.service}/write?advisor={ADVISOR}")
    expect(page.locator("#similar-list li").first).to_be_visible()
    page.locator("#desk").press("Escape")
    for key in "876":
        page.keyboard.press(key)
    expect(page.locator("[data-scored=yes]").nth(2)).to_be_attached()
    page.fill("#comment-composition", "The frame is calm; the eye finds its way in and rests on the subject.")
    expect(page.locator("#status")).to_contain_text("tored")


def _contact_sheet(page: Page, studio: Studio) -> None:
    page.goto(studio.sheet.as_uri())
    expect(page.locator(".sheet .card").first).to_be_visible()


def _runs(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.service}/runs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def _report(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.service}/registry/{ADVISOR}/v0001/report")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def _promotion(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.service}/registry/{ADVISOR}/{studio.waiting_version}/promote")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("form [name=reason]")).to_be_visible()


def _drift(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.service}/drift")
    expect(page.locator(".signals .drawing").first).to_be_visible()


# --- Prefect's pages --------------------------------------------------------------------------------------------------


def _prefect(page: Page, studio: Studio, path: str) -> None:
    """Open a page of Prefect's UI. The list of runs comes first: a run's page doesn't ask for the password."""
    page.goto(f"{studio.prefect.ui}/runs")
    field = page.locator("input[type=password]")
    menu = page.get_by_text("Work Pools", exact=True)
    expect(field.or_(menu).first).to_be_visible()
    if field.count():
        field.fill(studio.prefect.auth)
        field.press("Enter")
        expect(field).to_have_count(0)
    page.goto(f"{studio.prefect.ui}{path}")
    expect(menu).to_be_visible()
    page.evaluate("document.documentElement.classList.replace('dark', 'light')")  # its pages are dark otherwise


def _prefect_runs(page: Page, studio: Studio) -> None:
    _prefect(page, studio, "/runs")
    expect(page.get_by_text("Promoted").first).to_be_visible()


def _prefect_deployments(page: Page, studio: Studio) -> None:
    _prefect(page, studio, "/deployments")
    expect(page.get_by_text("retrain", exact=True).first).to_be_visible()


def _prefect_run(page: Page, studio: Studio) -> None:
    """The graph of a retraining's tasks, and below it what they published."""
    _prefect(page, studio, f"/runs/flow-run/{studio.runs['trained']}")
    page.get_by_text("Artifacts", exact=True).first.click()
    expect(page.get_by_text(f"promotion-{ADVISOR}").first).to_be_visible()
    _wait_until_drawn(page.locator("canvas").first)


def _wait_until_drawn(canvas: Locator) -> None:
    """Wait until a drawing that no text describes has colors and no longer changes."""
    earlier = b""
    for _ in range(SECONDS):
        taken = canvas.screenshot()
        colors = Image.open(io.BytesIO(taken)).convert("RGB").getcolors(MOST_COLORS)
        if taken == earlier and (colors is None or len(colors) >= DRAWN_COLORS):
            return
        earlier = taken
        canvas.page.wait_for_timeout(1000)  # between two looks at the same drawing
    raise Broken("A drawing doesn't come to rest.", "Look at the page in a browser.")


def _prefect_approval(page: Page, studio: Studio) -> None:
    _prefect(page, studio, f"/runs/flow-run/{studio.runs['ask']}")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Resume Flow Run")).to_be_visible()
    expect(page.get_by_text(f"Promote {ADVISOR} {studio.waiting_version}?")).to_be_visible()
    expect(page.get_by_text("who decides")).to_be_visible()


def _prefect_automations(page: Page, studio: Studio) -> None:
    _prefect(page, studio, "/automations")
    expect(page.get_by_text("Mondrian: retrain", exact=False).first).to_be_visible()


DEMO = "demo.svg"  # the terminal recording
PICTURES = (
    Picture("front-page", _front, (1200, 940)),
    Picture("front-page-phone", _front, PHONE),
    Picture("critique", _critique, (1200, 1000)),
    Picture("critique-phone", _critique, PHONE),
    Picture("write", _write, (1360, 850)),
    Picture("contact-sheet", _contact_sheet),
    Picture("runs", _runs, (1200, 560)),
    Picture("report", _report),
    Picture("promotion", _promotion, (1200, 1100)),
    Picture("drift", _drift),
    Picture("prefect-runs", _prefect_runs, (1200, 1150)),
    Picture("prefect-run", _prefect_run, (1200, 1000)),
    Picture("prefect-approval", _prefect_approval, (1200, 1250)),
    Picture("prefect-deployments", _prefect_deployments),
    Picture("prefect-automations", _prefect_automations),
)


def image_files() -> list[str]:
    """The names of all files of docs/images/."""
    return [DEMO, *(picture.file for picture in PICTURES)]
