"""RemoteAdvisorStore: an advisor's pointer and history in an object store, published by one conditional write.

history.jsonl is the object that decides. A writer copies the advisor's files to a temporary folder, works there with
the code of a local registry, and writes the history back only if nobody else has (compare and swap): that write is the
commit. Version folders are uploaded before it, their manifest last, under a number claimed by a conditional write;
promoted.json follows, for readers of the store itself. A writer that crashes leaves at most an unpromoted version, a
claimed number, or a promoted.json that the next writer updates.

Reads use a cache folder per registry, which only holds published states. Files of versions are downloaded when needed,
checked against their hash, and cached by hash for all versions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

from mondrian_core.errors import BadAdapter
from mondrian_core.events import StageNotice
from mondrian_core.files import file_sha256, write_atomic
from mondrian_core.object_store import (
    ObjectInfo,
    ObjectStore,
    Unreachable,
    WriteConflict,
    new_claim_token,
    token_in_listing,
)
from mondrian_core.registry import history
from mondrian_core.registry.advisor_store import AdvisorStore, RegistrySnapshot
from mondrian_core.registry.champion_pointer import POINTER, ChampionPointer
from mondrian_core.registry.history import HISTORY, HistoryChain, HistoryEntry
from mondrian_core.registry.version import MANIFEST, VERSION_NAME, has_all_files, version_folders
from mondrian_core.registry.version_writer import READ_ONLY_MODE

CLAIM_FILE = ".claim"
BLOB_FOLDER = ".blobs"
MAX_WRITE_TRIES = 20


class RemoteAdvisorStore(AdvisorStore):
    """Pointer and history of one advisor in an object store. `home` is the cached copy, or a writer's own copy."""

    def __init__(self, home: Path, advisor: str, clock: Any, listen: Any, store: ObjectStore) -> None:
        super().__init__(home, advisor, clock, listen)
        self.store, self.mirror = store, home
        self.listing: dict[str, ObjectInfo] = {}

    # --- reading ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> RegistrySnapshot:
        """The published state; the cached one, with a notice, while the store can't be reached."""
        try:
            self.refresh()
        except Unreachable as error:
            self.listen(StageNotice("registry", f"{error.problem} The cached state is used."))
        return super().snapshot()

    def is_complete(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        """True when the store, or this folder, has every file of the manifest with its size."""
        sizes = {name: facts.get("bytes") for name, facts in manifest["files"].items()}
        there = {name: self.listing.get(f"{folder.name}/{name}") for name in sizes}
        return all(found and found.size == sizes[name] for name, found in there.items()) or has_all_files(
            folder, manifest
        )

    def fetch(self, folder: Path, manifest: Mapping[str, Any], *, redownload: bool = False) -> None:
        """Download the files of a version to its folder; with `redownload` also those that are cached.

        Raises:
            BadAdapter: a file in the store doesn't match the manifest.
        """
        for name, facts in manifest.get("files", {}).items():
            if redownload or not (folder / name).is_file():
                blob = self._blob(f"{folder.name}/{name}", str(facts["sha256"]), redownload=redownload)
                if not (folder / name).is_file():
                    _hard_link_or_copy(blob, folder / name)

    def _blob(self, path: str, sha256: str, *, redownload: bool) -> Path:
        kept = self.mirror.parent / BLOB_FOLDER / sha256
        if kept.is_file() and not redownload:
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=kept.parent, prefix=".coming-") as incoming:
            try:
                self.store.download(f"{self.advisor}/{path}", Path(incoming.name))
            except FileNotFoundError:
                raise BadAdapter(f"{path} is missing from {self.store.url}.", "Copy it there again.") from None
            if file_sha256(Path(incoming.name)) != sha256:
                raise BadAdapter(f"{path} in {self.store.url} doesn't match its SHA-256.", "Copy it there again.")
            if not kept.is_file():
                Path(incoming.name).chmod(READ_ONLY_MODE)
                _hard_link_or_copy(Path(incoming.name), kept)
        return kept

    def refresh(self) -> None:
        """Copy the published state to the cache.

        Raises:
            Unreachable: the store doesn't answer.
        """
        from filelock import FileLock

        self.mirror.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.mirror.parent / f".{self.advisor}.lock"):
            self.listing = self._copy_down(self.mirror)

    def _copy_down(self, home: Path) -> dict[str, ObjectInfo]:
        """Copy everything but the files of versions to `home`; gives the listing that the copy is based on.

        The listing is read first: an object that changes afterwards has another token, so a write against it fails.
        """
        listing = self.store.listing(self.advisor)
        if not listing:
            shutil.rmtree(home, ignore_errors=True)
            return {}
        home.mkdir(parents=True, exist_ok=True)
        _write_if_changed(home / HISTORY, self._read(HISTORY) if HISTORY in listing else b"")
        chain = history.read_history(home)
        if (found := _pointer_from_history(chain, self.advisor)) is not None:
            _write_if_changed(home / POINTER, f"{json.dumps(found.as_dict(), indent=2)}\n".encode())
        standing = history.replay_history(chain.entries)
        names = {path.split("/")[0] for path in listing if VERSION_NAME.fullmatch(path.split("/")[0])}
        names -= standing.removed
        for folder in version_folders(home):
            if folder.name not in names:
                shutil.rmtree(folder)
        for name in names:
            (home / name).mkdir(exist_ok=True)
            manifest = home / name / MANIFEST
            if f"{name}/{MANIFEST}" in listing and not self._is_current(manifest, listing[f"{name}/{MANIFEST}"]):
                _write_if_changed(manifest, self._read(f"{name}/{MANIFEST}"))
                _write_if_changed(
                    manifest.with_name(f".{MANIFEST}.token"), listing[f"{name}/{MANIFEST}"].token.encode()
                )
        return listing

    def _is_current(self, manifest: Path, there: ObjectInfo) -> bool:
        seen = manifest.with_name(f".{manifest.name}.token")
        return bool(there.token) and manifest.is_file() and seen.is_file() and seen.read_text() == there.token

    def _read(self, path: str) -> bytes:
        return self.store.read(f"{self.advisor}/{path}")

    # --- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[RegistrySnapshot]:
        """Work on a copy and publish it, also after an error that added a history line.

        Raises:
            WriteConflict: another writer published first; nothing changed, and the work must be repeated.
            Unreachable: the store doesn't answer.
        """
        self.mirror.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".writing-", dir=self.mirror.parent) as temporary:
            self.home = Path(temporary) / self.advisor
            _copy_known_manifests(self.mirror, self.home)
            try:
                self.listing = self._copy_down(self.home)
                began, known = history.read_history(self.home), {folder.name for folder in version_folders(self.home)}
                with super().writing(create=create) as snapshot:
                    try:
                        yield snapshot
                    finally:
                        self._publish(began, known)
            finally:
                self.home = self.mirror
        self.snapshot()

    def _publish(self, began: HistoryChain, known: set[str]) -> None:
        fresh = history.read_history(self.home).entries[len(began.entries) :]
        for folder in version_folders(self.home):
            if folder.name not in known and (folder / MANIFEST).is_file():
                self._upload(folder)
        if not fresh:
            return
        self._append(fresh)
        for entry in fresh:
            if entry.event == "remove" and entry.version:
                self._delete(entry.version)
        self._export_pointer()

    def _upload(self, folder: Path) -> None:
        """Upload a new version: claim its number, then its files, then the manifest that makes it a version."""
        place = f"{self.advisor}/{folder.name}"
        self.store.write_if(f"{place}/{CLAIM_FILE}", new_claim_token(), None)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for name, facts in manifest["files"].items():
            self.store.upload(f"{place}/{name}", folder / name)
            kept = self.mirror.parent / BLOB_FOLDER / facts["sha256"]
            kept.parent.mkdir(parents=True, exist_ok=True)
            if not kept.exists():
                _hard_link_or_copy(folder / name, kept)
        self.store.write_if(f"{place}/{MANIFEST}", (folder / MANIFEST).read_bytes(), None)

    def _append(self, fresh: Sequence[HistoryEntry]) -> None:
        """Publish new history lines, which commits them.

        Lines that depend on no other (no move of the pointer, no share of a rollout, no look) are appended after those
        of other writers. A conflict may come from our own write, which the library sent twice after a lost response:
        then the lines are there already.
        """
        seen = token_in_listing(self.listing, HISTORY)
        for _ in range(MAX_WRITE_TRIES):
            try:
                data = (self.home / HISTORY).read_bytes()
                self.store.write_if(f"{self.advisor}/{HISTORY}", data, seen)
                return
            except WriteConflict:
                seen = token_in_listing(self.store.listing(self.advisor), HISTORY)
                _write_if_changed(self.home / HISTORY, self._read(HISTORY))
                chain = history.read_history(self.home)
                lines = {entry.line for entry in chain.entries}
                if all(entry.line in lines for entry in fresh):
                    return
                fresh = self._rebase(chain, fresh)
                if not fresh:
                    return
        raise WriteConflict(f"{self.store.url} is written to constantly")

    def _rebase(self, chain: HistoryChain, fresh: Sequence[HistoryEntry]) -> list[HistoryEntry]:
        """Append the lines after `chain`, also in the file; a version that another writer adopted needs no line."""
        if any(entry.moves_pointer or entry.event in (history.LOOK_EVENT, history.ROLLOUT_EVENT) for entry in fresh):
            raise WriteConflict("the champion, its rollout or the number of the look may have changed")
        moved = []
        adopted = set(history.replay_history(chain.entries).states)
        for entry in fresh:
            if entry.event in ("register", "adopt") and entry.version in adopted:
                continue
            again = replace(entry, serial=chain.next_serial, previous=chain.tip)
            chain = history.append_history_entry(self.home, chain, again)
            moved.append(again)
        return moved

    def _delete(self, name: str) -> None:
        """Delete a version, manifest first: without it the rest is not a version."""
        paths = [f"{self.advisor}/{name}/{path}" for path in self.store.listing(f"{self.advisor}/{name}")]
        self.store.remove(sorted(paths, key=lambda path: not path.endswith(f"/{MANIFEST}")))

    def _export_pointer(self) -> None:
        """Write promoted.json from the history, for readers of the store itself."""
        for _ in range(MAX_WRITE_TRIES):
            listing = self.store.listing(self.advisor)
            with TemporaryDirectory() as temporary:
                (Path(temporary) / HISTORY).write_bytes(self._read(HISTORY))
                found = _pointer_from_history(history.read_history(Path(temporary)), self.advisor)
            data = f"{json.dumps(found.as_dict(), indent=2)}\n".encode() if found else b""
            if not data or (POINTER in listing and self._read(POINTER) == data):
                return
            try:
                self.store.write_if(f"{self.advisor}/{POINTER}", data, token_in_listing(listing, POINTER))
                return
            except WriteConflict:
                continue


def _pointer_from_history(chain: HistoryChain, advisor: str) -> ChampionPointer | None:
    """The pointer that follows from a history; None when nothing was ever promoted."""
    moves = [entry for entry in chain.entries if entry.moves_pointer]
    if not moves:
        return None
    manifests = history.replay_history(chain.entries).manifests
    return ChampionPointer(advisor, moves[-1].after, manifests.get(moves[-1].after or "", ""), moves[-1])


def _copy_known_manifests(mirror: Path, home: Path) -> None:
    """Copy cached manifests with their tokens, so that unchanged ones are not downloaded again."""
    for folder in version_folders(mirror):
        (home / folder.name).mkdir(parents=True)
        for name in (MANIFEST, f".{MANIFEST}.token"):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, home / folder.name / name)


def _write_if_changed(path: Path, data: bytes) -> None:
    """Write only when the content differs, so that watchers of the file see no false change."""
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)


def _hard_link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file; copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(READ_ONLY_MODE)
