"""Carry a plan out. A kill at any moment leaves nothing half deleted that looks whole, and the next prune finishes it.

A folder is renamed before it is deleted: its new name starts with a dot, and nothing reads such a folder. A run that
keeps its records gets the file pruned.json before the first of its weights is deleted.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from mondrian_core.errors import NothingToDo, translate_foreign_errors
from mondrian_core.events import EventListener, StageProgressed, StageStarted, ignore_events
from mondrian_core.files import sync_folder, write_json
from mondrian_core.pruning.inventory import REMOVED_MARK, newest_change
from mondrian_core.pruning.policy import PruneItem, PrunePlan
from mondrian_core.runs import PRUNED
from mondrian_core.shared_storage import remove_unreferenced

STAGE = "prune"


def apply_prune(plan: PrunePlan, listen: EventListener = ignore_events, *, planned_at: float | None = None) -> int:
    """Delete what the plan says; returns the number of items deleted.

    A run or dataset version that has changed since `planned_at` (seconds since the epoch) is left alone.

    Raises:
        NothingToDo: another prune of this workspace is at work.
    """
    items = plan.deleted
    listen(StageStarted(STAGE, len(items)))
    (plan.root / "runs").mkdir(exist_ok=True)
    done = 0
    try:
        with FileLock(plan.root / "runs" / ".prune.lock", timeout=0):
            for number, item in enumerate(items, 1):
                if planned_at is None or item.shared or item.path.is_file() or newest_change(item.path) <= planned_at:
                    with translate_foreign_errors(item.path):
                        _delete(item)
                    done += 1
                listen(StageProgressed(STAGE, number, len(items), item.path.name))
    except Timeout:
        raise NothingToDo("Another prune of this workspace is at work.", "Wait until it has finished.") from None
    return done


def _delete(item: PruneItem) -> None:
    if item.shared:
        remove_unreferenced(item.shared.storage, list(item.shared.found))
    elif item.files:
        _take_from_run(item)
    elif item.path.is_dir() and not item.path.is_symlink():
        _delete_folder(item)
    else:
        item.path.unlink(missing_ok=True)


def _take_from_run(item: PruneItem) -> None:
    if item.kind == "run weights":  # without a checkpoint alone, a finished run is still whole
        _mark_as_pruned(item)
    for file in item.files:
        file.unlink(missing_ok=True)
    for folder in sorted({file.parent for file in item.files} - {item.path}, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _mark_as_pruned(item: PruneItem) -> None:
    named = [str(file.relative_to(item.path)) for file in item.files]
    write_json(
        item.path / PRUNED,
        {"pruned_at": datetime.now(UTC).isoformat(timespec="seconds"), "bytes": item.bytes, "files": named},
    )


def _delete_folder(item: PruneItem) -> None:
    hidden = item.path
    if not item.path.name.startswith(REMOVED_MARK):
        hidden = item.path.with_name(f"{REMOVED_MARK}{item.path.name}")
        if hidden.exists():
            shutil.rmtree(hidden)
        item.path.rename(hidden)
        sync_folder(item.path.parent)
    shutil.rmtree(hidden)
