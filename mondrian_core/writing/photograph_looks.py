"""What photographs are compared by: the base model's embeddings, or else how they look at a glance.

The look of a photograph is computed from a small thumbnail: lightness and two opponent colors on a grid, and how much
detail each part has. It needs no model, takes milliseconds, and is stored by SHA-256 in the table `photograph_looks`.
It tells a snowfield from a portrait in a dark room, and doesn't know what is in the picture.

Legend: `D` numbers of a vector, of length 1.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mondrian_core.errors import BadPhotograph
from mondrian_core.store import Store
from mondrian_core.store.embeddings import EmbeddingStore
from mondrian_core.store.photographs import Photograph
from mondrian_core.thumbnails import thumbnail_jpeg

TABLE = "photograph_looks"
THUMBNAIL_SIDE = 160
GRID = 6  # cells a side
_SIDE = 8 * GRID
_DETAIL_WEIGHT = 0.5
_LITTLE = np.dtype("<f4")
_ENOUGH_SECONDS = 1.5  # for looks that a page waits for; the next request continues

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PhotographVectors:
    """Vectors of photographs that can be compared with one another.

    Attributes:
        vectors: SHA-256 -> vector, shape (D,), length 1.
        kind: what they are, as words for people.
        wanted: how many photographs were to be compared; larger than `vectors` while looks are being computed.
    """

    vectors: Mapping[str, Vector]
    kind: str
    wanted: int

    def distance(self, first: str, second: str) -> float:
        """1 - cosine similarity of two photographs, 0 to 2."""
        return 1.0 - float(self.vectors[first] @ self.vectors[second])


def photograph_vectors(
    store: Store, root: Path, photographs: Sequence[Photograph], seconds: float = _ENOUGH_SECONDS
) -> PhotographVectors:
    """Embeddings where one base model has embedded all of the photographs; otherwise their looks.

    Looks that are not stored yet are computed for about `seconds`, in the order of the SHA-256. That is a random order,
    so a large set begins with a random sample of it.
    """
    wanted = {each.sha256: each for each in photographs}
    by_base: dict[str, dict[str, Vector]] = {}
    for advisor in {each.advisor for each in photographs}:
        for entry in EmbeddingStore(store).find(advisor):
            if entry.sha256 in wanted:
                by_base.setdefault(entry.base, {})[entry.sha256] = np.asarray(entry.vector, dtype=np.float64)
    complete = next((found for found in by_base.values() if found.keys() == wanted.keys()), None)
    if complete:
        return PhotographVectors(vectors=complete, kind="the base model's embeddings", wanted=len(wanted))
    looks = _looks(
        store, wanted, lambda each: thumbnail_jpeg(root, each.image_path, each.sha256, THUMBNAIL_SIDE), seconds
    )
    return PhotographVectors(vectors=looks, kind="light, color and detail", wanted=len(wanted))


def _looks(
    store: Store, wanted: Mapping[str, Photograph], read: Callable[[Photograph], bytes], seconds: float
) -> dict[str, Vector]:
    """The looks that are stored, and those that could be computed in time; a photograph that can't be read has none."""
    known = _stored_looks(store, wanted)
    deadline, made = time.monotonic() + seconds, {}
    for sha256 in sorted(wanted.keys() - known.keys()):
        if time.monotonic() > deadline:
            break
        try:
            made[sha256] = look_vector(Image.open(io.BytesIO(read(wanted[sha256]))))
        except BadPhotograph:
            continue
    if made and not store.read_only:
        rows = [(sha256, vector.astype(_LITTLE).tobytes()) for sha256, vector in made.items()]
        with store.transaction() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO {TABLE} (sha256, vector) VALUES (?, ?)", rows)
    return {**known, **made}


def _stored_looks(store: Store, wanted: Iterable[str]) -> dict[str, Vector]:
    if not store.has_table(TABLE):
        return {}
    names, length = set(wanted), LOOK_LENGTH * _LITTLE.itemsize
    rows = store.select(f"SELECT sha256, vector FROM {TABLE}")
    return {
        sha256: np.frombuffer(vector, dtype=_LITTLE).astype(np.float64)
        for sha256, vector in rows
        if sha256 in names and isinstance(vector, bytes) and len(vector) == length
    }


def look_vector(image: Image.Image) -> Vector:
    """The look of a picture: (4 x GRID x GRID,), length 1. Lightness, red-green, blue-yellow and detail by cell.

    Means that every photograph shares are taken out: lightness is centered at middle gray.
    """
    pixels = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    light = pixels.mean(axis=2)
    detail = np.abs(np.diff(light, axis=0, append=light[-1:])) + np.abs(np.diff(light, axis=1, append=light[:, -1:]))
    planes = (light - 0.5, red - green, blue - (red + green) / 2, _DETAIL_WEIGHT * np.sqrt(detail))
    cells = [plane.reshape(GRID, 8, GRID, 8).mean(axis=(1, 3)).ravel() for plane in planes]
    vector = np.concatenate(cells)
    length = float(np.linalg.norm(vector))
    return vector / length if length else np.full(LOOK_LENGTH, LOOK_LENGTH**-0.5)


LOOK_LENGTH = 4 * GRID * GRID
