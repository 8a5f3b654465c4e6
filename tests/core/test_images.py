"""Photographs: every kind that arrives, every kind that is refused."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import (
    MAX_BYTES,
    PhotographRejection,
    downscale_to_fit,
    jpeg_bytes,
    open_photograph,
    read_photograph_header,
)
from mondrian_core.perceptual_hash import perceptual_hash, perceptual_hash_distance


def scene(width: int = 64, height: int = 40, seed: int = 0) -> Image.Image:
    """A picture without symmetry: a bright patch at the upper left on a ramp, a little noise."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 160, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    pixels = np.repeat(ramp, 3, axis=2) + rng.normal(0, 2, (height, width, 3))
    pixels[: height // 3, : width // 4] = 230
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def written(folder: Path, data: bytes, name: str = "photo.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def reason_of(source: Path | bytes, **options: int) -> str:
    with pytest.raises(BadPhotograph) as caught:
        open_photograph(source, **options)
    assert caught.value.reason in list(PhotographRejection)
    return caught.value.reason


def same(first: Image.Image, second: Image.Image, tolerance: float = 3.0) -> bool:
    one, other = (np.asarray(image.convert("RGB"), dtype=float) for image in (first, second))
    return one.shape == other.shape and float(np.abs(one - other).mean()) < tolerance


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("MPO", {"quality": 95}),
    ],
)
def test_common_image_formats_are_read(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    path = written(tmp_path, encoded(scene(), kind, **options), "photo.anything")
    photograph = open_photograph(path)
    assert same(photograph.image, scene())
    assert (photograph.image.mode, photograph.width, photograph.height) == ("RGB", 64, 40)
    facts = read_photograph_header(path)
    assert (facts.width, facts.height, facts.bytes) == (64, 40, path.stat().st_size)


def test_heic_is_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    path = written(tmp_path, encoded(scene(), "HEIF", quality=95), "photo.heic")
    assert same(open_photograph(path).image, scene(), 6)
    assert read_photograph_header(path).width == 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = scene()
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the turn that undoes what a viewer will do
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path, encoded(stored, "JPEG", quality=98, exif=exif))
    photograph = open_photograph(path)
    assert same(photograph.image, upright)
    assert (read_photograph_header(path).width, read_photograph_header(path).height) == upright.size
    assert not photograph.image.getexif()


@pytest.mark.parametrize("value", [0, 9, 77])
def test_invalid_exif_orientation_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert same(open_photograph(encoded(scene(), "JPEG", quality=98, exif=exif)).image, scene())


def test_location_and_device_metadata_are_removed() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (37.0, 44.0, 0.0)
    exif[0x010F] = "Camera"
    image = open_photograph(encoded(scene(), "JPEG", exif=exif)).image
    assert "exif" not in image.info
    assert b"Exif" not in jpeg_bytes(image)


def test_16_bit_images_are_scaled() -> None:
    values = np.linspace(0, 65535, 64 * 40).reshape(40, 64).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        opened = np.asarray(open_photograph(encoded(Image.fromarray(values), kind)).image)[:, :, 0]
        assert np.abs(opened - values / 257).max() <= 1


def test_float_grayscale_is_converted() -> None:
    values = np.linspace(0, 1, 64 * 40).reshape(40, 64).astype(np.float32)
    values[0, 0] = np.nan
    opened = np.asarray(open_photograph(encoded(Image.fromarray(values), "TIFF")).image)[:, :, 0]
    assert opened[-1, -1] == 255
    assert opened[0, 0] == 0


def test_alpha_is_composited_on_white() -> None:
    image = scene().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    for source in (image, image.convert("LA")):
        assert np.asarray(open_photograph(encoded(source)).image).min() == 255
    palette = scene().convert("P")
    data = encoded(palette, transparency=palette.getpixel((0, 0)))
    assert open_photograph(data).image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray((np.asarray(scene().convert("L")).astype(np.uint16)) * 257)
    else:
        image = scene().convert(mode)
    assert open_photograph(encoded(image, "TIFF" if mode != "P" else "PNG")).image.mode == "RGB"


def test_cmyk_jpeg_keeps_its_colours() -> None:
    opened = open_photograph(encoded(scene().convert("CMYK"), "JPEG", quality=95)).image
    assert same(opened, scene(), 8)


def test_embedded_color_profile_is_applied() -> None:
    """Without the conversion, (200, 100, 50) of another colour space would come out as it is written."""
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    with_srgb = encoded(
        Image.new("RGB", (8, 8), (200, 100, 50)),
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    assert np.allclose(open_photograph(with_srgb).image.getpixel((0, 0)), (200, 100, 50), atol=2)
    swapped = encoded(Image.new("RGB", (8, 8), (200, 100, 50)), icc_profile=_swapped_profile())
    assert open_photograph(swapped).image.getpixel((0, 0)) != (200, 100, 50)
    foreign = encoded(Image.new("RGB", (8, 8), (200, 100, 50)), icc_profile=wide.tobytes())
    assert open_photograph(foreign).image.getpixel((0, 0)) == (200, 100, 50)
    damaged = encoded(Image.new("RGB", (8, 8), (200, 100, 50)), icc_profile=b"not a profile")
    assert open_photograph(damaged).image.getpixel((0, 0)) == (200, 100, 50)


def _swapped_profile() -> bytes:
    """sRGB with the columns of red and blue exchanged, so that a conversion can't go unseen."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {}
    for index in range(struct.unpack(">I", data[128:132])[0]):
        at = 132 + 12 * index
        entries[bytes(data[at : at + 4])] = at
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    return bytes(data)


def test_invalid_photographs_have_a_reason(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "none.jpg") == "missing"
    assert reason_of(tmp_path) == "not_a_photograph"
    assert reason_of(written(tmp_path, b"")) == "empty"
    assert reason_of(b"") == "empty"
    page = written(tmp_path, b"<!DOCTYPE html><html><body>404</body></html>")
    assert reason_of(page) == "not_a_photograph"
    with pytest.raises(BadPhotograph, match="HTML"):
        open_photograph(page)
    assert reason_of(b"GIF89a" + bytes(50)) == "not_a_photograph"
    assert reason_of(encoded(scene(), "GIF")) == "not_a_photograph"
    assert reason_of(encoded(scene(), "BMP")) == "not_a_photograph"
    assert reason_of(encoded(scene().convert("L"), "EPS")) == "not_a_photograph"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 0.99])
def test_truncated_images_are_rejected(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded(scene(200, 160), kind)
    path = written(tmp_path, data[: int(len(data) * share)])
    assert reason_of(path) in ("truncated", "unreadable", "not_a_photograph")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncation_is_detected_from_headers(tmp_path: Path, kind: str) -> None:
    data = encoded(scene(600, 500), kind)
    with pytest.raises(BadPhotograph) as caught:
        read_photograph_header(written(tmp_path, data[: int(len(data) * 0.8)]))
    assert caught.value.reason == "truncated"


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes whose header claims width x height pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(14_000, 14_000), (9_500, 9_500), (100_000, 100_000), (40_000, 3)])
def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    path = written(tmp_path, bomb(*size))
    assert reason_of(path) == "too_large"
    with pytest.raises(BadPhotograph) as caught:
        read_photograph_header(path)
    assert caught.value.reason == "too_large"


def test_caller_sets_pixel_limit() -> None:
    assert reason_of(encoded(scene()), max_pixels=64 * 40 - 1) == "too_large"
    assert open_photograph(encoded(scene()), max_pixels=64 * 40).width == 64


def test_oversized_file_is_rejected_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    assert reason_of(path) == "too_large"


def test_file_without_read_permission_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, encoded(scene()))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert reason_of(path) == "unreadable"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fuzzed_image_bytes_are_opened_or_rejected(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]))
    exif = Image.Exif()
    exif[0x0112] = 6
    original = bytearray(encoded(scene(), kind, exif=exif))
    for _ in range(data.draw(st.integers(1, 6))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        opened = open_photograph(bytes(original))
    except BadPhotograph as error:
        assert error.reason in list(PhotographRejection)  # noqa: PT017
    else:
        assert opened.image.mode == "RGB"


def test_photograph_hash_is_the_file_hash(tmp_path: Path) -> None:
    import hashlib

    data = encoded(scene())
    assert open_photograph(written(tmp_path, data)).sha256 == hashlib.sha256(data).hexdigest()
    assert open_photograph(data).sha256 == hashlib.sha256(data).hexdigest()


def test_perceptual_hash_matches_similar_images() -> None:
    original = perceptual_hash(scene(300, 200))
    mirrored = perceptual_hash(scene(300, 200).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert perceptual_hash_distance(original, perceptual_hash(scene(150, 100))) <= 4
    assert (
        perceptual_hash_distance(original, perceptual_hash(scene(300, 200).point(lambda value: min(255, value * 1.1))))
        <= 6
    )
    assert perceptual_hash_distance(original, mirrored) == 0
    assert original == mirrored[::-1]
    assert (
        perceptual_hash_distance(original, perceptual_hash(scene(300, 200).transpose(Image.Transpose.ROTATE_180))) > 10
    )


def test_images_are_never_upscaled() -> None:
    assert downscale_to_fit(scene(), 1024).size == (64, 40)
    assert downscale_to_fit(scene(640, 400), 320).size == (320, 200)
    assert downscale_to_fit(scene(4000, 2), 100).size == (100, 1)
