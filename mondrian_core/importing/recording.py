"""Record photographs that are under source/ and not in the table `photographs`.

They come from a workspace of an older version, from SQL, or from a file manager. Comparing paths with rows is cheap and
is done whenever photographs are about to be listed; only files without a row are read. Nothing under source/ is
written. One process records at a time, in batches that are committed, so it may be killed and started again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from mondrian_core.errors import DiskFull, MondrianError
from mondrian_core.events import EventListener, StageNotice, StageProgressed, StageStarted, ignore_events
from mondrian_core.files import make_folder, read_json, write_json
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.importing.folder_walk import FoundFile
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.importing.placement import PHOTOGRAPHS_FOLDER, PORTFOLIOS_FOLDER
from mondrian_core.photograph_paths import SourceTree, has_temporary_name
from mondrian_core.settings import ALL_ADVISORS, Settings
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photographs
from mondrian_core.thumbnails import THUMBNAILS

STAGE = "record"
_WITHOUT_ROW = "without-row.json"  # in the folder of re-creatable files
Owner = tuple[str, bool]  # id or `ALL_ADVISORS`, and whether the photograph is in a portfolio
_Marks = dict[str, list[int]]  # size in bytes and time of change in nanoseconds, by path below the workspace


def photograph_paths_by_owner(paths: Iterable[str]) -> dict[Owner, list[str]]:
    """Paths below the workspace that are named like photographs, by the owner that their folder names."""
    found: dict[Owner, list[str]] = {}
    for path in paths:
        if PurePosixPath(path).suffix.lower() in PHOTOGRAPH_SUFFIXES and not has_temporary_name(path):
            found.setdefault(_owner(path), []).append(path)
    return found


def unrecorded_photographs(store: Store, root: Path) -> dict[Owner, list[str]]:
    """Files under source/ without a row, by owner: those of known advisors, and those of all.

    A file that was read and got no row, because it is unusable or a copy, is left out until it changes.
    """
    recorded, marks = Photographs(store).recorded_paths(), _read_marks(root)
    known = {each.advisor for each in store.advisors()} | {ALL_ADVISORS}
    waiting = (path for path in SourceTree(root).files if path not in recorded)
    groups = photograph_paths_by_owner(waiting)
    left = {
        owner: [path for path in paths if path not in marks or marks[path] != _mark(root / path)]
        for owner, paths in groups.items()
        if owner[0] in known
    }
    return {owner: paths for owner, paths in left.items() if paths}


def record_photographs(store: Store, settings: ImportSettings, listen: EventListener = ignore_events) -> int:
    """Record what is unrecorded; returns the number of photographs that got a row.

    When another process is recording, nothing is done.

    Args:
        store: opened for writing.
        settings: of `recording_settings`.
        listen: receives one progress over all files.

    Raises:
        DatabaseBusy, DiskFull: a row or a thumbnail can't be stored; what was recorded is kept.
    """
    with _lock(settings.root) as ours:
        if not ours:
            listen(StageNotice(STAGE, "another process is recording photographs that are not listed yet"))
            return 0
        groups = unrecorded_photographs(store, settings.root)
        total = sum(map(len, groups.values()))
        if not total:
            return 0
        listen(StageStarted(STAGE, total, f"{total:,} photographs that were here before"))
        before, done = len(Photographs(store).recorded_paths()), 0

        def report_progress(event: object) -> None:
            if isinstance(event, StageProgressed):
                listen(StageProgressed(STAGE, done + event.done, total, event.detail))

        for (owner, portfolio), paths in sorted(groups.items(), reverse=True):  # portfolios before the rest
            one = replace(settings, advisor=owner, portfolio=portfolio)
            files = [FoundFile(settings.root / path, path) for path in paths]
            PhotographImport(store, one).run_files(files, report_progress)
            done += len(paths)
        recorded = Photographs(store).recorded_paths()
        _add_marks(settings.root, [path for paths in groups.values() for path in paths if path not in recorded])
        return len(recorded) - before


def recording_settings(root: Path, max_pixels: int, *, in_background: bool = False) -> ImportSettings:
    """How to record in a workspace; `max_pixels` limits width x height."""
    return ImportSettings(
        root=root,
        advisor=ALL_ADVISORS,
        max_pixels=max_pixels,
        reference=True,
        near_duplicates=False,
        in_background=in_background,
    )


def record_before_listing(settings: Settings, listen: EventListener = ignore_events) -> None:
    """Record what is unrecorded before a command lists photographs.

    A workspace that can't be written is listed as it is.

    Raises:
        NoDatabase, DatabaseBusy: the database can't be read.
    """
    with Store(settings.database, read_only=True) as reading:
        if not unrecorded_photographs(reading, settings.root):
            return
    try:
        with Store(settings.database) as store:
            record_photographs(store, recording_settings(settings.root, settings.max_pixels), listen)
    except (MondrianError, OSError) as error:
        problem = error.problem if isinstance(error, MondrianError) else str(error)
        listen(StageNotice(STAGE, f"photographs that are not listed yet can't be recorded: {problem}"))


def _owner(path: str) -> Owner:
    """Whose a photograph is by its folder: a portfolio, the folder of an advisor's imports, or else everybody's."""
    parts = PurePosixPath(path).parts
    folders: Mapping[str, tuple[int, bool]] = {PORTFOLIOS_FOLDER: (3, True), PHOTOGRAPHS_FOLDER: (2, False)}
    for folder, (position, portfolio) in folders.items():
        if path.startswith(f"{folder}/") and len(parts) > position + 1:
            return parts[position], portfolio
    return ALL_ADVISORS, False


@contextmanager
def _lock(root: Path) -> Iterator[bool]:
    """True inside when no other process records in this workspace."""
    make_folder(root / THUMBNAILS)
    lock = FileLock(root / THUMBNAILS / ".recording.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _mark(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _read_marks(root: Path) -> _Marks:
    """The marks of files without a row; none when the file is missing or damaged."""
    try:
        found = read_json(root / THUMBNAILS / _WITHOUT_ROW)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _add_marks(root: Path, paths: Iterable[str]) -> None:
    added = {path: mark for path in paths if (mark := _mark(root / path)) is not None}
    if added:
        with suppress(OSError, DiskFull):  # without it, the files are only read again
            write_json(root / THUMBNAILS / _WITHOUT_ROW, {**_read_marks(root), **added})
