"""`make screenshots`: make the pictures of docs/images/ again, from nothing, in a temporary folder.

`make screenshots ARGS=demo.svg` makes the recording alone, on a machine that does nothing else: its clock shows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench.screenshots.pictures import DEMO, DENSITY, PICTURES, image_files, take_picture
from bench.screenshots.studio import ROOT, Studio, open_studio, record_demo
from bench.screenshots.terminal_svg import terminal_svg
from mondrian_core.files import write_atomic
from mondrian_core.serving.pdf_print import find_browser

IMAGES = ROOT / "docs" / "images"
# Linux without a desktop falls back to DejaVu Sans for `system-ui`; elsewhere nobody reads this
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<match target="pattern"><test name="family" qual="any"><string>DejaVu Sans</string></test>
<edit name="family" mode="prepend_first" binding="strong"><string>Inter</string></edit></match>
</fontconfig>
"""


def main() -> None:
    """Open the studio and take all pictures, or the named ones."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures to make (default: all)")
    parser.add_argument("--studio", type=Path, metavar="FOLDER", help="keep the studio here, and use one that is there")
    options = parser.parse_args()
    known = image_files()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such picture: {', '.join(unknown)}; the pictures are {', '.join(known)}")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mondrian-", ignore_cleanup_errors=True) as temporary:
        folder = (options.studio or Path(temporary)).absolute()
        wanted = set(options.names or known)
        if DEMO in wanted:
            write_recording(folder)
        if pictures := wanted - {DEMO}:
            with open_studio(folder) as studio:
                take_pictures(studio, pictures)


def write_recording(folder: Path) -> None:
    """Record the demo in a studio's folder and write it to docs/images/; it needs no service."""
    names = [(str(folder), "~"), (str(folder.resolve()), "~")]
    write_atomic(IMAGES / DEMO, terminal_svg(record_demo(folder), "make demo, recorded in a terminal", names))
    print(f"{DEMO}: {(IMAGES / DEMO).stat().st_size:,} bytes", flush=True)


def take_pictures(studio: Studio, wanted: set[str]) -> None:
    """Write the wanted pictures to docs/images/."""
    with sync_playwright() as playwright:
        fonts = studio.folder / "fonts.conf"
        write_atomic(fonts, FONTS)
        environment: dict[str, str | float | bool] = {**os.environ, "FONTCONFIG_FILE": str(fonts)}
        browser = playwright.chromium.launch(executable_path=find_browser(), env=environment)
        context = browser.new_context(
            device_scale_factor=DENSITY,
            color_scheme="light",
            reduced_motion="reduce",
            locale="en-US",
            timezone_id="UTC",
        )
        for picture in PICTURES:
            if picture.file in wanted:
                print(f"{picture.file}: {take_picture(context, studio, picture, IMAGES):,} bytes", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
