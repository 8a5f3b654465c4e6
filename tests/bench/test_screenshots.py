"""The terminal recording: what a terminal would show, and an animation whose last screen stays."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from bench.screenshots.pictures import webp_within
from bench.screenshots.terminal_recording import TerminalRecording, record_terminal, replay_terminal
from bench.screenshots.terminal_svg import LINE, terminal_svg
from mondrian_core.errors import Broken

SVG = "{http://www.w3.org/2000/svg}"
PROGRAM = """
import sys
sys.stdout.write('\\x1b[1mBegin\\x1b[0m\\n  bar 10 %\\n')
sys.stdout.write('\\x1b[1A\\x1b[2Ka message\\n  bar 90 %\\n')
sys.stdout.write('\\x1b[31mend of /tmp/there\\x1b[0m\\n')
sys.exit(3)
"""


def test_command_is_recorded_as_its_terminal_shows_it(tmp_path: Path) -> None:
    recording = record_terminal([sys.executable, "-c", PROGRAM], tmp_path, dict(os.environ))
    *_, (_, lines) = replay_terminal(recording)
    assert recording.status == 3
    assert lines == ["\x1b[1mBegin\x1b[0m", "a message", "  bar 90 %", "\x1b[31mend of /tmp/there\x1b[0m", ""]
    recording.save(tmp_path / "recording.json")
    assert TerminalRecording.load(tmp_path / "recording.json") == recording


def shown_at(svg: str, seconds: float) -> list[str]:
    """The lines that the animation shows at a time, from the top."""
    found = []
    for line in ET.fromstring(svg).iter(f"{SVG}text"):
        style = line.get("style", "")
        begin, end = 0.0, float("inf")
        if wait := re.fullmatch(r"animation:wait ([\d.]+)s", style):
            begin = float(wait[1])
        elif show := re.fullmatch(r"animation:show ([\d.]+)s ([\d.]+)s", style):
            begin, end = float(show[2]), float(show[1]) + float(show[2])
        if begin <= seconds < end:
            found.append((float(line.get("y", "0")), "".join(line.itertext())))
    return [text for _, text in sorted(found)]


def test_animation_shows_one_version_of_each_line_and_keeps_the_last_screen() -> None:
    recording = TerminalRecording(
        0, ((0.0, "Begin\r\n"), (0.5, "  bar 10 %\r\n"), (60.0, "\x1b[1A\x1b[2K\x1b[32mready\x1b[0m /tmp/there\r\n"))
    )
    svg = terminal_svg(recording, "a demo", [("/tmp/there", "~")])
    times = [float(each) for each in re.findall(r"(?:show [\d.]+s|wait) ([\d.]+)s", svg)]
    assert max(times) < 10, "long waits are cut"
    assert shown_at(svg, 0.0) == ["$"]
    assert "bar 10 %" in shown_at(svg, max(times) - 0.01)
    assert shown_at(svg, 1e6) == ["$make demo", "Begin", "ready~"]
    kept = [line for line in ET.fromstring(svg).iter(f"{SVG}text") if line.get("class") != "gone"]
    assert len(kept) == 3, "without animations the last screen shows"


def test_long_output_scrolls() -> None:
    recording = TerminalRecording(0, tuple((at / 10, f"line {at}\r\n") for at in range(50)))
    svg = terminal_svg(recording, "long")
    steps = svg.partition("@keyframes scroll")[2].partition("\n")[0]
    moved = [int(each) for each in re.findall(r"translateY\(-(\d+)px\)", steps)]
    assert moved == [LINE * step for step in range(1, len(moved) + 1)]
    assert f".all {{ transform: translateY(-{moved[-1]}px)" in svg


def test_picture_that_cannot_be_small_is_refused() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    written = io.BytesIO()
    noise.save(written, "PNG")
    assert len(webp_within(written.getvalue(), 200_000)) <= 200_000
    with pytest.raises(Broken, match="more than 2000 bytes"):
        webp_within(written.getvalue(), 2000)
