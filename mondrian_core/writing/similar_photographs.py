"""The portfolio's photographs that are most like one photograph, with the advisor's critiques of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.retrieval.nearest_neighbors import (
    NEIGHBORS,
    ReferencePhotograph,
    path_below_source,
    portfolio_from_profiles,
)
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.embeddings import EmbeddingStore
from mondrian_core.store.photographs import Photograph
from mondrian_core.writing.photograph_looks import photograph_vectors


@dataclass(frozen=True, kw_only=True)
class SimilarPhotograph:
    """A critiqued photograph of the portfolio, and how similar it is (cosine, -1 to 1)."""

    sha256: str
    image_path: str
    similarity: float
    reference: ReferencePhotograph


@dataclass(frozen=True)
class SimilarPhotographs:
    """The most similar ones, first the most similar, and by what they were compared."""

    found: tuple[SimilarPhotograph, ...] = ()
    kind: str = ""


def similar_photographs(
    store: Store,
    root: Path,
    photograph: Photograph,
    critiqued: Sequence[DimensionalProfile],
    photographs: Sequence[Photograph],
    count: int = NEIGHBORS,
) -> SimilarPhotographs:
    """The `count` most similar photographs that the advisor critiqued.

    Args:
        store: with the index.
        root: the workspace.
        photograph: to compare with; it is left out itself.
        critiqued: the advisor's critiques.
        photographs: all that were imported for the advisor; those of its portfolio are preferred where there are any.
        count: how many.
    """
    files = {path_below_source(each.image_path): each for each in photographs}
    for entry in EmbeddingStore(store).find(photograph.advisor):
        path = path_below_source(entry.image_path)
        files.setdefault(path, _indexed(entry.sha256, entry.image_path, photograph.advisor))
    references = portfolio_from_profiles(critiqued, _known_file(files)).references
    others = {files[each.file].sha256: each for each in references}
    others.pop(photograph.sha256, None)
    known = {each.sha256: each for each in (*files.values(), photograph)}
    candidates = {name: each for name, each in others.items() if known[name].portfolio} or others
    if not candidates:
        return SimilarPhotographs()
    vectors = photograph_vectors(store, root, [known[name] for name in (*candidates, photograph.sha256)])
    if photograph.sha256 not in vectors.vectors:
        return SimilarPhotographs()
    ranked = sorted((vectors.distance(photograph.sha256, name), name) for name in candidates if name in vectors.vectors)
    found = tuple(
        SimilarPhotograph(
            sha256=name,
            image_path=known[name].image_path,
            similarity=1.0 - distance,
            reference=candidates[name],
        )
        for distance, name in ranked[:count]
    )
    return SimilarPhotographs(found, vectors.kind)


def _known_file(files: Mapping[str, Photograph]) -> Callable[[str], str | None]:
    def locate(path: str) -> str | None:
        below = path_below_source(path)
        return below if below in files else None

    return locate


def _indexed(sha256: str, image_path: str, advisor: str) -> Photograph:
    """A photograph that only the index knows; its size isn't needed."""
    portfolio = path_below_source(image_path).startswith("advisor/")
    return Photograph(sha256=sha256, image_path=image_path, advisor=advisor, portfolio=portfolio, width=0, height=0)
