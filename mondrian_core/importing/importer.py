"""Import photographs into the workspace.

Several processes read and check files; this one gives names and writes rows, in the order of the files, so an import
that was killed and started again ends in the same state. A file with the wanted name and the same bytes is taken over:
it is what a killed import left without a row.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from mondrian_core.errors import BadInput, DiskFull, translate_foreign_errors
from mondrian_core.events import EventListener, StageFinished, StageNotice, StageProgressed, StageStarted, ignore_events
from mondrian_core.files import file_sha256, make_folder, sync_folder
from mondrian_core.images import PhotographRejection, open_photograph
from mondrian_core.importing.folder_walk import FoundFile, OtherFile, SkippedLink, walk_photographs
from mondrian_core.importing.import_report import ImportedFile, ImportOutcome, ImportReport, ResemblingPhotographs
from mondrian_core.importing.placement import Placement, import_folder, safe_file_name
from mondrian_core.importing.preparation import (
    DISK_FULL,
    IMPORTED_SIDES,
    PARTS,
    PreparationTask,
    PreparedPhotograph,
    RefusedPhotograph,
    prepare_in_process,
    prepare_photograph,
    remove_abandoned_parts,
    start_preparation_process,
)
from mondrian_core.near_duplicates import PhotographFingerprint, near_duplicate_pairs, photograph_fingerprint
from mondrian_core.settings import ALL_ADVISORS, validate_advisor_id
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.photographs import Photograph, Photographs
from mondrian_core.thumbnails import cached_thumbnail

STAGE, COMPARISON = "import", "compare"
MAX_WORKERS = 4
FEW_FILES = 12  # imported in this process: starting others takes longer
ROWS_PER_COMMIT, SECONDS_PER_COMMIT = 50, 2.0
QUEUED_PER_WORKER = 3
MAX_UPLOADED_FOLDERS = 12  # the innermost folders of an upload's name, and the name
Prepared = PreparedPhotograph | RefusedPhotograph
_CRASHED = RefusedPhotograph(str(PhotographRejection.UNREADABLE), "the decoder crashed on it")


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How to import.

    Attributes:
        root: the workspace.
        advisor: id; `ALL_ADVISORS` for photographs that are under source/ already and belong to everyone.
        portfolio: the photographs are the advisor's own work.
        reference: link to the originals instead of copying them; they are not changed and keep their GPS data.
        dry_run: check everything and write nothing.
        max_pixels: limit on width x height.
        workers: processes; None for one per core, at most `MAX_WORKERS`.
        near_duplicates: search for photographs that look alike at the end.
        in_background: read in one process of low priority, so that a service stays quick.
    """

    root: Path
    advisor: str
    max_pixels: int
    portfolio: bool = False
    reference: bool = False
    dry_run: bool = False
    workers: int | None = None
    near_duplicates: bool = True
    in_background: bool = False


@dataclass
class _Pending:
    """Rows that are not committed yet, and the folders to flush before they are."""

    rows: list[Photograph] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)


class PhotographImport:
    """One import: of folders and files with `run`, or of uploads with `add_upload`.

    Raises:
        UnknownAdvisor, BadInput: there is no such advisor, or its ID is not a valid one.
    """

    def __init__(self, store: Store, settings: ImportSettings) -> None:
        if settings.advisor != ALL_ADVISORS:
            store.advisor(validate_advisor_id(settings.advisor))  # it becomes the name of a folder
        self._store, self._photographs, self._settings = store, Photographs(store), settings
        self.report = ImportReport(dry_run=settings.dry_run, referenced=settings.reference)
        self._folder = import_folder(settings.root, settings.advisor, settings.portfolio)
        self._placement = Placement(settings.root, self._folder)
        self._rows = {each.sha256: each for each in self._photographs.find(settings.advisor)}
        self._complete = frozenset(sha256 for sha256, row in self._rows.items() if self._needs_nothing(row))
        self._new: dict[str, str] = {}
        self._fingerprints: list[PhotographFingerprint] = []
        self._pending = _Pending()

    def run(self, named: Sequence[Path], listen: EventListener = ignore_events) -> ImportReport:
        """Import files and folders, sub-folders included.

        Raises:
            BadInput: one of them does not exist.
            DiskFull: no space is left; what was imported is kept.
        """
        for path in named:
            if not path.exists():
                raise BadInput(f"There is no file or folder {path}.", "Check the path.")
        listen(StageStarted(STAGE, detail="looking for photographs"))
        return self.run_files(self._walk(named), listen)

    def run_files(self, files: Sequence[FoundFile], listen: EventListener = ignore_events) -> ImportReport:
        """Import files that were found.

        Raises:
            DiskFull: no space is left; what was imported is kept.
        """
        parts = self._settings.root / self._folder / PARTS
        if not self._settings.dry_run:
            remove_abandoned_parts(parts)
        listen(StageStarted(STAGE, total=len(files), detail=f"{len(files):,} files"))
        try:
            for done, (file, prepared) in enumerate(self._each_prepared(files), 1):
                self._accept(file, prepared)
                listen(StageProgressed(STAGE, done, len(files), _printable(file.shown)[-60:]))
        finally:
            self._commit()
            with suppress(OSError):
                parts.rmdir()  # unless another import uses it
        if self._settings.near_duplicates:
            listen(StageNotice(STAGE, "looking for near-duplicates"))
            self.report.near_duplicates += self._near_duplicates(listen)
        listen(StageFinished(STAGE, {str(name): count for name, count in self.report.counts.items()}))
        return self.report

    def add_upload(self, shown: str, data: bytes) -> ImportedFile:
        """Import the bytes of an upload; `shown` is its name, perhaps with folders.

        Raises:
            DiskFull: no space is left.
        """
        parts = [part for part in shown.replace("\\", "/").split("/") if part.strip(". ")]
        file = FoundFile(None, "/".join(parts[-MAX_UPLOADED_FOLDERS:]) or "photograph")
        result = self._accept(file, prepare_photograph(self._task(data), self._complete))
        self._commit()
        return result

    def _walk(self, named: Sequence[Path]) -> list[FoundFile]:
        """The files that may be photographs; others are counted or reported."""
        root, files = self._settings.root, []
        ours = [path for path in root.iterdir() if path.name != "source" and path.is_dir()]
        for found in walk_photographs(named, ours):
            if isinstance(found, FoundFile):
                files.append(found)
            elif isinstance(found, OtherFile):
                self.report.other_files[found.suffix or "no suffix"] += 1
            elif isinstance(found, SkippedLink):
                self.report.add(ImportedFile(file=found.shown, outcome=ImportOutcome.LINK, detail=found.detail))
            else:
                reason = str(PhotographRejection.UNREADABLE)
                self.report.add(
                    ImportedFile(file=found.shown, outcome=ImportOutcome.REJECTED, reason=reason, detail=found.detail)
                )
        return files

    def _each_prepared(self, files: Sequence[FoundFile]) -> Iterator[tuple[FoundFile, Prepared]]:
        workers = self._settings.workers or min(MAX_WORKERS, os.cpu_count() or 1)
        workers = 1 if self._settings.in_background else workers
        if len(files) <= FEW_FILES or (workers == 1 and not self._settings.in_background):
            for file in files:
                yield file, prepare_photograph(self._task(_path_of(file)), self._complete)
        else:
            yield from self._prepared_in_processes(files, workers)

    def _prepared_in_processes(self, files: Sequence[FoundFile], workers: int) -> Iterator[tuple[FoundFile, Prepared]]:
        """In the order of the files, at most `QUEUED_PER_WORKER` ahead for each process."""
        waiting: deque[tuple[FoundFile, Future[Prepared]]] = deque()
        pool = self._pool(workers)
        try:
            for file in files:
                if len(waiting) >= workers * QUEUED_PER_WORKER:
                    yield self._result(*waiting.popleft())
                try:
                    future = pool.submit(prepare_in_process, self._task(_path_of(file)))
                except BrokenProcessPool:
                    pool = self._pool(workers)
                    future = pool.submit(prepare_in_process, self._task(_path_of(file)))
                waiting.append((file, future))
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _result(self, file: FoundFile, future: Future[Prepared]) -> tuple[FoundFile, Prepared]:
        try:
            return file, future.result()
        except BrokenProcessPool:  # a process died: each file that it may have been gets one of its own
            with self._pool(1) as alone:
                try:
                    return file, alone.submit(prepare_in_process, self._task(_path_of(file))).result()
                except BrokenProcessPool:
                    return file, _CRASHED

    def _pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=partial(start_preparation_process, self._complete, self._settings.in_background),
        )

    def _task(self, source: Path | bytes) -> PreparationTask:
        settings = self._settings
        inside = isinstance(source, Path) and self._path_inside(source) is not None
        return PreparationTask(
            source=source,
            root=settings.root,
            parts=None if settings.dry_run else settings.root / self._folder / PARTS,
            reference=settings.reference or inside,
            max_pixels=settings.max_pixels,
            owner=os.getpid(),
            fingerprint=settings.near_duplicates,
        )

    def _accept(self, file: FoundFile, prepared: Prepared) -> ImportedFile:
        """Give a prepared photograph its place and its row, and report what happened."""
        result = self._accepted(file, prepared)
        if isinstance(prepared, PreparedPhotograph) and prepared.part is not None:
            prepared.part.unlink(missing_ok=True)
        self.report.add(result)
        if len(self._pending.rows) >= ROWS_PER_COMMIT or time.monotonic() - self._pending.since > SECONDS_PER_COMMIT:
            self._commit()
        return result

    def _accepted(self, file: FoundFile, prepared: Prepared) -> ImportedFile:
        shown = _printable(file.shown)
        if isinstance(prepared, RefusedPhotograph):
            if prepared.reason == DISK_FULL:
                raise DiskFull(self._settings.root)
            return ImportedFile(
                file=shown, outcome=ImportOutcome.REJECTED, reason=prepared.reason, detail=prepared.detail
            )
        sha256 = prepared.sha256
        if sha256 in self._new:
            return ImportedFile(
                file=shown, outcome=ImportOutcome.DUPLICATE, detail=f"the same as {self._new[sha256]}", sha256=sha256
            )
        if sha256 in self._complete:
            known = self._rows[sha256].image_path
            return ImportedFile(
                file=shown, outcome=ImportOutcome.KNOWN, detail=f"already {known}", path=known, sha256=sha256
            )
        path = None if self._settings.dry_run else self._stored(file, prepared)
        self._new[sha256] = path or shown
        self._note_move(sha256, path)
        if prepared.fingerprint is not None:
            self._fingerprints.append(prepared.fingerprint)
        if path is not None:
            self._pending.rows.append(self._row(path, prepared))
        return ImportedFile(
            file=shown,
            outcome=ImportOutcome.IMPORTED,
            path=path,
            sha256=sha256,
            place_removed=prepared.place_removed,
        )

    def _note_move(self, sha256: str, path: str | None) -> None:
        """When a known photograph is found in another place and not in its own any more, its critiques follow."""
        row = self._rows.get(sha256)
        if row is None or path in (None, row.image_path) or (self._settings.root / row.image_path).exists():
            return
        assert path is not None
        self.report.moved[row.image_path] = path
        for profile in self._profiles_by_path.get(row.image_path.removeprefix("source/"), ()):
            self._store.save_profile(replace(profile, image_path=path))

    @cached_property
    def _profiles_by_path(self) -> dict[str, list[DimensionalProfile]]:
        """All critiques by the path of their photograph, without "source/"."""
        found: dict[str, list[DimensionalProfile]] = {}
        for profile in self._store.profiles():
            found.setdefault(profile.image_path.removeprefix("source/"), []).append(profile)
        return found

    def _row(self, path: str, prepared: PreparedPhotograph) -> Photograph:
        return Photograph(
            sha256=prepared.sha256,
            image_path=path,
            advisor=self._settings.advisor,
            portfolio=self._settings.portfolio,
            width=prepared.width,
            height=prepared.height,
            taken_at=prepared.taken_at,
            camera=prepared.camera,
        )

    def _stored(self, file: FoundFile, prepared: PreparedPhotograph) -> str:
        """The path below the workspace under which the photograph is now stored."""
        inside = None if file.path is None else self._path_inside(file.path)
        if inside is not None:
            return inside
        name = safe_file_name(Path(file.shown).name, prepared.suffixes)
        for path, taken in self._placement.candidates(file.folders, name, prepared.sha256):
            target = self._settings.root / path
            with translate_foreign_errors(target):
                make_folder(target.parent)
                ours = not taken and self._put(file, prepared, target)
                if ours or (target.is_file() and file_sha256(target) == prepared.sha256):
                    self._placement.add(path)
                    self._pending.folders.add(target.parent)
                    return path
        raise BadInput(f"No name is free for {file.shown}.", f"Move {self._folder}/{file.shown} elsewhere.")

    def _put(self, file: FoundFile, prepared: PreparedPhotograph, target: Path) -> bool:
        """Store the photograph under a name that no file has; False when another process was faster."""
        try:
            if prepared.part is None:
                target.symlink_to(os.path.abspath(_path_of(file)))  # noqa: PTH100  links of the user are kept
                return True
            try:
                os.link(prepared.part, target)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if target.exists():
                    return False
                prepared.part.replace(target)
        except FileExistsError:
            return False
        return True

    def _path_inside(self, path: Path) -> str | None:
        """The path below the workspace of a file that is already under its source/; None for others."""
        source = self._settings.root / "source"
        spelled = Path(os.path.abspath(path))  # noqa: PTH100  a folder of source/ may be a link to another disk
        if spelled.is_relative_to(source):
            return f"source/{spelled.relative_to(source).as_posix()}"
        real = Path(os.path.realpath(path.parent)) / path.name
        source = Path(os.path.realpath(source))
        return f"source/{real.relative_to(source).as_posix()}" if real.is_relative_to(source) else None

    def _needs_nothing(self, row: Photograph) -> bool:
        """True when importing the photograph again would change nothing."""
        present = (self._settings.root / row.image_path).is_file()
        return present and (row.portfolio or not self._settings.portfolio)

    def _commit(self) -> None:
        """Write the rows whose files are on disk."""
        pending, self._pending = self._pending, _Pending()
        for folder in pending.folders:
            sync_folder(folder)
        if pending.rows:
            self._photographs.add(*pending.rows)

    def _near_duplicates(self, listen: EventListener) -> Iterator[ResemblingPhotographs]:
        """Pairs of a new photograph and another of the advisor that look alike."""
        new, self._fingerprints = self._fingerprints, []
        if not new:
            return
        known = [each for row in self._rows.values() if row.sha256 not in self._new for each in self._known(row)]
        together = [*known, *new]
        paths = {sha256: row.image_path for sha256, row in self._rows.items()} | self._new
        progress = partial(StageProgressed, COMPARISON)
        for pair in near_duplicate_pairs(together, on_progress=lambda done, total: listen(progress(done, total))):
            if pair.second >= len(known):
                first, second = (paths[together[position].photo_id] for position in (pair.first, pair.second))
                yield ResemblingPhotographs(first, second, str(pair.kind))

    def _known(self, row: Photograph) -> Iterator[PhotographFingerprint]:
        """The fingerprint of an earlier photograph, from its thumbnail; none without one."""
        thumbnail = cached_thumbnail(self._settings.root, row.sha256, IMPORTED_SIDES[0])
        if thumbnail is not None:
            with suppress(BadInput):
                yield photograph_fingerprint(row.sha256, open_photograph(thumbnail).image)


def _printable(name: str) -> str:
    """A file's name with bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _path_of(file: FoundFile) -> Path:
    """The path of a file that is not an upload."""
    assert file.path is not None
    return file.path
