"""Which photograph teaches most: first a spread over the set, later where the adapter errs. Pure functions.

The spread is the farthest-first traversal of Gonzalez (1985, "Clustering to minimize the maximum intercluster
distance"): each next photograph is the one that is farthest from all that were critiqued. Its largest distance to the
nearest critique is at most twice the smallest possible.

Once an adapter's answers to critiqued photographs are known, the expected error on another photograph is the mean
over its nearest ones, and the photograph with the largest expected error comes next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mondrian_core.writing.adapter_errors import AdapterErrors
from mondrian_core.writing.photograph_looks import PhotographVectors

NEAREST_ERRORS = 3  # critiqued photographs whose errors are averaged
FEWEST_ERRORS = 8  # known errors from which on they decide; fewer say more about chance than about a kind of photograph


@dataclass(frozen=True)
class NextPhotograph:
    """A photograph to critique next (SHA-256), and why, in one sentence."""

    sha256: str
    why: str


@dataclass(frozen=True, kw_only=True)
class WritingQueue:
    """What the order depends on.

    Attributes:
        waiting: photographs (SHA-256) without a critique, in the order of their folders.
        begun: those of them with an unfinished critique, the most recent last.
        skipped: those of them that were skipped, the earliest first.
        critiqued: photographs with a critique.
    """

    waiting: Sequence[str]
    begun: Sequence[str] = ()
    skipped: Sequence[str] = ()
    critiqued: Collection[str] = ()


def choose_next(
    queue: WritingQueue, vectors: PhotographVectors, errors: AdapterErrors | None = None
) -> NextPhotograph | None:
    """The next photograph; None when none waits.

    Begun ones come first, skipped ones last. Photographs without a vector come after those with one.
    """
    if queue.begun:
        return NextPhotograph(queue.begun[-1], "You began this one.")
    fresh = [name for name in queue.waiting if name not in set(queue.skipped)]
    if not fresh:
        skipped = next(iter(queue.skipped), None)
        return NextPhotograph(skipped, "You skipped this one earlier.") if skipped else None
    known = [name for name in fresh if name in vectors.vectors]
    if not known:
        return NextPhotograph(fresh[0], "It is the next one in its folder.")
    if errors is not None and (found := _most_uncertain(known, vectors, errors)) is not None:
        return found
    return _farthest(known, vectors, [name for name in queue.critiqued if name in vectors.vectors])


def _farthest(known: Sequence[str], vectors: PhotographVectors, critiqued: Sequence[str]) -> NextPhotograph:
    sample = f" among {len(vectors.vectors)} of {vectors.wanted}" if len(vectors.vectors) < vectors.wanted else ""
    table = np.stack([vectors.vectors[name] for name in known])
    if not critiqued:
        closeness = table @ table.mean(axis=0)
        why = f"It is the most typical photograph{sample}, by {vectors.kind}; the next ones will differ from it."
        return NextPhotograph(known[int(np.argmax(closeness))], why)
    nearest = 1.0 - (table @ np.stack([vectors.vectors[name] for name in critiqued]).T).max(axis=1)
    those = (
        "the one that you have critiqued" if len(critiqued) == 1 else f"the {len(critiqued)} that you have critiqued"
    )
    why = f"Of all that wait{sample}, it differs most from {those}, by {vectors.kind}."
    return NextPhotograph(known[int(np.argmax(nearest))], why)


def _most_uncertain(known: Sequence[str], vectors: PhotographVectors, errors: AdapterErrors) -> NextPhotograph | None:
    measured = [name for name in errors.distances if name in vectors.vectors]
    if len(measured) < FEWEST_ERRORS:
        return None
    similarity = (
        np.stack([vectors.vectors[name] for name in known]) @ np.stack([vectors.vectors[name] for name in measured]).T
    )
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST_ERRORS]
    expected = np.array([errors.distances[name] for name in measured])[nearest].mean(axis=1)
    best = int(np.argmax(expected))
    why = (
        f"On the {nearest.shape[1]} critiqued photographs that are most like it, by {vectors.kind}, adapter "
        f"{errors.version} missed your scores by {expected[best]:.1f} points."
    )
    return NextPhotograph(known[best], why)
