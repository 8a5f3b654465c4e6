"""Watches a folder and critiques the photographs that appear in it.

The folder's contents decide, not the events: an event only causes the next scan, and so does the passing of time. So
nothing depends on the order of events, on events that a network drive doesn't send, or on a folder that vanishes and
comes back (docs/decisions/0125-watched-folders-and-contact-sheets.md).
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import watchfiles

from mondrian_core.errors import BadInput, DatabaseBusy
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.files import file_sha256
from mondrian_core.images import MAX_BYTES, PHOTOGRAPH_SUFFIXES
from mondrian_core.next_steps import add_advisor_step
from mondrian_core.serving.batch_analyze import (
    AnalysisResult,
    BatchRequest,
    OnAnalysisResult,
    analysis_result_from_job,
    printable_path,
    with_sidecar,
)
from mondrian_core.store import Store

SETTLE_SECONDS = 2.0  # a file is complete when size and time haven't changed for so long, and it can be decoded
TICK_SECONDS = 0.5
RESCAN_SECONDS = 10.0  # without events, as on a network drive


class FileState(NamedTuple):
    """What changes when a file is written: its size in bytes and its modification time in ns."""

    size: int
    modified: int


@dataclass(kw_only=True)
class FolderScanner:
    """Finds complete photographs that weren't handled, in and below a folder.

    Attributes:
        folder: it may be missing for a while.
        excluded: a folder that is left out: the workspace, where the program itself writes pictures.
        settle_seconds: how long a file must stay unchanged.
        clock: monotonic seconds.
    """

    folder: Path
    excluded: Path | None = None
    settle_seconds: float = SETTLE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _handled: dict[str, FileState] = field(default_factory=dict)
    _waiting: dict[str, tuple[FileState, float]] = field(default_factory=dict)

    @property
    def has_waiting(self) -> bool:
        """True while files have changed that aren't complete yet."""
        return bool(self._waiting)

    def skip_present(self) -> int:
        """Treat every photograph that is there now as handled; returns their number."""
        self._handled |= self.scan()
        return len(self._handled)

    def handle(self, path: Path, state: FileState) -> None:
        """Don't return this photograph again unless it changes."""
        self._handled[str(path)] = state
        self._waiting.pop(str(path), None)

    def complete(self) -> list[tuple[Path, FileState]]:
        """New and changed photographs that stayed as they are for `settle_seconds`, the oldest first.

        What vanishes is not forgotten: a drive may be unmounted, and come back.
        """
        now, found = self.clock(), self.scan()
        new = {path: state for path, state in found.items() if self._handled.get(path) != state}
        earlier, self._waiting = self._waiting, {}
        for path, state in new.items():
            before, since = earlier.get(path, (state, now))
            self._waiting[path] = (state, since if before == state else now)
        settled = [path for path, (_, since) in self._waiting.items() if now - since >= self.settle_seconds]
        return [(Path(path), new[path]) for path in sorted(settled, key=lambda path: (new[path].modified, path))]

    def scan(self) -> dict[str, FileState]:
        """Photographs by path, without hidden files and folders; links to folders are not followed, so no loops."""
        found: dict[str, FileState] = {}
        folders, excluded = [str(self.folder)], str(self.excluded)
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except OSError:
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.path == excluded:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name[entry.name.rfind(".") :].lower() in PHOTOGRAPH_SUFFIXES:
                    found |= _state_of(entry)
        return found


@dataclass(kw_only=True)
class WatchSummary:
    """What a watch did: photographs critiqued, critiqued before by this advisor, and failed."""

    critiqued: int = 0
    known: int = 0
    failed: int = 0


@dataclass(kw_only=True)
class FolderWatch:
    """Critiques what appears in a folder until it is stopped.

    Attributes:
        request: advisor, mode and sidecars; `paths` is the folder.
        scanner: finds the photographs.
        store: its jobs tell what was critiqued before, also by a service.
        analyze: critiques one photograph.
        on_result: called with each result.
        listen: receives notices.
        stop: set it to end the watch.
    """

    request: BatchRequest
    scanner: FolderScanner
    store: Store
    analyze: Callable[[Path], Iterable[AnalysisResult]]
    on_result: OnAnalysisResult
    listen: EventListener = ignore_events
    stop: threading.Event = field(default_factory=threading.Event)
    summary: WatchSummary = field(default_factory=WatchSummary)
    _present: Collection[str] = ()  # at the start: that these were critiqued before is only counted

    def run(self) -> None:
        """Watch until `stop` is set; one photograph at a time, and no more than paths wait.

        Raises:
            DatabaseReplaced, DiskFull, BaseModelUnavailable: it can't go on.
        """
        scanned, self._present = float("-inf"), self.scanner.scan()
        with closing(folder_ticks(self.scanner.folder, self.stop)) as ticks:
            for changed in ticks:
                now = self.scanner.clock()
                if changed or self.scanner.has_waiting or now - scanned >= RESCAN_SECONDS:
                    scanned = now
                    self.step()

    def step(self) -> None:
        """Critique the photographs that are complete now."""
        for path, state in self.scanner.complete():
            if self.stop.is_set():
                return
            try:
                self._critique(path, state)
            except DatabaseBusy as error:  # another program holds it; the photograph stays in line
                self.listen(StageNotice("watch", f"{path.name} waits: {error.problem}"))
                return
            except FileNotFoundError:  # it went away in the meantime
                continue
            self.scanner.handle(path, state)

    def _critique(self, path: Path, state: FileState) -> None:
        known = self._earlier_results(path) if state.size <= MAX_BYTES else []
        if known:
            self.summary.known += 1
            self._repeat(known)
            return
        failed = False
        for result in self.analyze(path):
            failed = failed or result.critique is None
            self.on_result(result)
        self.summary.failed += failed
        self.summary.critiqued += not failed

    def _earlier_results(self, path: Path) -> list[AnalysisResult]:
        """The results of all modes for these bytes, from the jobs table; none when one is missing.

        Raises:
            FileNotFoundError: the photograph went away.
        """
        try:
            sha256 = file_sha256(path)
        except FileNotFoundError:
            raise
        except OSError:  # `analyze` tells why it can't be read
            return []
        known = [self.store.completed_job(self.request.advisor, sha256, mode) for mode in self.request.modes]
        return [analysis_result_from_job(path, job) for job in known if job] if all(known) else []

    def _repeat(self, results: Sequence[AnalysisResult]) -> None:
        """Write the sidecars of a photograph that was critiqued before, perhaps under another name."""
        for result in results:
            written = with_sidecar(result, self.request.sidecars)
            if written.sidecar_error:
                self.on_result(written)
            elif str(result.path) not in self._present and result.critique is not None:
                grade = result.critique.overall_grade
                self.listen(StageNotice("watch", f"{printable_path(result.path)} was critiqued before: {grade}"))


def folder_ticks(folder: Path, stop: threading.Event) -> Generator[bool]:
    """True after changes in the folder, False at least every `TICK_SECONDS`; also while it is missing or unreadable."""
    while not stop.is_set():
        identity = _identity(folder)
        if identity is None:
            yield False
            stop.wait(TICK_SECONDS)
            continue
        yield True
        try:
            for changes in _changes(folder, stop):
                if _identity(folder) != identity:
                    break
                yield bool(changes)
        except (OSError, RuntimeError):  # it vanished, or the system has no more watches: then time alone decides
            while not stop.wait(TICK_SECONDS) and _identity(folder) == identity:
                yield False


def sole_advisor(store: Store) -> str:
    """The advisor of a workspace that has exactly one.

    Raises:
        BadInput: there are several, or none.
    """
    known = [advisor_prompt.advisor for advisor_prompt in store.advisors()]
    if not known:
        raise BadInput("The workspace has no advisor.", add_advisor_step())
    if len(known) > 1:
        raise BadInput(
            f"The workspace has {len(known)} advisors.", f"Choose one of them with --advisor: {', '.join(known)[:200]}."
        )
    return known[0]


def _changes(folder: Path, stop: threading.Event) -> Iterator[object]:
    return watchfiles.watch(
        folder,
        watch_filter=None,
        stop_event=stop,
        debounce=400,
        rust_timeout=round(1000 * TICK_SECONDS),
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )


def _state_of(entry: os.DirEntry[str]) -> dict[str, FileState]:
    """The file by its path; empty for what isn't a file, or has vanished."""
    try:
        status = entry.stat()
    except OSError:
        return {}
    return {entry.path: FileState(status.st_size, status.st_mtime_ns)} if stat.S_ISREG(status.st_mode) else {}


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode: another folder of the same name is not the one that is watched."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
