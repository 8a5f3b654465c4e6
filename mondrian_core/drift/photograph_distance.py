"""How far a photograph is from the advisor's indexed photographs: the cosine distance to the nearest one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mondrian_core.store import Store
from mondrian_core.store.embeddings import EmbeddingStore


class PortfolioDistances:
    """Distances to the index of a workspace, which is read again only when it has changed."""

    def __init__(self, store: Store) -> None:
        self._index = EmbeddingStore(store)
        self._known: dict[tuple[str, str], tuple[object, tuple[str, ...], NDArray[np.float32]]] = {}

    def has_index(self, advisor: str, base: str) -> bool:
        """True when the advisor has photographs embedded by this base model."""
        return bool(self._vectors(advisor, base)[0])

    def distance(self, advisor: str, base: str, sha256: str | None, embedding: Sequence[float]) -> float | None:
        """Cosine distance (0-2) to the nearest indexed photograph; None without an index.

        Args:
            advisor: whose index.
            base: fingerprint of the base model.
            sha256: of the photograph, which is not compared with itself.
            embedding: (D,), length 1.
        """
        names, vectors = self._vectors(advisor, base)
        others = np.array([name != sha256 for name in names], dtype=bool)
        if not others.any() or vectors.shape[1] != len(embedding):
            return None
        return float(max(0.0, 1.0 - (vectors[others] @ np.asarray(embedding, dtype=np.float32)).max()))

    def _vectors(self, advisor: str, base: str) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        mark = self._index.mark(advisor, base)
        known = self._known.get((advisor, base))
        if known is None or known[0] != mark:
            entries = self._index.find(advisor, base)
            vectors = np.array([entry.vector for entry in entries], dtype=np.float32)
            known = (mark, tuple(entry.sha256 for entry in entries), vectors)
            self._known[advisor, base] = known
        return known[1], known[2]


def leave_one_out_distances(store: Store, advisor: str, base: str) -> list[float]:
    """The distance of each indexed photograph to the nearest other one; [] for fewer than two."""
    vectors = np.array([entry.vector for entry in EmbeddingStore(store).find(advisor, base)], dtype=np.float32)
    if len(vectors) < 2:
        return []
    near = vectors @ vectors.T
    np.fill_diagonal(near, -np.inf)
    return [float(max(0.0, 1.0 - most)) for most in near.max(axis=1)]
