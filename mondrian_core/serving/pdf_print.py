"""Prints an HTML page to PDF with an installed browser of the Chromium family.

Why not with a library: docs/decisions/0125-watched-folders-and-contact-sheets.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from mondrian_core.errors import BadInput, Broken
from mondrian_core.files import write_atomic

Paper = Literal["A4", "letter"]
BROWSERS = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "microsoft-edge", "brave-browser")
_APPLICATIONS = ("Google Chrome", "Chromium", "Microsoft Edge", "Brave Browser")
_SECONDS = 600


class PdfFailed(Broken):
    """The browser could not print the page."""


def find_browser() -> Path:
    """The installed browser that prints.

    Raises:
        BadInput: there is none.
    """
    places = [Path(found) for name in BROWSERS if (found := shutil.which(name))]
    folders = (Path("/Applications"), Path("~/Applications").expanduser())
    places += [folder / f"{name}.app/Contents/MacOS/{name}" for folder in folders for name in _APPLICATIONS]
    for place in places:
        if place.is_file():
            return place
    raise BadInput(
        "A PDF needs Chrome, Chromium, Edge or Brave on this machine, and none was found.",
        "Write the contact sheet with --html FILE instead, open it in any browser, and print it to PDF there.",
    )


def print_to_pdf(html: str, path: Path, paper: Paper = "A4") -> None:
    """Print a page that needs no other file. The browser gets a profile of its own, and nothing of the user's.

    Args:
        html: the page.
        path: of the PDF.
        paper: its size, upright.

    Raises:
        BadInput: no browser is installed.
        PdfFailed: the browser failed; an existing file is unchanged.
        DiskFull: no space is left.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="mondrian-pdf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        page, pdf = folder / "page.html", folder / "page.pdf"
        sized = html.replace("</head>", f"<style>@page {{ size: {paper} portrait }}</style></head>", 1)
        page.write_text(sized, encoding="utf-8", errors="replace")
        command = [
            str(browser),
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--no-pdf-header-footer",
            "--disable-extensions",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium refuses to start as root otherwise
            f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={pdf}",
            page.as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
            detail = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        except (OSError, subprocess.TimeoutExpired) as error:
            detail = str(error)
        data = pdf.read_bytes() if pdf.is_file() else b""
    if not data.startswith(b"%PDF-"):
        raise PdfFailed(
            f"{browser.name} could not print {path.name}: {detail[:300]}.",
            "Write the contact sheet with --html FILE, open it in a browser, and print it there.",
        )
    write_atomic(path, data)
