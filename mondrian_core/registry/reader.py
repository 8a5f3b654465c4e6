"""RegistryReader: read versions, states, the champion and the history, and verify them. No locks, no writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mondrian_core.errors import BadAdapter, UnknownVersion
from mondrian_core.events import EventListener, ignore_events
from mondrian_core.object_store import open_object_store
from mondrian_core.registry import history, validation, version_comparison
from mondrian_core.registry.advisor_store import REMOVED_PREFIX, AdvisorStore, RegistrySnapshot, initial_version_state
from mondrian_core.registry.evaluations import RecordedEvaluation
from mondrian_core.registry.history import HistoryEntry
from mondrian_core.registry.remote_advisor_store import RemoteAdvisorStore
from mondrian_core.registry.version import (
    MANIFEST,
    VERSION_NAME,
    AdapterVersion,
    ChampionReference,
    legacy_folders,
    legacy_version,
    parse_manifest,
    report_at_registration,
    version_folders,
)
from mondrian_core.registry.version_writer import collect_version_files, stored_content
from mondrian_core.settings import ADVISOR_ID, url_from_cache_folder, validate_advisor_id


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


class RegistryReader:
    """Adapter versions under `root`: `<advisor>/v0001`, `promoted.json`, `history.jsonl`.

    docs/reference/registry.md describes them.
    """

    def __init__(
        self, root: Path, *, clock: Callable[[], datetime] = utc_now, listen: EventListener = ignore_events
    ) -> None:
        """`root` is a folder, or the folder of the cache that stands for a URL (`settings.cache_folder_from_url`)."""
        self.root, self._clock, self._listen = Path(root), clock, listen
        self.url = url_from_cache_folder(self.root)

    def advisors(self) -> list[str]:
        """Ids of the advisors with a folder here, sorted."""
        if self.url is not None:
            return [name for name in open_object_store(self.url).folders() if ADVISOR_ID.fullmatch(name)]
        return self.known_advisors()

    def known_advisors(self) -> list[str]:
        """Like `advisors`, but without asking a store: those with a copy on this machine."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and ADVISOR_ID.fullmatch(path.name))

    def refresh(self, advisor: str) -> None:
        """Bring this machine's copy of pointer and history up to date; a folder is always.

        Raises:
            Unreachable: the store doesn't answer.
        """
        store = self._store_of(advisor)
        if isinstance(store, RemoteAdvisorStore):
            store.refresh()

    def require_writable(self) -> None:
        """Refuse a store that can only be read, before work starts whose result it could not take.

        Raises:
            BadInput: the store has no conditional writes.
        """
        if self.url is not None:
            open_object_store(self.url).require_conditional_writes()

    def versions(self, advisor: str) -> list[AdapterVersion]:
        """All versions, oldest first, then those of older layouts. An incomplete folder is not a version."""
        store = self._store_of(advisor)
        return self._versions(store, store.snapshot())

    def get(self, advisor: str, version: str) -> AdapterVersion:
        """One version.

        Raises:
            UnknownVersion: no version has that name.
        """
        store = self._store_of(advisor)
        return self._fetched(store, self._get(store, store.snapshot(), version))

    def fetch_file(self, version: AdapterVersion, name: str) -> Path | None:
        """One listed file of a version, downloaded when the registry is an object store; None when it is not there.

        Raises:
            BadAdapter: the store's copy doesn't match the manifest.
        """
        facts = (version.manifest.get("files") or {}).get(name)
        if facts is None:
            return None
        self._store_of(version.advisor).fetch(version.path, {"files": {name: facts}})
        path = version.path / name
        return path if path.is_file() and not path.is_symlink() else None

    def current(self, advisor: str) -> str | None:
        """Name of the champion as writers see it, also when promoted.json is damaged; None is the base alone."""
        return self._store_of(advisor).snapshot().champion

    def reference(self, advisor: str) -> ChampionReference:
        """The champion as writers see it, with the hash of its manifest, for `Registry.promote(expected=...)`."""
        return self._store_of(advisor).snapshot().reference

    def version_at(self, advisor: str, folder: Path) -> AdapterVersion | None:
        """The registered version in a folder; None when the folder is not a version."""
        inside = folder.resolve().parent == (self.root / advisor).resolve()
        if not inside or not VERSION_NAME.fullmatch(folder.name):
            return None
        store = self._store_of(advisor)
        return self._read(store, store.snapshot(), folder.name)

    def version_with_content(self, advisor: str, folder: Path) -> AdapterVersion | None:
        """The registered version whose weights and configuration are those of a folder, whoever trained it; else None.

        Of several the oldest that is not in quarantine.
        """
        store = self._store_of(advisor)
        try:
            content = stored_content(collect_version_files(folder), store.home)
        except BadAdapter:
            return None
        return self._known_content(store, store.snapshot(), content)

    def champion(self, advisor: str) -> AdapterVersion | None:
        """The version that serves; None when nothing was promoted and the base answers alone.

        Sizes of files are checked, hashes are not; `verify` does that.

        Raises:
            BadAdapter: the pointer is damaged, or its version is incomplete or was edited.
        """
        store = self._store_of(advisor)
        snapshot = store.snapshot()
        if snapshot.pointer_error is not None:
            raise snapshot.pointer_error
        if snapshot.champion is None:
            return None
        version = self._read(store, snapshot, snapshot.champion)
        if version is None or version.state != "champion":
            raise BadAdapter(
                f"The champion of '{advisor}', {snapshot.champion}, is damaged or was edited.",
                f"`mondrian adapters verify --advisor {advisor}` says what is wrong; `... rollback` goes back.",
            )
        return self._fetched(store, version)

    def rollback_target(self, advisor: str) -> str | None:
        """Name of the version that a rollback returns to if its files are intact; None is the base alone."""
        store = self._store_of(advisor)
        snapshot = store.snapshot()
        target = next(self._earlier_champions(store, snapshot, snapshot.champion or ""), None)
        return target.version if target else None

    def history(self, advisor: str) -> tuple[HistoryEntry, ...]:
        """The history entries, oldest first."""
        return self._store_of(advisor).snapshot().chain.entries

    def verify(self, advisor: str, version: str) -> tuple[str, ...]:
        """Hash every file and read the arrays; gives the problems, () when intact. Writes nothing.

        Files in an object store are downloaded again: the cache says nothing about the store.
        """
        store = self._store_of(advisor)
        snapshot = store.snapshot()
        return self._problems(store, snapshot, self._get(store, snapshot, version), redownload=True)

    def check(self, advisor: str) -> tuple[str, ...]:
        """Problems of the history and the pointer: edited lines, a damaged pointer, missing versions."""
        store = self._store_of(advisor)
        snapshot = store.snapshot()
        found = list(snapshot.chain.problems)
        if snapshot.pointer_error is not None:
            found.append(snapshot.pointer_error.problem)
        there = {folder.name for folder in version_folders(store.home)}
        there |= {
            left.name.removeprefix(REMOVED_PREFIX) for left in store.home.glob(f"{REMOVED_PREFIX}*")
        }  # their entry is about to be written
        found += [
            f"{name} is in the history but not on disk" for name in snapshot.history_state.states if name not in there
        ]
        return tuple(found)

    def lineage(self, advisor: str, version: str | None = None) -> list[str]:
        """A version (the champion when none is named), its parent, and so on."""
        start = version or self.current(advisor)
        if start is None:
            return []
        return version_comparison.version_lineage({each.version: each for each in self.versions(advisor)}, start)

    # --- shared with the writing methods ----------------------------------------------------------------------------

    def _store_of(self, advisor: str) -> AdvisorStore:
        home = self.root / validate_advisor_id(advisor)
        if self.url is None:
            return AdvisorStore(home, advisor, self._clock, self._listen)
        return RemoteAdvisorStore(home, advisor, self._clock, self._listen, open_object_store(self.url))

    def _fetched(self, store: AdvisorStore, version: AdapterVersion) -> AdapterVersion:
        """The version, with its files downloaded into its folder."""
        if version.managed and version.state != "quarantined":
            store.fetch(version.path, version.manifest)
        return version

    def _versions(self, store: AdvisorStore, snapshot: RegistrySnapshot) -> list[AdapterVersion]:
        found = [self._read(store, snapshot, folder.name) for folder in version_folders(store.home)]
        older = [legacy_version(store.advisor, name, folder) for name, folder in legacy_folders(store.home)]
        return [version for version in found if version is not None] + older

    def _known_content(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, content: frozenset[tuple[str, str]]
    ) -> AdapterVersion | None:
        """The oldest version with that content that is not in quarantine; None when there is none."""
        versions = self._versions(store, snapshot)
        return next((each for each in versions if each.content == content and each.state != "quarantined"), None)

    def _get(self, store: AdvisorStore, snapshot: RegistrySnapshot, name: str) -> AdapterVersion:
        if VERSION_NAME.fullmatch(name):
            version = self._read(store, snapshot, name)
            if version is not None:
                return version
        for older, folder in legacy_folders(store.home):
            if older == name:
                return legacy_version(store.advisor, name, folder)
        known = ", ".join(version.version for version in self._versions(store, snapshot)) or "none yet"
        half = VERSION_NAME.fullmatch(name) and (store.home / name).is_dir()
        raise UnknownVersion(
            f"'{store.advisor}' has no version '{name}'"
            + (" yet: its folder is incomplete." if half else f" (known: {known})."),
            "Copy it again, with its manifest.json." if half else "List them with `mondrian adapters list`.",
        )

    def _read(self, store: AdvisorStore, snapshot: RegistrySnapshot, name: str) -> AdapterVersion | None:
        """The version in a folder; None when it is incomplete. One that has lost files is quarantined."""
        folder = store.home / name
        known = snapshot.history_state.states.get(name)
        try:
            data = (folder / MANIFEST).read_bytes()
        except OSError:
            data = b""
        manifest = parse_manifest(data, store.advisor, name)
        if manifest is None or not store.is_complete(folder, manifest):
            if known is None or not folder.is_dir():
                return None
            return AdapterVersion(
                advisor=store.advisor,
                version=name,
                path=folder,
                manifest=manifest or {"version": name},
                state="quarantined",
            )
        digest = history.sha256_hex(data)
        state = known or initial_version_state(manifest)
        if snapshot.history_state.manifests.get(name, digest) != digest:
            state = "quarantined"
        elif name == snapshot.champion:
            state = "champion"
        version = AdapterVersion(
            advisor=store.advisor,
            version=name,
            path=folder,
            manifest=manifest,
            state=state,
            manifest_sha256=digest,
            recorded=snapshot.history_state.evaluations.get(name, ()),
            of_copies=self._evaluations_of_copies(store, snapshot, name),
        )
        # derived here, so that a FAIL that another machine recorded at the same time counts too
        return replace(version, state="rejected") if state == "candidate" and version.unanswered_failures else version

    def _earlier_champions(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, leaving: str
    ) -> Iterator[AdapterVersion | None]:
        """The champions before `leaving` that are not in quarantine, newest first; None is the base alone."""
        for name in reversed(snapshot.history_state.champions[:-1]):
            version = self._read(store, snapshot, name) if name not in (None, leaving) else None
            if name is None or (version is not None and version.state != "quarantined"):
                yield version

    def _evaluations_of_copies(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, name: str
    ) -> tuple[RecordedEvaluation, ...]:
        """The evaluations of other versions with the same content, removed ones included."""
        found: list[RecordedEvaluation] = []
        for copy in snapshot.history_state.copies(name):
            with suppress(OSError):
                manifest = parse_manifest((store.home / copy / MANIFEST).read_bytes(), store.advisor, copy)
                report = report_at_registration(manifest or {})
                found += [RecordedEvaluation(report)] if report else []
            found += snapshot.history_state.evaluations.get(copy, ())
        return tuple(found)

    def _problems(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, version: AdapterVersion, *, redownload: bool = False
    ) -> tuple[str, ...]:
        try:
            if version.managed:
                store.fetch(version.path, version.manifest, redownload=redownload)
        except BadAdapter as error:
            return (error.problem,)
        return validation.version_problems(version, snapshot.history_state.manifests.get(version.version))
