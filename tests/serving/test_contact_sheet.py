"""The contact sheet: one page that needs no other file, sorts itself, opens each critique and prints."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mondrian_core.cli import main
from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.serving import pdf_print
from mondrian_core.serving.batch_analyze import AnalysisResult
from mondrian_core.serving.batch_report import contact_sheet_page, write_batch_html, write_batch_pdf
from mondrian_core.serving.pdf_print import PdfFailed, find_browser
from mondrian_core.settings import Settings

CHROMIUM = Path("/usr/bin/chromium")


def result(path: Path, score: int, lighting: int, taken_at: str | None = None) -> AnalysisResult:
    scores = {**dict.fromkeys(DIMENSIONS, score), "lighting": lighting}
    critique = make_critique(scores, dict.fromkeys(DIMENSIONS, f"<i>{path.name}"))
    return AnalysisResult(
        path=path,
        advisor="ansel",
        requested_mode="baseline",
        mode="baseline",
        critique=critique,
        camera={"camera": "NIKON D750", "aperture": "f/8", "sensitivity": "ISO 100"},
        taken_at=taken_at,
    )


@pytest.fixture
def results(tmp_path: Path, photograph: Callable[..., bytes]) -> list[AnalysisResult]:
    """Three critiqued photographs and one failure, in no order."""
    for number, name in enumerate(("img_10.jpg", "img_9.jpg", "c & d.jpg")):
        (tmp_path / name).write_bytes(photograph(number, (64, 96)))
    return [
        AnalysisResult(path=tmp_path / "gone.jpg", advisor="ansel", requested_mode="baseline", error="It is gone."),
        result(tmp_path / "img_10.jpg", 5, 9, "2026-05-17T04:12:00"),
        result(tmp_path / "img_9.jpg", 8, 2, "2026-05-16T04:12:00"),
        result(tmp_path / "c & d.jpg", 6, 6),
    ]


def test_the_best_come_first_with_camera_and_weakest_dimension(results: list[AnalysisResult]) -> None:
    page = contact_sheet_page(results)
    places = [page.index(f">{name}</a>") for name in ("img_9.jpg", "c &amp; d.jpg", "img_10.jpg", "gone.jpg")]
    assert places == sorted(places)
    assert "Weakest: Lighting 2" in page and "NIKON D750, f/8, ISO 100" in page and "Taken 2026-05-17 04:12" in page
    assert "It is gone." in page and "No preview" in page and "<i>img" not in page
    assert "Mean grade 6.3" in page and "http" not in page.split("<body")[1], "nothing is loaded from elsewhere"


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_the_sheet_sorts_opens_critiques_and_prints_in_a_browser(results: list[AnalysisResult], tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    write_batch_html(tmp_path / "sheet.html", results)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.goto((tmp_path / "sheet.html").as_uri())

        def order() -> list[str]:
            return page.locator(".sheet .file").all_inner_texts()

        assert order()[0] == "img_9.jpg"
        page.select_option("#order", label="Lighting")
        assert order() == ["img_10.jpg", "c & d.jpg", "img_9.jpg", "gone.jpg"]
        assert page.locator(".critiqued h2").all_inner_texts() == order(), "also the critiques, for printing"
        page.select_option("#order", label="File name")
        assert order() == ["c & d.jpg", "gone.jpg", "img_9.jpg", "img_10.jpg"], "numbers as numbers"
        page.select_option("#order", label="Time taken")
        assert order()[:2] == ["img_9.jpg", "img_10.jpg"]
        page.get_by_role("link", name="c & d.jpg").press("Enter")
        assert page.locator(".critiqued:target h2").inner_text() == "c & d.jpg"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        frame, picture = (page.locator(f".sheet .picture{tag}").first.bounding_box() for tag in ("", " img"))
        assert frame is not None and picture is not None and picture["height"] <= frame["height"], "not cropped"
        assert Axe().run(page).response["violations"] == [] and told == []
        page.emulate_media(media="print")
        assert not page.locator("#order").is_visible()
        browser.close()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_the_sheet_is_printed_to_pdf(results: list[AnalysisResult], tmp_path: Path) -> None:
    write_batch_pdf(tmp_path / "sheet.pdf", results)
    data = (tmp_path / "sheet.pdf").read_bytes()
    assert data.startswith(b"%PDF-") and b"/MediaBox [0 0 594.9" in data, "A4 is 595 points wide"
    write_batch_pdf(tmp_path / "letter.pdf", results, "letter")
    assert b"/MediaBox [0 0 612 792]" in (tmp_path / "letter.pdf").read_bytes()


def test_without_a_browser_nothing_is_critiqued(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pdf_print, "BROWSERS", ())
    with pytest.raises(BadInput, match="--html FILE"):
        find_browser()
    words = ["analyze", str(tmp_path), "--advisor", "ansel", "--pdf", str(tmp_path / "a.pdf")]
    assert main([*words, "--workspace", str(settings.root)]) == 2
    assert "print it to PDF there" in capsys.readouterr().err


def test_a_browser_that_fails_leaves_the_old_file(
    results: list[AnalysisResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(pdf_print, "find_browser", lambda: browser)
    (tmp_path / "sheet.pdf").write_bytes(b"old")
    with pytest.raises(PdfFailed, match="no display"):
        write_batch_pdf(tmp_path / "sheet.pdf", results)
    assert (tmp_path / "sheet.pdf").read_bytes() == b"old"


def test_sheet_outlines_regions_and_shows_the_crop(tmp_path: Path) -> None:
    """The sheet is one file that needs no other, so the crop is a data: URL."""
    path = tmp_path / "a.jpg"
    Image.effect_mandelbrot((120, 80), (-2, -1, 1, 1), 60).convert("RGB").save(path)
    critique = make_critique(dict.fromkeys(DIMENSIONS, 6.0), dict.fromkeys(DIMENSIONS, "Fine."))
    advised = replace(critique.assessments["lighting"], recommendation="Burn it.", regions=((0.7, 0.0, 1.0, 0.3),))
    critique = replace(critique, assessments={**critique.assessments, "lighting": advised})
    judged = {"grade": 5.0, "interval": [4.9, 5.1]}
    crops = {
        "offered": True,
        "reason": "This crop makes it square.",
        "passes": 31,
        "tried": [{}],
        "whole": judged,
        "crop": {"box": [0.0, 0.0, 0.66, 1.0], "degrees": 0.0, **judged},
        "difference": 1.1,
        "difference_interval": [0.9, 1.3],
    }
    result = AnalysisResult(
        path=path, advisor="ansel", requested_mode="lora", critique=critique, mode="lora", details={"crops": crops}
    )
    text = contact_sheet_page([result])
    assert "upper right" in text and 'data-outline="region-1-lighting"' in text
    assert "This crop makes it square." in text
    assert text.count("data:image/jpeg") == 4, "thumbnail, picture, whole and crop"
    assert 'src="/' not in text and 'href="/' not in text
