"""How long things are kept, and a plan of what is deleted and kept, as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mondrian_core.shared_storage import SharedStorage, UnreferencedObject

PruneKind = Literal[
    "run folders",
    "run weights",
    "checkpoints",
    "datasets",
    "features",
    "answers",
    "thumbnails",
    "flow results",
    "leftovers",
    "shared objects",
    "database",
    "adapters",
    "photographs",
    "Prefect's database",
    "logs",
]
KINDS: tuple[PruneKind, ...] = PruneKind.__args__  # type: ignore[attr-defined]


class PrunePolicy(BaseModel):
    """Bounds in days and bytes. The defaults delete only what can be made again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_days: int = Field(
        default=30, ge=1, description="days after which an idle run loses its weights and checkpoints"
    )
    keep_runs: int = Field(default=5, ge=0, description="newest runs of each advisor that keep everything")
    dataset_days: int = Field(default=90, ge=1, description="days after which an unused dataset version is deleted")
    cache_days: int = Field(default=60, ge=2, description="days after which an unused cached file is deleted")
    cache_gb: float = Field(default=8.0, ge=0, description="gigabytes for each cache: features, answers, thumbnails")
    run_days: int | None = Field(
        default=None,
        ge=1,
        description="days after which a run's whole folder is deleted, with its report; empty: never",
    )


@dataclass(frozen=True)
class UnreferencedObjects:
    """Objects of a shared storage that no manifest names."""

    storage: SharedStorage
    found: tuple[UnreferencedObject, ...]


@dataclass(frozen=True)
class PruneItem:
    """A run, dataset version or file. `reason` says why it is deleted or kept; `bytes` are what a deletion frees.

    `files` are the files to delete inside `path`; empty: all of `path`. `shared` are objects of the shared storage;
    `path` is only a name then.
    """

    kind: PruneKind
    path: Path
    bytes: int
    delete: bool
    reason: str
    files: tuple[Path, ...] = ()
    shared: UnreferencedObjects | None = None


@dataclass(frozen=True)
class PrunePlan:
    """What is deleted and what is kept in a workspace, with reasons."""

    root: Path
    items: tuple[PruneItem, ...]

    @property
    def deleted(self) -> tuple[PruneItem, ...]:
        """The items to delete."""
        return tuple(item for item in self.items if item.delete)

    @property
    def freed_bytes(self) -> int:
        """Bytes that the plan frees."""
        return sum(item.bytes for item in self.deleted)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each kind: how many items and bytes are deleted and kept, and why."""
        return [_row(kind, found) for kind in KINDS if (found := [item for item in self.items if item.kind == kind])]


def _row(kind: PruneKind, items: Iterable[PruneItem]) -> dict[str, Any]:
    gone: list[PruneItem] = []
    kept: list[PruneItem] = []
    for item in items:
        (gone if item.delete else kept).append(item)
    return {
        "kind": kind,
        "deleted": len(gone),
        "deleted_bytes": sum(item.bytes for item in gone),
        "why_deleted": dict(Counter(item.reason for item in gone)),
        "kept": len(kept),
        "kept_bytes": sum(item.bytes for item in kept),
        "why_kept": dict(Counter(item.reason for item in kept)),
    }
