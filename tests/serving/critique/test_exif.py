"""Camera settings in the prompt when enabled; place and time never leave the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from mondrian_core.exif import exif_description, messages_with_exif
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.serving.batch_analyze import BatchRequest, analyze_photographs
from mondrian_core.serving.http.pages import job_page, photograph_jpeg
from mondrian_core.settings import Settings
from mondrian_core.store import Store

PLACE, SHOT = "59 deg 54' N", "2026:05:17 04:12:00"


def tagged(path: Path, form: str = "JPEG", **values: Any) -> Path:
    """A photograph with tags for camera settings, place, time and owner."""
    exif = Image.Exif()
    exif[0x0110], exif[0x013B] = "Camera of somebody", "Somebody"
    tags = {"focal": 0x920A, "aperture": 0x829D, "exposure": 0x829A, "iso": 0x8827}
    exif.get_ifd(0x8769).update({tags[name]: value for name, value in values.items()} | {0x9003: SHOT})
    exif.get_ifd(0x8825).update({1: "N", 2: (59.0, 54.0, 0.0), 0x1B: PLACE.encode()})
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), "teal").save(buffer, form, exif=exif.tobytes())
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"focal": IFDRational(35, 1), "aperture": IFDRational(8, 1), "exposure": IFDRational(1, 125), "iso": 100},
            "Taken at 35 mm, f/8, 1/125 s, ISO 100.",
        ),
        ({"aperture": IFDRational(28, 10), "exposure": IFDRational(2, 1)}, "Taken at f/2.8, 2 s."),
        ({"focal": IFDRational(1, 0), "aperture": IFDRational(0, 1), "exposure": IFDRational(-1, 5)}, None),
        ({}, None),
    ],
)
def test_camera_facts_from_exif_values(tmp_path: Path, values: dict[str, Any], said: str | None) -> None:
    assert exif_description(tagged(tmp_path / "a.jpg", **values)) == said


@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "HEIF"])
def test_exif_is_read_from_every_format(tmp_path: Path, form: str) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tagged(tmp_path / "photo.anything", form, focal=IFDRational(35, 1), iso=100)
    assert exif_description(path) == "Taken at 35 mm, ISO 100."


@pytest.mark.parametrize(
    "data", [b"", b"no photograph", b"\xff\xd8\xff\xe1\x00\x20Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff"]
)
def test_corrupt_exif_is_ignored(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert exif_description(tmp_path / "a.jpg") is None
    assert exif_description(tmp_path / "none.jpg") is None


def test_camera_sentence_comes_before_the_photograph() -> None:
    messages = critique_messages(AdvisorPrompt("ansel", "Ansel Adams"))
    told = messages_with_exif(messages, "Taken at 35 mm.")
    assert [part.get("text", "photograph") for part in told[-1]["content"]][1:] == ["\nTaken at 35 mm.", "photograph"]
    assert messages_with_exif(messages, None) == messages == critique_messages(AdvisorPrompt("ansel", "Ansel Adams"))


@pytest.mark.parametrize("enabled", [False, True])
def test_exif_setting_enables_camera_facts(settings: Settings, fake_engine: Any, enabled: bool) -> None:
    tagged(settings.root / "source" / "tagged.jpg", focal=IFDRational(35, 1))
    asked, ask = [], fake_engine.ask
    fake_engine.ask = lambda question, *more: asked.append(question) or ask(question, *more)
    place = settings.model_copy(update={"exif_enabled": enabled})
    (result,) = analyze_photographs(
        place,
        BatchRequest(paths=[settings.root / "source" / "tagged.jpg"], advisor="ansel", mode="baseline"),
        engine=fake_engine,
    )
    assert ("Taken at 35 mm." in str(asked[0].messages)) is enabled
    assert result.details.get("camera") == ("Taken at 35 mm." if enabled else None)
    with Store(settings.database, read_only=True) as store:
        served = photograph_jpeg(settings.root, next(iter(store.jobs())))
    assert not Image.open(io.BytesIO(served)).getexif()
    kept = [path.read_bytes() for path in (settings.root / "analysis_md").iterdir()]
    assert result.camera["camera"] == "Camera of somebody" and result.camera["focal_length"] == "35 mm"
    assert result.taken_at == "2026-05-17T04:12:00", "people see it next to the critique"
    assert not any(secret in str(result) for secret in (PLACE, "GPS", "'Somebody'"))
    everything = (
        str(asked)
        + str(result.details)
        + str(result.critique)
        + str(kept)
        + str(asked[0].image.getexif())
        + str(asked[0].image.info)
    )
    for secret in (PLACE, SHOT, "GPS", "Somebody", "Camera of"):
        assert secret not in everything


def test_job_page_shows_the_camera_without_the_place(settings: Settings, make_service: Any) -> None:
    tagged(settings.root / "source" / "tagged.jpg", focal=IFDRational(35, 1), iso=100)
    service = make_service()
    job, _ = service.store.add_job("ansel", "tagged.jpg")
    page = job_page(service, job)
    for shown in ("Camera of somebody", "35 mm", "ISO 100", "2026-05-17 04:12"):
        assert shown in page
    assert PLACE not in page and ">Somebody" not in page
    (settings.root / "source" / "tagged.jpg").unlink()
    assert "figcaption" not in job_page(service, job)
