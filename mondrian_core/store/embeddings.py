"""The retrieval index of an advisor's photographs: the table `embeddings`.

An entry belongs to a photograph (identified by its bytes), an advisor and a base model; vectors of different base
models can't be compared. Vectors have length 1, so their dot product is the cosine similarity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mondrian_core.store import DimensionalProfile, Store, utc_timestamp

THUMBNAIL_BYTES = 48 * 48  # of `image_alignment`, which this package does not load
_LITTLE = np.dtype("<f4")
_ENTRY = (
    "INSERT OR REPLACE INTO embeddings (advisor_id, sha256, base, image_path, looks, vector, created_at, thumbnail) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """An entry of the index.

    Attributes:
        advisor: id.
        sha256: of the photograph's bytes.
        image_path: below the workspace.
        base: fingerprint of the base model.
        perceptual_hashes: of the picture and of its mirror image, 64 bits each.
        vector: the embedding, shape (D,), length 1.
        thumbnail: of `image_alignment.comparison_thumbnail`; None in entries of an older release.
    """

    advisor: str
    sha256: str
    image_path: str
    base: str
    perceptual_hashes: tuple[int, int]
    vector: tuple[float, ...]
    thumbnail: bytes | None = field(default=None, repr=False)


class EmbeddingStore:
    """The index of a workspace. Reading works with a store that was opened for reading.

    Raises (all methods): what `Store` raises.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, entry: Embedding, profile: DimensionalProfile | None = None) -> None:
        """Write an entry and, in the same transaction, the profile made with it; earlier ones are replaced."""
        looks = ",".join(f"{value:016x}" for value in entry.perceptual_hashes)
        cells = (
            entry.advisor,
            entry.sha256,
            entry.base,
            entry.image_path,
            looks,
            _bytes(entry.vector),
            utc_timestamp(),
            entry.thumbnail,
        )
        with self._store.transaction() as connection:
            connection.execute(_ENTRY, cells)
            if profile is not None:
                self._store.save_profile(profile)

    def mark(self, advisor: str, base: str) -> tuple[Any, ...]:
        """Equal as long as nobody has changed the advisor's entries of this base model."""
        if not self._store.has_table("embeddings"):
            return ()
        query = "SELECT count(*), max(created_at) FROM embeddings WHERE advisor_id = ? AND base = ?"
        return tuple(self._store.select(query, (advisor, base))[0])

    def find(self, advisor: str, base: str | None = None) -> list[Embedding]:
        """Entries of an advisor and base model (None: any), ordered by path; unreadable rows are skipped."""
        if not self._store.has_table("embeddings"):
            return []
        thumbnail = "thumbnail" if self._store.has_column("embeddings", "thumbnail") else "NULL"
        columns = f"advisor_id, sha256, image_path, base, looks, {thumbnail}, vector"
        query = f"SELECT {columns} FROM embeddings WHERE advisor_id = ?"
        values: tuple[Any, ...] = (advisor,)
        if base is not None:
            query, values = f"{query} AND base = ?", (advisor, base)
        rows = self._store.select(f"{query} ORDER BY image_path, base", values)
        return _of_one_length([entry for row in rows if (entry := _entry(row)) is not None])


def _of_one_length(entries: list[Embedding]) -> list[Embedding]:
    """Entries whose vector has the most common number of dimensions of their base model."""
    lengths: dict[str, Counter[int]] = {}
    for entry in entries:
        lengths.setdefault(entry.base, Counter())[len(entry.vector)] += 1
    usual = {base: counted.most_common(1)[0][0] for base, counted in lengths.items()}
    return [entry for entry in entries if len(entry.vector) == usual[entry.base]]


def _bytes(vector: Sequence[float]) -> bytes:
    return np.asarray(vector, dtype=_LITTLE).tobytes()


def _entry(row: Any) -> Embedding | None:
    """None for an unreadable row; the next `mondrian index` writes it again."""
    *texts, thumbnail, vector = row
    if not isinstance(vector, bytes) or not all(isinstance(text, str) for text in texts):
        return None
    advisor, sha256, path, base, looks = texts
    try:
        first, second = (int(value, 16) for value in looks.split(","))
        numbers = np.frombuffer(vector, dtype=_LITTLE)
    except ValueError:
        return None
    if not len(numbers) or not np.isfinite(numbers).all():
        return None
    return Embedding(
        advisor=advisor,
        sha256=sha256,
        image_path=path,
        base=base,
        perceptual_hashes=(first, second),
        vector=tuple(float(value) for value in numbers),
        thumbnail=thumbnail if isinstance(thumbnail, bytes) and len(thumbnail) == THUMBNAIL_BYTES else None,
    )
