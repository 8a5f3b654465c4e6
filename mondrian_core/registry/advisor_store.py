"""AdvisorStore: one advisor's pointer and history under a lock, kept consistent through crashes.

Every change takes effect in one atomic step: a rename of promoted.json (the champion), a rename of a folder (a version
appears or disappears), or a flushed line (everything else). A writer first completes what a crashed writer left.
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
    adapter_content,
    adapter_content_digest,
    has_all_files,
    parse_manifest,
    version_folders,
)

LOCK_FILE = ".lock"
INCOMING_PREFIX = ".incoming-"
REMOVED_PREFIX = ".removed-"
LOCK_SECONDS = 30.0
REGISTRY_ACTOR = "registry"  # the actor of changes that the registry makes by itself


@dataclass(frozen=True)
class RegistrySnapshot:
    """A consistent view of pointer and history.

    Attributes:
        chain: ends with the pointer's own entry, also when a crashed writer did not append it.
        pointer_error: why the pointer can't be used; then the history determines the champion.
    """

    chain: HistoryChain
    pointer: ChampionPointer | None
    pointer_error: BadAdapter | None = None

    @cached_property
    def history_state(self) -> HistoryState:
        """The history, replayed."""
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
    """Pointer and history of one advisor. Reading takes no lock; writing happens inside `writing()`."""

    def __init__(
        self, home: Path, advisor: str, clock: Callable[[], datetime], listen: EventListener = ignore_events
    ) -> None:
        self.home, self.advisor, self.clock, self.listen = home, advisor, clock, listen

    def snapshot(self) -> RegistrySnapshot:
        """Read pointer and history; again when a promotion happens between the two reads."""
        snapshot = self._snapshot_once()
        for _ in range(100):
            if snapshot.pointer_error is None:
                break
            time.sleep(0.002)
            before, snapshot = snapshot, self._snapshot_once()
            if (before.chain, before.pointer) == (snapshot.chain, snapshot.pointer):
                break  # nobody is writing: the error is real
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
            return RegistrySnapshot(chain, found, self._pointer_error("promoted.json doesn't match the history"))
        return RegistrySnapshot(chain, found)

    def _pointer_error(self, what: str) -> BadAdapter:
        return BadAdapter(
            f"{self.home}: {what}.",
            f"Run `mondrian adapters promote` or `mondrian adapters rollback --advisor {self.advisor}`; "
            "both follow the history and rewrite the file.",
        )

    def is_complete(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        """True when every file of a version exists with its recorded size."""
        return has_all_files(folder, manifest)

    def fetch(self, folder: Path, manifest: Mapping[str, Any], *, redownload: bool = False) -> None:
        """Make the files of a version available in its folder; a local registry always has them."""

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[RegistrySnapshot]:
        """Hold the advisor's lock, with interrupted changes completed. The kernel frees the lock of a dead process.

        Raises:
            UnknownVersion: the advisor has no folder, and `create` is False.
            RegistryBusy: another process holds the lock for longer than LOCK_SECONDS.
            DiskFull: an interrupted change can't be completed.
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
        """Append an event that takes effect with its history line."""
        entry = snapshot.chain.next_entry(event, self.clock(), **values)
        return replace(snapshot, chain=history.append_history_entry(self.home, snapshot.chain, entry))

    def move(
        self, snapshot: RegistrySnapshot, event: str, after: str | None, manifest_sha256: str, **values: Any
    ) -> HistoryEntry:
        """Move the pointer to `after`: done when this returns, not done when it raises.

        The history line follows the rename; on a full disk it stays in the pointer for the next writer.

        Args:
            snapshot: the state that the move starts from.
            event: "promote", "rollback" or "quarantine".
            after: the new champion; None: the base alone.
            manifest_sha256: of that version's manifest; "" for the base.
            values: further fields of the history entry.
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
                StageNotice("registry", f"The champion has changed; the history line is still to be written. {error}")
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
                    snapshot, "remove", version=name, actor=REGISTRY_ACTOR, reason="its removal was interrupted"
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
                    reason="found complete on disk without a history line",
                    detail={
                        "state": initial_version_state(manifest),
                        "manifest_sha256": history.sha256_hex(data),
                        "content": adapter_content_digest(adapter_content(manifest)),
                    },
                )
        return snapshot

    def discard_version(self, folder: Path) -> None:
        """Undo a version that could not be recorded: remove its manifest, then its files. Needs no disk space."""
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder, ignore_errors=True)


def initial_version_state(manifest: Mapping[str, Any]) -> VersionState:
    """The default state of a new version: rejected when its gates failed, else candidate."""
    report = manifest.get("gate_report") or {}
    failed = report.get("verdict") == "FAIL" or manifest.get("registered_as") == "rejected"
    return "rejected" if failed else "candidate"
