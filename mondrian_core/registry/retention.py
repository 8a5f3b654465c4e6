"""Retention: choose the old versions to delete, as a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mondrian_core.registry.history import HistoryState
from mondrian_core.registry.version import AdapterVersion


def removable_versions(
    versions: Sequence[AdapterVersion],
    standing: HistoryState,
    keep: int,
    *,
    best: Sequence[str] = (),
    force: bool = False,
) -> tuple[str, ...]:
    """Names of the versions to delete, oldest first.

    Kept: the champion, the best champion so far (new candidates are compared with it), the champion's ancestors, every
    version that a rollback may return to (unless `force`), the newest `keep` of the rest, and quarantined versions,
    which are evidence.

    Args:
        versions: all versions of the advisor.
        standing: what the history says about them.
        keep: how many of the rest are kept.
        best: the best champion so far, last, after the best ones before it (`looks.best_champions`).
        force: keep neither ancestors nor versions that a rollback may return to.
    """
    champion = standing.champions[-1]
    kept = {
        version.version for version in versions if not version.managed or version.state in ("champion", "quarantined")
    }
    kept |= {champion} if champion else set()
    kept |= set(best[-1:] if force else best)
    if not force:
        kept |= {name for name in standing.champions if name} | set(_ancestors(versions, champion))
    rest = [version.version for version in sorted(versions, key=lambda v: v.number) if version.version not in kept]
    return tuple(rest[: max(0, len(rest) - max(0, keep))])


def _ancestors(versions: Iterable[AdapterVersion], start: str | None) -> list[str]:
    parents = {version.version: version.parent for version in versions}
    line: list[str] = []
    name = parents.get(start) if start else None
    while name is not None and name not in line:
        line.append(name)
        name = parents.get(name)
    return line
