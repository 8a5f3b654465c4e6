"""Files as phones, cameras and raw converters write them: what follows a picture's end, and what is only a preview."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mondrian_core import images, srgb_pixels
from mondrian_core.errors import BadPhotograph
from mondrian_core.image_formats import jpeg_is_complete, png_is_complete, raw_kind
from mondrian_core.images import DECODED_SIDE, is_too_narrow, open_photograph, read_photograph_header


def ramp(width: int, height: int) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 1] = np.linspace(0, 255, width)[None]
    pixels[:, :, 2] = np.linspace(0, 255, height)[:, None]
    pixels[: max(1, height // 2), : max(1, width // 2)] = (255, 0, 0)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG whose EXIF data carry a complete JPEG of their own."""
    thumbnail = encoded(ramp(16, 12))
    segment = b"Exif\0\0" + bytes(26) + thumbnail
    whole = encoded(ramp(640, 480), quality=90)
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]


def refusal(source: Path | bytes) -> BadPhotograph:
    with pytest.raises(BadPhotograph) as caught:
        open_photograph(source)
    return caught.value


FILM = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + random.Random(2).randbytes(300_000).replace(b"\xff\xd9", b"\xff\xd8")
TRAILERS = {
    "film": FILM,
    "film and notes": FILM + b"MotionPhoto_Data" + b"SEFH" + bytes(40) + b"SEFT",
    "zeros": bytes(200_000),
    "second picture": encoded(ramp(64, 48)),
    "half of a second picture": encoded(ramp(640, 480))[:5000],
    "text": b"\r\n<x:xmpmeta/>\r\n" * 9000,
}


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("options", [{"quality": 90}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_trailing_bytes_after_image_are_ignored(tmp_path: Path, trailer: str, options: dict[str, int]) -> None:
    path = tmp_path / "motion.jpg"
    path.write_bytes(encoded(ramp(640, 480), **options) + TRAILERS[trailer])
    assert read_photograph_header(path).width == open_photograph(path).width == 640


def test_png_with_trailing_data_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    whole = encoded(ramp(64, 48), "PNG")
    path.write_bytes(whole + FILM)
    assert read_photograph_header(path).width == open_photograph(path).width == 64
    assert [png_is_complete(whole[:-cut]) for cut in (1, 8, 13, 40)] == [False] * 4


@pytest.mark.parametrize("trailer", ["film", "zeros", "text"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_picture_is_rejected(trailer: str, share: float) -> None:
    whole = with_thumbnail()
    assert open_photograph(whole + TRAILERS[trailer]).width == 640
    assert refusal(whole[: int(len(whole) * share)] + TRAILERS[trailer]).reason in ("truncated", "unreadable")
    assert refusal(whole[: int(len(whole) * share)]).reason == "truncated"


@given(st.data())
def test_truncated_jpeg_is_incomplete(data: st.DataObject) -> None:
    whole = with_thumbnail()
    assert jpeg_is_complete(whole)
    assert not jpeg_is_complete(whole[: data.draw(st.integers(0, len(whole) - 2))])


def tiff(
    *directories: dict[int, int | bytes | tuple[int, ...]],
    order: str = "<",
    big: bool = False,
    children: tuple[dict[int, int | bytes | tuple[int, ...]], ...] = (),
) -> bytes:
    """A TIFF or BigTIFF file: a chain of directories, and sub-directories of the first. Pixels stay out."""
    counter, pointer = ("Q", "Q") if big else ("H", "I")
    size = struct.calcsize(order + pointer)
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8))
    tags = [dict(each) for each in (*directories, *children)]
    if children:
        tags[0][330] = (0,) * len(children)
    lengths = [struct.calcsize(order + counter) + len(each) * (4 + 2 * size) + size for each in tags]
    places = [len(head) + sum(lengths[:number]) for number in range(len(tags))]
    behind = b""
    end = len(head) + sum(lengths)
    if children:
        tags[0][330] = tuple(places[len(directories) :])
    body = b""
    for number, each in enumerate(tags):
        body += struct.pack(order + counter, len(each))
        for tag, value in sorted(each.items()):
            values = (value,) if isinstance(value, int) else value
            kind, form = (2, "B") if isinstance(value, bytes) else (4, "I")
            packed = struct.pack(f"{order}{len(values)}{form}", *values)
            if len(packed) > size:
                place, behind = end + len(behind), behind + packed
                packed = struct.pack(order + pointer, place)
            body += struct.pack(f"{order}HH{pointer}", tag, kind, len(values)) + packed.ljust(size, b"\0")
        last = number >= len(directories) - 1
        body += struct.pack(order + pointer, 0 if last else places[number + 1])
    return head + body + behind


def directory(width: int, height: int, **more: int | bytes) -> dict[int, int | bytes | tuple[int, ...]]:
    named = {"subfile": 254, "compression": 259, "photometric": 262, "make": 271, "dng": 50706}
    return {256: width, 257: height, **{named[name]: value for name, value in more.items()}}


PREVIEW, SENSOR = directory(160, 120, subfile=1), directory(6000, 4000, photometric=32803)
RAW = {
    "dng": tiff({**directory(160, 120), 50706: b"\1\4\0\0"}),
    "dng, the sensor first": tiff({**SENSOR, 50706: b"\1\4\0\0"}),
    "dng, big endian": tiff(PREVIEW, order=">", children=(directory(6000, 4000, photometric=34892),)),
    "dng, BigTIFF": tiff(PREVIEW, big=True, children=(SENSOR,)),
    "nef": tiff(directory(160, 120, make=b"NIKON CORPORATION\0"), children=(directory(6000, 4000, compression=34713),)),
    "arw": tiff(
        directory(1616, 1080, subfile=1, make=b"SONY\0"),
        directory(160, 120),
        children=(directory(6000, 4000, compression=32767),),
    ),
    "pef": tiff(directory(4000, 3000, make=b"PENTAX\0", compression=65535)),
    "srw": tiff(directory(160, 120), children=(directory(5472, 3648, compression=32770),)),
    "a preview whose picture is unknown": tiff(directory(160, 120, subfile=1), children=(directory(6000, 4000),)),
    "a preview, the picture next in the chain": tiff(directory(160, 120, subfile=1), directory(6000, 4000)),
    "cr2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(500),
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(500),
    "raf": b"FUJIFILMCCD-RAW 0201FF393101" + bytes(500),
    "orf": b"IIRO\x08\0\0\0" + bytes(500),
    "rw2": b"IIU\0\x08\0\0\0" + bytes(500),
    "x3f": b"FOVb" + bytes(500),
    "iiq": b"II*\0\x08\0\0\0IIII" + bytes(500),
}


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("name", ["photo.raw", "photo.tif", "photo.jpg"])
def test_raw_files_are_refused_by_content(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(RAW[kind])
    for look in (open_photograph, read_photograph_header):
        with pytest.raises(BadPhotograph, match="raw file") as caught:
            look(path)
        assert (caught.value.reason, "raw converter" in caught.value.next_step) == ("raw", True)


def test_ordinary_tiff_files_are_not_raw_files() -> None:
    pages = encoded(ramp(64, 40), "TIFF", save_all=True, append_images=[ramp(200, 100)])
    pyramid = tiff(directory(6000, 4000), children=(directory(3000, 2000, subfile=1), directory(1500, 1000, subfile=1)))
    assert [raw_kind(data) for data in (pages, pyramid, encoded(ramp(64, 40)), b"II*\0", b"", bytes(99))] == [None] * 6
    assert open_photograph(pages).width == 64


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(RAW)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(0, 500),
)
def test_corrupt_image_structures_never_raise(kind: str, changes: list[tuple[int, int]], kept: int) -> None:
    data = bytearray(RAW[kind])
    for place, value in changes:
        data[place % len(data)] = value
    raw_kind(bytes(data[: kept + 1]))
    jpeg_is_complete(bytes(data))
    png_is_complete(bytes(data))


@pytest.mark.parametrize(
    ("size", "narrow"),
    [
        ((3000, 10), True),
        ((9, 2000), True),
        ((2001, 10), True),
        ((201, 1), True),
        ((5, 1000), False),
        ((1, 1), False),
        ((20_000, 104), True),  # 192 : 1, but 1024 x 5 when it is bounded
        ((20_000, 150), False),
    ],
)
def test_too_narrow_images_are_rejected(size: tuple[int, int], narrow: bool) -> None:
    assert is_too_narrow(size) is narrow
    data = encoded(Image.new("RGB", size, "teal"), "PNG")
    if narrow:
        assert refusal(data).reason == "too_narrow"
    else:
        assert open_photograph(data).width == size[0]


def test_megapixel_limit_is_configurable(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (11_648, 8736), 90), quality=30)
    assert "MONDRIAN_MAX_MEGAPIXELS=102" in refusal(data).next_step
    monkeypatch.setenv("MONDRIAN_MAX_MEGAPIXELS", "102")
    opened = open_photograph(data)
    assert (opened.width, opened.height) == (11_648, 8736)
    assert opened.image.size == (2912, 2184)


KINDS = [
    ("JPEG", "RGB"),
    ("JPEG", "L"),
    ("JPEG", "CMYK"),
    ("MPO", "RGB"),
    ("PNG", "RGBA"),
    ("PNG", "P"),
    ("PNG", "1"),
    ("PNG", "LA"),
    ("PNG", "I;16"),
    ("TIFF", "RGB"),
    ("TIFF", "F"),
    ("WEBP", "RGB"),
]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_large_pictures_are_reduced_and_upright(tmp_path: Path, kind: str, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = ramp(6000, 300)
    picture = Image.fromarray(np.asarray(grey.convert("L"), np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    path = tmp_path / "large"
    path.write_bytes(encoded(picture, kind, exif=exif, **({} if kind == "PNG" else {"quality": 92})))
    opened, facts = open_photograph(path), read_photograph_header(path)
    assert (facts.width, facts.height) == (300, 6000)
    assert (opened.width, opened.height, opened.image.mode) == (300, 6000, "RGB")
    assert DECODED_SIDE <= opened.image.height < 2 * DECODED_SIDE
    wanted = grey.convert("L").transpose(Image.Transpose.ROTATE_270).resize(opened.image.size, Image.Resampling.BOX)
    if mode not in ("1", "F", "P"):
        apart = np.abs(np.asarray(opened.image.convert("L"), float) - np.asarray(wanted, float))
        assert apart.mean() < 3


def test_large_jpeg_is_not_decoded_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own memory isn't Python's, so the sizes that it allocates are looked at."""
    sizes = []
    core = Image.core  # type: ignore[attr-defined]
    core_new = core.new
    monkeypatch.setattr(core, "new", lambda mode, size: sizes.append(size) or core_new(mode, size))
    data = encoded(Image.new("RGB", (9000, 8800), "teal"), quality=20)
    sizes.clear()
    tracemalloc.start()
    open_photograph(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(width * height for width, height in sizes) < 6_000_000
    assert peak < 40_000_000


def test_one_full_size_picture_is_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data, at_once, most = encoded(ramp(640, 480), "PNG"), 0, 0
    convert = srgb_pixels.in_srgb

    def slowly(image: Image.Image, decoded_side: int) -> Image.Image:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.05)
        done = convert(image, decoded_side)
        at_once -= 1
        return done

    monkeypatch.setattr(images, "in_srgb", slowly)
    with ThreadPoolExecutor(4) as pool:
        assert [opened.width for opened in pool.map(open_photograph, [data] * 4)] == [640] * 4
    assert most == 1
