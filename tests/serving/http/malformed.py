"""More than 300 malformed requests, generated from a seed."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

BOUNDARY = "b"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """One request."""

    name: str
    method: str = "POST"
    path: str = "/analyze"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def corpus(job: str, seed: int = 0) -> list[Malformed]:
    """All malformed requests; `job` is the ID of an existing job."""
    rng = random.Random(seed)
    found = [*_uploads(rng), *_forms(), *_documents(), *_headers(), *_places(job), *_opinions(job)]
    assert len(found) >= 300
    return found


def form(data: bytes, advisor: str | bytes = b"ansel", name: str = "a.jpg", mode: str | None = None) -> bytes:
    """A well-formed multipart body around anything."""
    advisor = advisor if isinstance(advisor, bytes) else advisor.encode("utf-8", "surrogatepass")
    parts = [(f'name="image"; filename="{name}"'.encode("utf-8", "surrogatepass"), data), (b'name="advisor"', advisor)]
    parts += [(b'name="mode"', mode.encode())] if mode is not None else []
    lines = b"".join(
        b"--b\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + value + b"\r\n" for head, value in parts
    )
    return lines + b"--b--\r\n"


def picture(kind: str, size: tuple[int, int] = (48, 32), mode: str = "RGB", **options: Any) -> bytes:
    """A small noise image."""
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(min(width * 3 + 1, 4_000_000)) * min(height, 4), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _uploads(rng: random.Random) -> Iterator[Malformed]:
    """Damaged images, odd images, other files and odd filenames."""
    yield from _damaged_images(rng)
    yield from _odd_images()
    yield from _other_files(rng)
    yield from _filenames()


def _upload(name: str, data: bytes, filename: str = "a.jpg") -> Malformed:
    return Malformed(name=f"upload {name}", body=form(data, name=filename), headers=FORM)


def _damaged_images(rng: random.Random) -> Iterator[Malformed]:
    """Truncated, bit-flipped and repeated images."""
    whole = {"JPEG": picture("JPEG"), "PNG": picture("PNG"), "TIFF": picture("TIFF"), "WEBP": picture("WEBP")}
    for kind, data in whole.items():
        for share in (0.05, 0.2, 0.5, 0.8, 0.95):
            yield _upload(f"{kind} cut at {share}", data[: int(len(data) * share)])
        for number in range(20):
            flipped = bytearray(data)
            for _ in range(1 + number):
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
            yield _upload(f"{kind} flipped {number}", bytes(flipped))
        yield _upload(f"{kind} header and noise", data[:32] + rng.randbytes(2000))
        yield _upload(f"{kind} twice", data * 2)
        yield _upload(f"{kind} with a tail", data + b"<script>alert(1)</script>" * 100)


def _odd_images() -> Iterator[Malformed]:
    """Images of unsupported kinds, impossible sizes and other color modes."""
    for kind in ("GIF", "BMP", "ICO", "PPM", "PDF", "TGA"):
        yield _upload(kind, picture(kind))
    for size in ((65_500, 65_500), (200_000, 1), (1, 200_000), (30_001, 10), (2**31 - 1, 2**31 - 1), (0, 0)):
        yield _upload(f"bomb {size}", bomb(*size))
    for mode in ("L", "1", "P", "CMYK", "YCbCr"):
        yield _upload(f"mode {mode}", picture("TIFF", mode=mode) if mode != "P" else picture("PNG", mode=mode))


def _other_files(rng: random.Random) -> Iterator[Malformed]:
    """Files that aren't images."""
    others = {
        "nothing": b"",
        "a byte": b"\xff",
        "zeros": bytes(5000),
        "text": b"a photograph, honestly",
        "noise": rng.randbytes(5000),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "html": b"<!doctype html><title>404</title>",
        "xml bomb": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aa">]>',
        "zip": b"PK\x03\x04" + rng.randbytes(500),
        "heic head": b"\0\0\0\x18ftypheic" + rng.randbytes(500),
        "avif head": b"\0\0\0\x18ftypavif" + rng.randbytes(500),
        "mp4": b"\0\0\0\x18ftypisom" + bytes(200),
        "elf": b"\x7fELF" + bytes(200),
        "pickle": b"\x80\x04\x95" + bytes(50),
    }
    for name, data in others.items():
        yield _upload(name, data)


def _filenames() -> Iterator[Malformed]:
    """A valid image under odd filenames."""
    for filename in (
        "../../etc/passwd",
        "..\\..\\x.jpg",
        "a" * 4000,
        "\u202egpj.exe",
        ".",
        "",
        "con.jpg",
        "a\nb.jpg",
        "%00.jpg",
        "$(id).jpg",
        "'; DROP TABLE jobs; --.jpg",
        "\ud800.jpg",
    ):
        yield _upload(f"named {filename[:30]!r}", picture("JPEG"), filename)


def _forms() -> Iterator[Malformed]:
    """Invalid multipart bodies, and forms with wrong fields."""
    good = picture("JPEG")
    for advisor in ("", "../ansel", "Ansel", "ansel\0", "a" * 65, "nobody", "' OR 1=1 --", "ans el", "\u0430nsel"):
        yield Malformed(name=f"advisor {advisor[:20]!r}", body=form(good, advisor=advisor), headers=FORM)
    yield Malformed(name="advisor not utf-8", body=form(good, advisor=b"\xff\xfe"), headers=FORM)
    for mode in ("", "turbo", "LORA", "lora\0", "x" * 5000, "baseline;rag"):
        yield Malformed(name=f"mode {mode[:20]!r}", body=form(good, mode=mode), headers=FORM)
    bodies = {
        "empty": b"",
        "no end": form(good)[:-8],
        "only end": b"--b--\r\n",
        "no boundary inside": b"x" * 300,
        "no disposition": b"--b\r\n\r\nx\r\n--b--\r\n",
        "no name": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        "text as image": b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--b--\r\n',
        "two images": form(good)[:-7] + form(good),
        "long header": b"--b\r\nX: " + b"y" * 70_000 + b"\r\n\r\n--b--\r\n",
        "many parts": b"".join(
            b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % i for i in range(300)
        )
        + b"--b--\r\n",
        "nul name": b'--b\r\nContent-Disposition: form-data; name="\0"\r\n\r\nx\r\n--b--\r\n',
        "base64": b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n/9j/\r\n--b--\r\n",
    }
    for name, body in bodies.items():
        yield Malformed(name=f"form {name}", body=body, headers=FORM)
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 3000,
        "multipart/mixed; boundary=b",
        "image/jpeg",
        "application/x-www-form-urlencoded",
        "text/plain",
        "",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=\xe4",
    ):
        yield Malformed(name=f"type {kind[:40]!r}", body=form(good), headers={"Content-Type": kind})


def _documents() -> Iterator[Malformed]:
    """Invalid JSON, and JSON that names missing things."""
    texts = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"[" * 20_000,
        b'{"a":' * 5000,
        b"\xff\xfe{}",
        b"NaN",
        b"{]}",
        b'{"path": 1, "advisor": "ansel"}',
        b'{"path": [], "advisor": "ansel"}',
        b'{"path": "a", "advisor": 5}',
        b'{"path": "a"}',
        b'{"advisor": "ansel"}',
        b'{"path": "a", "advisor": "ansel", "url": "http://x/"}',
        b'{"path": "a", "advisor": "ansel", "mode": 3}',
        b'{"path": "\\ud800", "advisor": "ansel"}',
        b'{"path": "a", "path": "b", "advisor": "ansel"}',
        b'{"path": 1e999, "advisor": "ansel"}',
        b"\0" * 100,
        b'{"path": "' + b"a/" * 5000 + b'", "advisor": "ansel"}',
        b"9" * 10_000,
    ]
    for number, text in enumerate(texts):
        yield Malformed(name=f"json {number}", body=text, headers=JSON)
    for path in (
        "../x.jpg",
        "/etc/passwd",
        "/dev/zero",
        "/dev/random",
        "/proc/self/environ",
        "source/../../x",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "source",
        ".",
        "",
        "~",
        "source/\u0000.jpg",
        "a" * 5000,
        "mondrian.db",
        "\\\\host\\share",
        "source/one.jpg/x",
        "source//..//mondrian.db",
        "C:\\x.jpg",
        "source/one.jpg\n",
    ):
        yield Malformed(
            name=f"path {path[:30]!r}", body=json.dumps({"path": path, "advisor": "ansel"}).encode(), headers=JSON
        )


def _headers() -> Iterator[Malformed]:
    """Valid uploads with odd headers."""
    good = form(picture("JPEG"))
    odd = {
        "Prefer": ["wait=-1", "wait=99999999999999", "wait=abc", "x" * 5000, "wait=0", "\xff"],
        "Idempotency-Key": ["", "x" * 5000, "a\tb", "' OR 1=1", "\xe4\xf6"],
        "Accept": ["", "*/*;q=9", "image/png", "text/html;q=abc", ",,,;;;", "x" * 5000, "text/html;q=0"],
        "Content-Length": ["-1", "abc", "99999999999999999999", "1e3"],
        "Authorization": ["Bearer", "Bearer \xff", "Basic x"],
        "Origin": ["null", "http://evil.example", "://", "http://[::1"],
        "Host": ["evil.example", "", "127.0.0.1:99999", "[::1", "localhost@evil"],
        "Content-Encoding": ["gzip", "br"],
        "Transfer-Encoding": ["chunked, chunked", "gzip"],
        "Expect": ["100-continue", "x"],
        "Range": ["bytes=0-", "bytes=99-1"],
    }
    for name, values in odd.items():
        for value in values:
            yield Malformed(name=f"{name}: {value[:20]!r}", body=good, headers={**FORM, name: value})


def _places(job: str) -> Iterator[Malformed]:
    """Unknown IDs, parameters and methods."""
    for identity in (
        "none",
        "..",
        "%2e%2e%2f",
        "%00",
        "a" * 300,
        "' OR 1=1 --",
        "%ff%fe",
        job + "x",
        "\u00e4",
        "0",
        "-1",
    ):
        for tail in ("", "/events", "/photograph", "/compared/1"):
            yield Malformed(name=f"job {identity[:12]!r}{tail}", method="GET", path=f"/jobs/{identity}{tail}")
        yield Malformed(name=f"cancel {identity[:12]!r}", method="POST", path=f"/jobs/{identity}/cancel")
    for number in ("0", "-1", "101", "1e9", "x", "99999999999999999999999"):
        yield Malformed(name=f"compared {number}", method="GET", path=f"/jobs/{job}/compared/{number}")
    for days in ("0", "-1", "x", "1e9", "99999999999999999999", "NaN", ""):
        yield Malformed(name=f"days {days}", method="GET", path=f"/compare?days={days}")
    for last in ("x", "-1", "99999999999999999999", "\u0661", "1.5"):
        yield Malformed(
            name=f"last event {last}", method="GET", path=f"/jobs/{job}/events", headers={"Last-Event-ID": last}
        )
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/nothing",
        "/static/",
        "//",
        "/%",
        "/jobs",
        "/jobs/",
        "/history",
        "/history?advisor=../x",
        "/history?advisor=",
        "/?format=xml",
        "/docs",
        "/favicon.ico",
    ):
        yield Malformed(name=f"place {path}", method="GET", path=path)
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "HEAD", "BREW"):
        yield Malformed(name=f"method {method}", method=method, path="/analyze")


def _opinions(job: str) -> Iterator[Malformed]:
    """Invalid ratings, judgements and corrections."""
    for body in (
        b"",
        b"{}",
        b'{"rating": 9}',
        b'{"rating": "5"}',
        b'{"rating": 1e999}',
        b"NaN",
        b'{"rating": null}',
        b'{"rating": 3, "x": 1}',
        b"[3]",
        b'{"rating": ' + b"9" * 5000 + b"}",
    ):
        yield Malformed(name=f"rating {body[:20]!r}", path=f"/jobs/{job}/rating", body=body, headers=JSON)
    for place in ("recommendations/lighting/judgement", "recommendations/%00/judgement", "crop/decision"):
        for body in (b"", b"{}", b'{"useful": 1}', b'{"accepted": "yes"}', b'{"useful": true, "x": 1}', b"[true]"):
            yield Malformed(name=f"{place} {body[:20]!r}", path=f"/jobs/{job}/{place}", body=body, headers=JSON)
    for body in (
        b"",
        b"{}",
        b'{"dimensional_analysis": {}}',
        b'{"dimensional_analysis": []}',
        b"[" * 20_000,
        b'{"dimensional_analysis": {"lighting": {"score": NaN, "comment": "x"}}}',
    ):
        yield Malformed(name=f"correction {body[:20]!r}", path=f"/jobs/{job}/correction", body=body, headers=JSON)
