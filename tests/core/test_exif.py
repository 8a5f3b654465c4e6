"""Facts about the camera for pages: plausible values only, printable text, never a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from mondrian_core.exif import MAX_FACT_LENGTH, camera_facts, time_taken


def photograph(path: Path, main: dict[int, Any], camera: dict[int, Any]) -> Path:
    exif = Image.Exif()
    exif.update(main)
    exif.get_ifd(0x8769).update(camera)
    exif.get_ifd(0x8825).update({1: "N", 2: (59.0, 54.0, 0.0), 3: "E", 4: (10.0, 45.0, 0.0)})
    Image.new("RGB", (48, 32), "teal").save(path, exif=exif.tobytes())
    return path


def test_camera_facts_of_a_photograph(tmp_path: Path) -> None:
    settings = {
        0x829A: IFDRational(1, 125),
        0x829D: IFDRational(8, 1),
        0x8827: 100,
        0x920A: IFDRational(35, 1),
        0xA434: "NIKKOR Z 35mm f/1.8 S",
    }
    path = photograph(tmp_path / "a.jpg", {0x010F: "NIKON CORPORATION", 0x0110: "NIKON Z 7"}, settings)
    assert camera_facts(path) == {
        "camera": "NIKON Z 7",
        "lens": "NIKKOR Z 35mm f/1.8 S",
        "focal_length": "35 mm",
        "aperture": "f/8",
        "exposure_time": "1/125 s",
        "sensitivity": "ISO 100",
    }


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Apple", "iPhone 15 Pro", "Apple iPhone 15 Pro"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("FUJIFILM", "", "FUJIFILM"),
        ("", "X100V", "X100V"),
        ("<b>Evil</b>\n\x1b[31m", "box\0hidden", "<b>Evil</b> [31m box"),
        ("A", "x" * 500, "A " + "x" * (MAX_FACT_LENGTH - 2)),
        ("\0\0", "   ", None),
    ],
)
def test_name_of_the_camera(make: str, model: str, camera: str | None) -> None:
    assert camera_facts({0x010F: make, 0x0110: model}).get("camera") == camera


def test_values_of_other_types_are_left_out() -> None:
    odd = {
        0x010F: 5,
        0x0110: (1, 2),
        0x829A: "fast",
        0x829D: (),
        0x8827: float("nan"),
        0x920A: b"\0",
        0xA434: b"\xff\xfeL",
    }
    assert camera_facts(odd) == {"lens": "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}L"}


def test_place_and_owner_are_no_facts(tmp_path: Path) -> None:
    path = photograph(
        tmp_path / "a.jpg", {0x0110: "X100V", 0x013B: "Somebody", 0x8298: "(c) Somebody"}, {0xA430: "Owner"}
    )
    assert camera_facts(path) == {"camera": "X100V"}


@pytest.mark.parametrize(
    ("taken", "fraction", "moment"),
    [
        ("2026:05:17 04:12:00", None, "2026-05-17T04:12:00"),
        ("2026:05:17 04:12:00\0", "25", "2026-05-17T04:12:00.250000"),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("yesterday", "9", None),
        (20260517, None, None),
    ],
)
def test_time_by_the_camera_clock(taken: Any, fraction: str | None, moment: str | None) -> None:
    assert time_taken({0x9003: taken} | ({0x9291: fraction} if fraction else {})) == moment


def test_file_without_exif(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photograph")
    assert camera_facts(tmp_path / "a.jpg") == {} and time_taken(tmp_path / "a.jpg") is None
