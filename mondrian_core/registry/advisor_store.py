"""One advisor's folder under lock: the pointer and the history, kept in step through crashes.

Every change has one moment in which it happens: a rename of promoted.json (the champion), a rename of a folder (a
version appears or goes), or a flushed line (everything else). Before its own change a writer settles what a dead one
left.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter, MondrianError, RegistryBusy, UnknownVersion, translate_foreign_errors
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.registry import champion_pointer, history
from mondrian_core.registry.champion_pointer import POINTER, ChampionPointer
from mondrian_core.registry.history import HistoryChain, HistoryEntry, HistoryState
from mondrian_core.registry.version import (
    MANIFEST,
    ChampionReference,
    VersionState,
    has_all_files,
    parse_manifest,
    version_folders,
)

LOCK_FILE = ".lock"
INCOMING_PREFIX = ".incoming-"
REMOVED_PREFIX = ".removed-"
LOCK_SECONDS = 30.0
REGISTRY_ACTOR = "registry"  # the actor of what the registry finds by itself


@dataclass(frozen=True)
class RegistrySnapshot:
    """Pointer and history as they belong together.

    Attributes:
        chain: with the pointer's own entry at its end when a dead writer didn't come to write it.
        trouble: why the pointer can't be followed; then the history says who is champion.
    """

    chain: HistoryChain
    pointer: ChampionPointer | None
    pointer_error: BadAdapter | None = None

    @cached_property
    def history_state(self) -> HistoryState:
        """What the history says."""
        return history.replay_history(self.chain.entries)

    @property
    def champion(self) -> str | None:
        """Name of the champion; None is the base alone."""
        return self.history_state.champions[-1]

    @property
    def reference(self) -> ChampionReference:
        """The champion with the hash of its manifest."""
        return ChampionReference(self.champion, self.history_state.manifests.get(self.champion or "", ""))


class AdvisorStore:
    """The books of one advisor. Reading takes no lock; writing happens inside `writing()`."""

    def __init__(
        self, home: Path, advisor: str, clock: Callable[[], datetime], listen: EventListener = ignore_events
    ) -> None:
        self.home, self.advisor, self.clock, self.listen = home, advisor, clock, listen

    def snapshot(self) -> RegistrySnapshot:
        """Pointer and history. A promotion that happens between the two readings makes it read again."""
        snapshot = self._snapshot_once()
        for _ in range(100):
            if snapshot.pointer_error is None:
                break
            time.sleep(0.002)
            before, snapshot = snapshot, self._snapshot_once()
            if (before.chain, before.pointer) == (snapshot.chain, snapshot.pointer):
                break  # nobody is writing: the trouble stays
        return snapshot

    def _snapshot_once(self) -> RegistrySnapshot:
        try:
            found = champion_pointer.read_champion_pointer(self.home, self.advisor)
        except BadAdapter as trouble:
            return RegistrySnapshot(history.read_history(self.home), None, trouble)
        chain = history.read_history(self.home)
        moves = [entry for entry in chain.entries if entry.moves_pointer]
        if found is None:
            gone = bool(moves) and moves[-1].after is not None
            return RegistrySnapshot(chain, None, self._pointer_error("promoted.json is gone") if gone else None)
        if found.entry.serial >= chain.next_serial:
            return RegistrySnapshot(chain.with_entry(found.entry), found)
        if moves and moves[-1] != found.entry:
            return RegistrySnapshot(
                chain, found, self._pointer_error("promoted.json is not the one that the history tells of")
            )
        return RegistrySnapshot(chain, found)

    def _pointer_error(self, what: str) -> BadAdapter:
        return BadAdapter(
            f"{self.home}: {what}.",
            f"Run `mondrian adapters promote` or `mondrian adapters rollback --advisor {self.advisor}`; "
            "both go by the history and write it anew.",
        )

    def is_complete(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        """True when every file of a version is there with its size."""
        return has_all_files(folder, manifest)

    def fetch(self, folder: Path, manifest: Mapping[str, Any], *, anew: bool = False) -> None:
        """Have the files of a version in its folder; here they always are."""

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[RegistrySnapshot]:
        """Hold the advisor's lock, with the books settled. A lock whose process died is free: the kernel drops it.

        Raises:
            UnknownVersion: when there is no folder to write in and none is to be made.
            RegistryBusy: when another process keeps it for longer than LOCK_SECONDS.
            DiskFull: when what a dead process left can't be settled.
        """
        from filelock import FileLock, Timeout

        if not create and not self.home.is_dir():
            raise UnknownVersion(
                f"There are no adapters of '{self.advisor}' under {self.home.parent}.",
                f"Make one with `mondrian retrain --advisor {self.advisor}`, or check --advisor and --adapters.",
            )
        with translate_foreign_errors(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            try:
                lock = FileLock(self.home / LOCK_FILE).acquire(timeout=LOCK_SECONDS, poll_interval=0.01)
            except Timeout:
                raise RegistryBusy(self.home / LOCK_FILE) from None
            with lock:
                yield self._recover()

    def append_event(self, snapshot: RegistrySnapshot, event: str, **values: Any) -> RegistrySnapshot:
        """Append a line; for an event whose line is the event."""
        entry = snapshot.chain.next_entry(event, self.clock(), **values)
        return replace(snapshot, chain=history.append_history_entry(self.home, snapshot.chain, entry))

    def move(
        self, snapshot: RegistrySnapshot, event: str, after: str | None, manifest_sha256: str, **values: Any
    ) -> HistoryEntry:
        """Let the pointer name `after`: when this returns it does, when this raises it doesn't.

        The line follows the rename. When the disk has no room for it, it waits in the pointer for the next writer.
        """
        entry = snapshot.chain.next_entry(
            event, self.clock(), before=snapshot.champion, after=after, moves_pointer=True, **values
        )
        try:
            champion_pointer.write_champion_pointer(
                self.home, ChampionPointer(self.advisor, after, manifest_sha256, entry)
            )
            history.append_history_entry(self.home, snapshot.chain, entry)
        except (MondrianError, OSError) as error:
            found = self._snapshot_once().pointer
            if found is None or found.entry != entry:
                raise
            self.listen(
                StageNotice("registry", f"The champion has changed; its line in the history has to wait. {error}")
            )
        return entry

    def _recover(self) -> RegistrySnapshot:
        snapshot = self._snapshot_once()
        written = history.read_history(self.home)
        if snapshot.chain.size > written.size:
            history.append_history_entry(self.home, written, snapshot.chain.entries[-1])
        for left in (*self.home.glob(f"{INCOMING_PREFIX}*"), *self.home.glob(f".{Path(POINTER).stem}-*.json")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        snapshot = self._finish_removals(snapshot)
        return self._adopt_found(snapshot)

    def _finish_removals(self, snapshot: RegistrySnapshot) -> RegistrySnapshot:
        for left in sorted(self.home.glob(f"{REMOVED_PREFIX}*")):
            name = left.name.removeprefix(REMOVED_PREFIX)
            if name not in snapshot.history_state.removed:
                snapshot = self.append_event(
                    snapshot, "remove", version=name, actor=REGISTRY_ACTOR, reason="its removal was cut short"
                )
            shutil.rmtree(left)
        return snapshot

    def _adopt_found(self, snapshot: RegistrySnapshot) -> RegistrySnapshot:
        for folder in version_folders(self.home):
            if folder.name in snapshot.history_state.states:
                continue
            try:
                data = (folder / MANIFEST).read_bytes()
            except OSError:
                continue
            manifest = parse_manifest(data, self.advisor, folder.name)
            if manifest is not None and self.is_complete(folder, manifest):
                snapshot = self.append_event(
                    snapshot,
                    "adopt",
                    version=folder.name,
                    actor=REGISTRY_ACTOR,
                    reason="found complete on disk without a line in the history",
                    detail={"state": initial_version_state(manifest), "manifest_sha256": history.sha256_hex(data)},
                )
        return snapshot

    def discard_version(self, folder: Path) -> None:
        """Take back a version that could not be recorded: no version in one step, then deleted. Needs no space."""
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder, ignore_errors=True)


def initial_version_state(manifest: Mapping[str, Any]) -> VersionState:
    """The state a version starts in when nobody said otherwise: rejected when its gates failed."""
    report = manifest.get("gate_report") or {}
    failed = report.get("verdict") == "FAIL" or manifest.get("registered_as") == "rejected"
    return "rejected" if failed else "candidate"
