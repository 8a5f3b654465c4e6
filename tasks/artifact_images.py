"""Images embedded in artifacts as `data:` URIs, small enough for Prefect's limit on the size of an event."""

from __future__ import annotations

import base64
import io
from pathlib import Path

MAX_IMAGE_BYTES = 400_000
MAX_IMAGE_WIDTH = 1400


def embedded_image_markdown(path: str | Path | None, title: str) -> str:
    """Markdown that shows an image file; "" if there is none.

    An image over 400 kB is reduced: Prefect drops events over 1.5 MB, and the artifact with them.
    """
    if path is None or not Path(path).is_file():
        return ""
    data, kind = _small_enough(Path(path))
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def _small_enough(path: Path) -> tuple[bytes, str]:
    data = path.read_bytes()
    if len(data) <= MAX_IMAGE_BYTES and path.suffix == ".png":
        return data, "png"
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    width = MAX_IMAGE_WIDTH
    while True:
        smaller = picture.copy()
        smaller.thumbnail((width, 4 * width))
        buffer = io.BytesIO()
        smaller.save(buffer, "JPEG", quality=85)
        if buffer.tell() <= MAX_IMAGE_BYTES or width < 200:
            return buffer.getvalue(), "jpeg"
        width = width * 3 // 4
