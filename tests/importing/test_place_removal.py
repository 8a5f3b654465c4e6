"""Removing the place: every format, exiftool finds nothing, pixels and all other metadata are as before."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import embedded_metadata
from mondrian_core.importing.place_removal import without_place

FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "HEIF")
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'xmlns:drone="http://www.dji.com/drone-dji/1.0/" xmp:Rating="4" exif:GPSLatitude="59,54.0N" '
    b"drone:GpsLongitude = '+10.75'><exif:GPSLongitude>10,45.2E</exif:GPSLongitude><exif:GPSAltitude/>"
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def exif(order: str = "<") -> Image.Exif:
    made = Image.Exif()
    made.endian = order
    made[0x0110], made[0x0112], made[0x013B] = "X100V", 6, "A photographer"
    made.get_ifd(0x8769).update({0x9003: "2026:05:17 04:12:00", 0x8827: 100})
    made.get_ifd(0x8825).update({1: "N", 2: (59.0, 54.0, 0.0), 3: "E", 4: (10.0, 45.0, 12.5), 0x1D: "2026:05:17"})
    return made


def photograph(form: str, *, order: str = "<", xmp: bytes | None = XMP, **more: Any) -> bytes:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = np.random.default_rng(3).integers(0, 255, (40, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    tags = exif(order)
    if form == "TIFF" and xmp:
        tags[700] = xmp
    values: dict[str, Any] = {"exif": tags.tobytes()}
    if form == "PNG" and xmp:
        values["pnginfo"] = PngImagePlugin.PngInfo()
        values["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=more.pop("zip", False))
    elif form != "TIFF" and xmp:
        values["xmp"] = xmp
    Image.fromarray(pixels).save(buffer, form, **values, **more)
    return buffer.getvalue()


def pixels_of(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def exiftool(path: Path, *words: str) -> dict[str, Any]:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    done = subprocess.run(["exiftool", "-j", "-a", "-G1", *words, str(path)], capture_output=True, check=True)
    values: dict[str, Any] = json.loads(done.stdout)[0]
    return values


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", FORMATS)
def test_place_is_removed_and_the_rest_is_kept(form: str, order: str) -> None:
    data = photograph(form, order=order)
    assert embedded_metadata(data)[3] and b"GPSLatitude" in data, "the photograph has a place to begin with"
    done = without_place(data)
    assert done.removed == ("EXIF", "XMP")
    assert len(done.data) == len(data) and pixels_of(done.data) == pixels_of(data)
    assert b"GPSL" not in done.data and b"GpsL" not in done.data and b'xmp:Rating="4"' in done.data
    with Image.open(io.BytesIO(done.data)) as image:
        tags = image.getexif()
        assert not tags.get_ifd(0x8825) and 0x8825 not in tags
        assert (tags[0x0110], tags[0x013B]) == ("X100V", "A photographer")
        assert tags.get_ifd(0x8769)[0x9003] == "2026:05:17 04:12:00"
    assert without_place(done.data).removed == () and without_place(done.data).data == done.data


@pytest.mark.parametrize("form", FORMATS)
def test_exiftool_finds_no_place_and_no_new_fault(tmp_path: Path, form: str) -> None:
    data = photograph(form)
    before, after = tmp_path / f"before.{form.lower()}", tmp_path / f"after.{form.lower()}"
    before.write_bytes(data)
    after.write_bytes(without_place(data).data)
    tags = exiftool(after)
    assert [name for name in tags if "gps" in name.lower()] == []
    assert len([name for name in exiftool(before) if "gps" in name.lower()]) >= 6
    assert exiftool(after, "-Orientation", "-n").get("IFD0:Orientation") == exiftool(before, "-Orientation", "-n").get(
        "IFD0:Orientation"
    )
    faults = [str(exiftool(each, "-validate", "-warning")).count("Warning") for each in (after, before)]
    assert faults[0] <= faults[1]


def test_photograph_without_a_place_is_the_same_bytes() -> None:
    plain = Image.Exif()
    plain[0x0110] = "X100V"
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "JPEG", exif=plain.tobytes())
    done = without_place(buffer.getvalue())
    assert done.data is not None and done.data == buffer.getvalue() and done.removed == ()


def test_compressed_xmp_and_hexadecimal_profiles_of_png() -> None:
    data = photograph("PNG", zip=True)
    assert b"GPSLatitude" not in data, "compressed"
    profile = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\n4d4d002a00000008")
    extra = struct.pack(">I", len(profile)) + b"zTXt" + profile + struct.pack(">I", zlib.crc32(b"zTXt" + profile))
    done = without_place(data[:33] + extra + data[33:])
    assert set(done.removed) == {"EXIF", "XMP"} and b"Raw profile" not in done.data
    xmp = embedded_metadata(done.data)[2]
    assert b"GPS" not in xmp and b'xmp:Rating="4"' in xmp
    assert pixels_of(done.data) == pixels_of(data)


def test_place_of_the_film_behind_a_picture() -> None:
    film = b"\0\0\0\x20ftypmp42" + b"\0\0\0\x1e\xa9xyz\0\x12\x15\xc7+59.9000+010.7500/" + b"\0" * 40
    data = photograph("JPEG", xmp=None) + film
    done = without_place(data)
    assert done.removed == ("EXIF", "film") and b"+00.0000+000.0000/" in done.data
    assert len(done.data) == len(data) and pixels_of(done.data) == pixels_of(data)


def test_second_picture_of_a_phone_loses_its_place_too() -> None:
    one, other = (photograph("JPEG", xmp=None) for _ in range(2))
    second = without_place(one + other).data[len(one) :]
    assert not embedded_metadata(second)[3] and pixels_of(second) == pixels_of(other)


def test_directory_that_points_into_pixels_leaves_them_alone() -> None:
    """A GPS pointer to the strips of a TIFF file: what it names is a picture, not a place."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 64, 3), 1, np.uint8)).save(buffer, "TIFF", exif=exif().tobytes())
    data = bytearray(buffer.getvalue())
    with Image.open(io.BytesIO(data)) as image:
        (strip,) = image.tag_v2[273]  # type: ignore[attr-defined]  # a TIFF file has it
    at = data.index(struct.pack("<HHI", 0x8825, 4, 1))
    struct.pack_into("<I", data, at + 8, strip)
    assert pixels_of(without_place(bytes(data)).data) == pixels_of(bytes(data))


def test_place_that_cannot_be_removed_is_refused() -> None:
    xmp = XMP.replace(b"exif:GPSLatitude=", b'exif:X="' + b"y" * 10 + b'" ' + b"a" * 60 + b":GPSLatitude=")
    with pytest.raises(BadPhotograph, match=r"can't be removed.*exiftool"):
        without_place(photograph("JPEG", xmp=xmp))


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_metadata_never_changes_pixels(form: str) -> None:
    """Random damage: refused as a photograph, or cleaned; never another error, never other pixels."""
    data, chance, compared = photograph(form), random.Random(5), 0
    for _ in range(20):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        try:
            done = without_place(bytes(damaged))
        except BadPhotograph:
            continue
        try:
            before = pixels_of(bytes(damaged))
        except Exception:  # noqa: BLE001  what a decoder refuses has no pixels to compare
            continue
        assert pixels_of(done.data) == before
        compared += 1
    assert bool(compared) == (form != "PNG"), (
        "a PNG's checksums refuse any damage; of the others some are still readable"
    )
