"""Thumbnails: size, orientation, no metadata, a cache that is never wrong and can be deleted at any time."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mondrian_core.errors import BadPhotograph
from mondrian_core.thumbnails import SIDES, thumbnail_jpeg, thumbnail_path


def photograph(path: Path, size: tuple[int, int] = (800, 600), form: str = "JPEG", **more: object) -> str:
    """Write a photograph whose left half is red; return the SHA-256 of its bytes."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, form, **more)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF"])
def test_thumbnail_of_every_format(tmp_path: Path, form: str) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    sha256 = photograph(tmp_path / "source" / "a", form=form)
    image = opened(thumbnail_jpeg(tmp_path, "source/a", sha256, 320))
    assert image.size == (320, 240) and image.format == "JPEG"
    red = np.asarray(image)[100, :, 0]
    assert red[40] > 200 and red[280] < 60


def test_thumbnail_is_upright_and_has_no_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (59.0, 54.0, 0.0)})
    sha256 = photograph(tmp_path / "a.jpg", exif=exif.tobytes())
    image = opened(thumbnail_jpeg(tmp_path, "a.jpg", sha256, 160))
    assert image.size == (120, 160)
    assert not image.getexif() and np.asarray(image)[20, 60, 0] > 200


def test_side_is_rounded_up_to_a_kept_one_and_never_enlarges(tmp_path: Path) -> None:
    sha256 = photograph(tmp_path / "a.jpg")
    for side, kept in ((1, 160), (200, 320), (320, 320), (700, 800), (10_000, 800)):
        assert max(opened(thumbnail_jpeg(tmp_path, "a.jpg", sha256, side)).size) == kept
    assert sorted(int(each.name) for each in (tmp_path / "thumbnails").iterdir()) == sorted(set(SIDES) - {640})


def test_thumbnail_outlives_its_photograph_and_a_lost_one_is_made_again(tmp_path: Path) -> None:
    sha256 = photograph(tmp_path / "a.jpg")
    first = thumbnail_jpeg(tmp_path, "a.jpg", sha256, 320)
    cached = thumbnail_path(tmp_path, sha256, 320)
    for damage in (lambda: cached.unlink(), lambda: cached.write_bytes(first[:200]), lambda: cached.write_bytes(b"")):
        damage()
        assert thumbnail_jpeg(tmp_path, "a.jpg", sha256, 320) == first == cached.read_bytes()
    (tmp_path / "a.jpg").unlink()
    assert thumbnail_jpeg(tmp_path, "a.jpg", sha256, 320) == first
    with pytest.raises(BadPhotograph, match="no such file"):
        thumbnail_jpeg(tmp_path, "a.jpg", sha256, 640)


def test_changed_photograph_is_never_shown_under_the_old_hash(tmp_path: Path) -> None:
    sha256 = photograph(tmp_path / "a.jpg")
    photograph(tmp_path / "a.jpg", (600, 800))
    with pytest.raises(BadPhotograph, match=r"content has changed.*--rescan"):
        thumbnail_jpeg(tmp_path, "a.jpg", sha256, 320)
    assert not list(tmp_path.glob("thumbnails/**/*.jpg"))


@pytest.mark.parametrize("path", ["../a.jpg", "source/../../a.jpg", "nowhere.jpg", "x" * 5000, "a\0b.jpg"])
def test_paths_out_of_the_workspace_are_refused(tmp_path: Path, path: str) -> None:
    photograph(tmp_path / "a.jpg")
    with pytest.raises(BadPhotograph):
        thumbnail_jpeg(tmp_path / "workspace", path, "0" * 64, 320)


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_a_hash_names_a_thumbnail(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(BadPhotograph, match="not a photograph's SHA-256"):
        thumbnail_jpeg(tmp_path, "a.jpg", sha256, 320)
