"""Look at a workspace and plan what is deleted and what is kept. Nothing is changed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.backup import list_snapshots
from mondrian_core.backup.file_selection import RECORD_SUFFIXES
from mondrian_core.errors import MondrianError
from mondrian_core.files import is_temporary_name, read_json
from mondrian_core.prefect_server import prefect_home
from mondrian_core.pruning.policy import PruneItem, PruneKind, PrunePlan, PrunePolicy, UnreferencedObjects
from mondrian_core.pruning.run_protection import UNREADABLE, RegistryView, referenced_runs
from mondrian_core.registry import Registry
from mondrian_core.runs import CONTEXT, DATASET, PRUNED, RunCatalogue, RunRecord
from mondrian_core.settings import Settings
from mondrian_core.shared_storage import unreferenced_published
from mondrian_core.shared_storage.publication import open_shared
from mondrian_core.thumbnails import THUMBNAILS

REMOVED_MARK = ".removed-"  # start of the name of a folder that is being deleted
DAY_SECONDS = 86_400.0
FRESH_SECONDS = 2 * DAY_SECONDS  # a cached file that was used since then may belong to a training at work
FLOW_RESULT_DAYS = 90
CHECKPOINT_FILE, CHECKPOINT_DAYS = "checkpoint.safetensors", 1
KEPT_PLACES: tuple[tuple[PruneKind, str, str], ...] = (
    ("photographs", "source", "nothing can make them again"),
    ("database", "mondrian.db", "critiques, ratings and jobs; nothing can make them again"),
)


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What the decisions look at."""

    settings: Settings
    policy: PrunePolicy
    now: float
    view: RegistryView
    runs: Mapping[str, RunRecord]
    contexts: Mapping[str, Mapping[str, Any]]
    protected: Mapping[str, str]

    def idle_days(self, path: Path) -> float:
        return (self.now - newest_change(path)) / DAY_SECONDS


def plan_prune(settings: Settings, policy: PrunePolicy, now: float | None = None) -> PrunePlan:
    """What `policy` deletes and keeps in the workspace; every kept thing with its reason.

    Args:
        settings: the workspace and its registry.
        policy: the bounds.
        now: seconds since the epoch; by default the present time.

    Raises:
        NoWorkspace: the workspace doesn't exist.
    """
    root = settings.require_workspace()
    sight = _look(settings, policy, time.time() if now is None else now)
    items = [
        *_runs(sight),
        *_datasets(sight),
        *_cache(sight, "features", root / "runs" / "cache" / "features"),
        *_cache(sight, "answers", root / "runs" / "cache", leave_out="features"),
        *_cache(sight, "thumbnails", root / THUMBNAILS),
        *_old_files(sight, "flow results", prefect_home(settings) / "storage", FLOW_RESULT_DAYS),
        *_leftovers(sight),
        *_shared_objects(settings),
        *_kept(sight),
    ]
    return PrunePlan(root, tuple(items))


def _look(settings: Settings, policy: PrunePolicy, now: float) -> _Sight:
    catalogue = RunCatalogue(settings.root, clock=lambda: now)
    found = {run.name: run for run in catalogue.runs()}
    contexts = {name: _object(catalogue.folder / name / CONTEXT) for name in found}
    runs = {name: run for name, run in found.items() if contexts[name]}
    view = RegistryView(Registry(settings.adapters_root))
    protected = {**referenced_runs(runs, contexts), **_served(settings, runs), **view.protected}
    for advisor in {run.advisor for run in runs.values()}:
        for run in [run for run in runs.values() if run.advisor == advisor][: policy.keep_runs]:
            protected.setdefault(run.name, f"one of the newest {policy.keep_runs} of {advisor}")
    return _Sight(
        settings=settings, policy=policy, now=now, view=view, runs=runs, contexts=contexts, protected=protected
    )


def _served(settings: Settings, runs: Mapping[str, RunRecord]) -> dict[str, str]:
    """Runs whose adapter the service was started with."""
    wanted = _object(settings.root / "runs" / "service" / "process.json").get("wanted")
    named = [settings.lora_adapter_dir, wanted.get("lora_path") if isinstance(wanted, Mapping) else None]
    parts = {part for each in named if each for part in Path(each).parts}
    return dict.fromkeys(parts & runs.keys(), "the service uses its adapter")


# --- runs -------------------------------------------------------------------------------------------------------------


def _runs(sight: _Sight) -> Iterator[PruneItem]:
    backed_up = _backed_up_runs(sight.settings) if sight.policy.run_days is not None else None
    for name, run in sight.runs.items():
        folder = sight.settings.run_folder(name)
        reason = _reason_to_keep(sight, run)
        if not reason and sight.policy.run_days is not None and sight.idle_days(folder) > sight.policy.run_days:
            if backed_up is None or name in backed_up:
                yield PruneItem("run folders", folder, _bytes(folder), True, f"idle for {sight.policy.run_days} days")
                continue
            reason = "its records are in no backup yet"
        yield from _weights_of_run(sight, run, reason)


def _weights_of_run(sight: _Sight, run: RunRecord, reason: str) -> Iterator[PruneItem]:
    """What happens to the weights of a run whose records stay; `reason` to keep them, "" for none."""
    folder, days = sight.settings.run_folder(run.name), sight.policy.weights_days
    files, idle = tuple(_weights(folder)), sight.idle_days(folder)
    checkpoints = tuple(file for file in files if file.name == CHECKPOINT_FILE)
    size, of_checkpoints = (sum(map(_size, each)) for each in (files, checkpoints))
    if files and not reason and idle > days:
        yield PruneItem("run weights", folder, size, True, f"idle for {days} days; records stay", files)
        return
    if checkpoints and run.state == "complete" and idle > CHECKPOINT_DAYS and sight.view.readable and not run.damaged:
        yield PruneItem("checkpoints", folder, of_checkpoints, True, "the run has finished", checkpoints)
        size -= of_checkpoints
    if files:
        yield PruneItem("run weights", folder, size, False, reason or f"used in the last {days} days")
    else:
        yield PruneItem("run folders", folder, _bytes(folder), False, reason or "records only")


def _reason_to_keep(sight: _Sight, run: RunRecord) -> str:
    """Why nothing is taken from a run; "" when something may be."""
    if not sight.view.readable:
        return UNREADABLE
    if run.state == "active":
        return "at work"
    if run.damaged:
        return "its files are damaged"
    if run.name in sight.protected:
        return sight.protected[run.name]
    trained = run.training_seconds is not None and not run.evaluates
    if trained and run.name not in sight.view.registered and sight.policy.run_days is None:
        return "its adapter is in no registry"
    return ""


def _weights(folder: Path) -> Iterator[Path]:
    """The files of a run that aren't records."""
    for path in _files(folder):
        if path.suffix not in RECORD_SUFFIXES or _is_adapter_part(path, folder):
            yield path


def _is_adapter_part(path: Path, folder: Path) -> bool:
    """True for a small file next to weights, such as adapter_config.json: it is of no use without them."""
    return path.parent != folder and any(path.parent.glob("*.safetensors"))


def _backed_up_runs(settings: Settings) -> set[str] | None:
    """Names of the runs in the last snapshot; None when no backup is set up."""
    if settings.backup is None:
        return None
    try:
        snapshots = list_snapshots(settings.require_backup_folder())
    except (MondrianError, OSError):
        return set()
    entries = snapshots[-1].entries if snapshots else ()
    parts = (entry.path.split("/") for entry in entries)
    return {part[2] for part in parts if part[:2] == ["workspace", "runs"] and len(part) > 3}


# --- dataset versions -------------------------------------------------------------------------------------------------


def _datasets(sight: _Sight) -> Iterator[PruneItem]:
    used: dict[str, str] = dict(sight.view.datasets)
    for name in sight.runs:
        digest = str(_object(sight.settings.run_folder(name) / DATASET).get("digest") or "")
        given = Path(str(sight.contexts[name].get("dataset") or "")).name
        if name in sight.protected or sight.idle_days(sight.settings.run_folder(name)) <= sight.policy.dataset_days:
            for each in (digest, given):
                used.setdefault(each, "a run that is kept was trained on it")
    for advisor in _folders(sight.settings.root / "datasets"):
        versions = sorted(_folders(advisor), key=newest_change)
        for version in versions:
            reason = "" if sight.view.readable else UNREADABLE
            reason = reason or used.get(version.name, "") or ("the newest version" if version == versions[-1] else "")
            if not reason and sight.idle_days(version) <= sight.policy.dataset_days:
                reason = f"built in the last {sight.policy.dataset_days} days"
            gone = f"unused for {sight.policy.dataset_days} days"
            yield PruneItem("datasets", version, _bytes(version), not reason, reason or gone)


# --- caches and leftovers ---------------------------------------------------------------------------------------------


def _cache(sight: _Sight, kind: PruneKind, folder: Path, leave_out: str = "") -> Iterator[PruneItem]:
    """The least recently used files go first; a file that was used in the last two days stays."""
    limit, held = sight.policy.cache_gb * 1e9, 0
    found = [path for path in _files(folder) if not leave_out or path.relative_to(folder).parts[0] != leave_out]
    for path in sorted(found, key=_changed, reverse=True):
        size, age = _size(path), sight.now - _changed(path)
        held += size
        if age > max(sight.policy.cache_days * DAY_SECONDS, FRESH_SECONDS):
            yield PruneItem(kind, path, size, True, f"unused for {sight.policy.cache_days} days")
        elif held > limit and age > FRESH_SECONDS:
            yield PruneItem(kind, path, size, True, f"more than {sight.policy.cache_gb:g} GB")
        else:
            yield PruneItem(kind, path, size, False, f"used in the last {sight.policy.cache_days} days")


def _old_files(sight: _Sight, kind: PruneKind, folder: Path, days: int) -> Iterator[PruneItem]:
    for path in _files(folder):
        old = sight.now - _changed(path) > days * DAY_SECONDS
        yield PruneItem(kind, path, _size(path), old, f"{'older' if old else 'newer'} than {days} days")


def _leftovers(sight: _Sight) -> Iterator[PruneItem]:
    """Folders of an interrupted deletion, and temporary files that a killed process left."""
    root = sight.settings.root
    for parent in (root / "runs", *_folders(root / "datasets")):
        for folder in parent.glob(f"{REMOVED_MARK}*"):
            yield PruneItem("leftovers", folder, _bytes(folder), True, "an interrupted deletion")
    for place in ("runs", "datasets", THUMBNAILS):
        for path in _files(root / place, hidden=True):
            if is_temporary_name(path.name) and sight.now - _changed(path) > DAY_SECONDS:
                yield PruneItem("leftovers", path, _size(path), True, "an interrupted write")


def _shared_objects(settings: Settings) -> Iterator[PruneItem]:
    """What no manifest names any more. Machines that share a storage may all look: an object is removed once."""
    storage, place = open_shared(settings.shared_root), Path("shared storage")
    if storage is None:
        return
    try:
        found = UnreferencedObjects(storage, tuple(unreferenced_published(storage)))
    except MondrianError as error:  # the share is not mounted: the workspace is pruned all the same
        yield PruneItem("shared objects", place, 0, False, str(error))
        return
    if found.found:
        size = sum(each.size for each in found.found)
        yield PruneItem("shared objects", place, size, True, "no dataset, run or checkpoint has them", shared=found)


def _kept(sight: _Sight) -> Iterator[PruneItem]:
    root, home = sight.settings.root, prefect_home(sight.settings)
    for kind, name, reason in KEPT_PLACES:
        if (root / name).exists():
            yield PruneItem(kind, root / name, _bytes(root / name), False, reason)
    registry = sight.settings.local_registry
    if registry is not None and registry.is_dir():
        reason = "`mondrian adapters prune` deletes versions that nothing needs"
        yield PruneItem("adapters", registry, _bytes(registry), False, reason)
    if (home / "prefect.db").exists():
        size = sum(_size(home / f"prefect.db{end}") for end in ("", "-wal", "-shm"))
        yield PruneItem("Prefect's database", home, size, False, "the server deletes old flow runs and events itself")
    logs = [path for path in (*home.glob("*.log*"), *(root / "runs" / "service").glob("*.log*")) if path.is_file()]
    if logs:
        yield PruneItem("logs", home, sum(map(_size, logs)), False, "they rotate, so they are bounded")


# --- files ------------------------------------------------------------------------------------------------------------


def newest_change(path: Path) -> float:
    """Seconds since the epoch at which a file, or any below a folder, last changed; a prune's own marker aside."""
    return max((_changed(each) for each in _files(path) if each.name != PRUNED), default=_changed(path))


def _files(folder: Path, *, hidden: bool = False) -> Iterator[Path]:
    """Regular files below a folder. Links are not followed; hidden files and folders only when asked for."""
    if folder.is_symlink():
        return
    try:
        entries: Sequence[os.DirEntry[str]] = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") and not hidden:
            continue
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith(REMOVED_MARK):
                yield from _files(Path(entry.path), hidden=hidden)
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(
            each for each in folder.iterdir() if each.is_dir() and not each.is_symlink() and each.name[0] != "."
        )
    except OSError:
        return []


def _bytes(path: Path) -> int:
    return _size(path) if path.is_file() else sum(map(_size, _files(path, hidden=True)))


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
