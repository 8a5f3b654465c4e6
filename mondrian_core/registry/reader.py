"""Reading the registry: versions, their states, the champion, the history, what is wrong. No locks, no writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mondrian_core.errors import BadAdapter, UnknownVersion
from mondrian_core.events import EventListener, ignore_events
from mondrian_core.registry import history, validation, version_comparison
from mondrian_core.registry.advisor_store import REMOVED_PREFIX, AdvisorStore, RegistrySnapshot, initial_version_state
from mondrian_core.registry.history import HistoryEntry
from mondrian_core.registry.object_store import open_object_store
from mondrian_core.registry.remote_advisor_store import RemoteAdvisorStore
from mondrian_core.registry.version import (
    MANIFEST,
    VERSION_NAME,
    AdapterVersion,
    ChampionReference,
    legacy_folders,
    legacy_version,
    parse_manifest,
    version_folders,
)
from mondrian_core.settings import ADVISOR_ID, url_from_cache_folder, validate_advisor_id


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


class RegistryReader:
    """Adapter versions under `root`, in the layout of PRODUCT (Files)."""

    def __init__(
        self, root: Path, *, clock: Callable[[], datetime] = utc_now, listen: EventListener = ignore_events
    ) -> None:
        """`root` is a folder, or the place in the cache that stands for a URL (`settings.cached`)."""
        self.root, self._clock, self._listen = Path(root), clock, listen
        self.url = url_from_cache_folder(self.root)

    def advisors(self) -> list[str]:
        """Ids of the advisors with a folder here, sorted."""
        if self.url is not None:
            return [name for name in open_object_store(self.url).folders() if ADVISOR_ID.fullmatch(name)]
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and ADVISOR_ID.fullmatch(path.name))

    def versions(self, advisor: str) -> list[AdapterVersion]:
        """All versions, oldest first; then what older layouts left. Half-copied folders are none."""
        ledger = self._ledger(advisor)
        return self._versions(ledger, ledger.snapshot())

    def get(self, advisor: str, version: str) -> AdapterVersion:
        """One version.

        Raises:
            UnknownVersion: when there is none of that name.
        """
        ledger = self._ledger(advisor)
        return self._fetched(ledger, self._get(ledger, ledger.snapshot(), version))

    def current(self, advisor: str) -> str | None:
        """Name of the champion as writers see it, also when promoted.json is damaged; None is the base alone."""
        return self._ledger(advisor).snapshot().champion

    def reference(self, advisor: str) -> ChampionReference:
        """The champion as writers see it, with the hash of its manifest, for `Registry.promote(expected=...)`."""
        return self._ledger(advisor).snapshot().reference

    def version_at(self, advisor: str, folder: Path) -> AdapterVersion | None:
        """The registered version whose folder this is; None when it is no version's."""
        inside = folder.resolve().parent == (self.root / advisor).resolve()
        if not inside or not VERSION_NAME.fullmatch(folder.name):
            return None
        ledger = self._ledger(advisor)
        return self._read(ledger, ledger.snapshot(), folder.name)

    def champion(self, advisor: str) -> AdapterVersion | None:
        """The version that serves; None when nothing was promoted and the base answers alone.

        Files are looked at but not hashed; `verify` does that.

        Raises:
            BadAdapter: when the pointer is damaged, or what it names is not complete or was edited.
        """
        ledger = self._ledger(advisor)
        snapshot = ledger.snapshot()
        if snapshot.pointer_error is not None:
            raise snapshot.pointer_error
        if snapshot.champion is None:
            return None
        version = self._read(ledger, snapshot, snapshot.champion)
        if version is None or version.state != "champion":
            raise BadAdapter(
                f"The champion of '{advisor}', {snapshot.champion}, is damaged or was edited.",
                f"`mondrian adapters verify --advisor {advisor}` says what is wrong; `... rollback` goes back.",
            )
        return self._fetched(ledger, version)

    def history(self, advisor: str) -> tuple[HistoryEntry, ...]:
        """What happened, oldest first."""
        return self._ledger(advisor).snapshot().chain.entries

    def verify(self, advisor: str, version: str) -> tuple[str, ...]:
        """Hash every file anew and read the arrays; () is sound. Writes nothing: `quarantine` does.

        Files in an object store are fetched anew: what the cache has says nothing about the store.
        """
        ledger = self._ledger(advisor)
        snapshot = ledger.snapshot()
        return self._problems(ledger, snapshot, self._get(ledger, snapshot, version), anew=True)

    def check(self, advisor: str) -> tuple[str, ...]:
        """What is wrong with the books: changed history lines, a damaged pointer, versions that went missing."""
        ledger = self._ledger(advisor)
        snapshot = ledger.snapshot()
        found = list(snapshot.chain.problems)
        if snapshot.pointer_error is not None:
            found.append(snapshot.pointer_error.problem)
        there = {folder.name for folder in version_folders(ledger.home)}
        there |= {
            left.name.removeprefix(REMOVED_PREFIX) for left in ledger.home.glob(f"{REMOVED_PREFIX}*")
        }  # about to be told
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

    # --- what both sides stand on -------------------------------------------------------------------------------------

    def _ledger(self, advisor: str) -> AdvisorStore:
        home = self.root / validate_advisor_id(advisor)
        if self.url is None:
            return AdvisorStore(home, advisor, self._clock, self._listen)
        return RemoteAdvisorStore(home, advisor, self._clock, self._listen, open_object_store(self.url))

    def _fetched(self, ledger: AdvisorStore, version: AdapterVersion) -> AdapterVersion:
        """The version with its files in its folder."""
        if version.managed and version.state != "quarantined":
            ledger.fetch(version.path, version.manifest)
        return version

    def _versions(self, ledger: AdvisorStore, snapshot: RegistrySnapshot) -> list[AdapterVersion]:
        found = [self._read(ledger, snapshot, folder.name) for folder in version_folders(ledger.home)]
        older = [legacy_version(ledger.advisor, name, folder) for name, folder in legacy_folders(ledger.home)]
        return [version for version in found if version is not None] + older

    def _get(self, ledger: AdvisorStore, snapshot: RegistrySnapshot, name: str) -> AdapterVersion:
        if VERSION_NAME.fullmatch(name):
            version = self._read(ledger, snapshot, name)
            if version is not None:
                return version
        for older, folder in legacy_folders(ledger.home):
            if older == name:
                return legacy_version(ledger.advisor, name, folder)
        known = ", ".join(version.version for version in self._versions(ledger, snapshot)) or "none yet"
        half = VERSION_NAME.fullmatch(name) and (ledger.home / name).is_dir()
        raise UnknownVersion(
            f"'{ledger.advisor}' has no version '{name}'"
            + (" yet: its folder is only half copied." if half else f" (known: {known})."),
            "Copy it again, with its manifest.json." if half else "List them with `mondrian adapters list`.",
        )

    def _read(self, ledger: AdvisorStore, snapshot: RegistrySnapshot, name: str) -> AdapterVersion | None:
        """The version of a folder; None when it is half-copied. One that is complete no more is quarantined."""
        folder = ledger.home / name
        known = snapshot.history_state.states.get(name)
        try:
            data = (folder / MANIFEST).read_bytes()
        except OSError:
            data = b""
        manifest = parse_manifest(data, ledger.advisor, name)
        if manifest is None or not ledger.is_complete(folder, manifest):
            if known is None or not folder.is_dir():
                return None
            return AdapterVersion(
                advisor=ledger.advisor,
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
        return AdapterVersion(
            advisor=ledger.advisor,
            version=name,
            path=folder,
            manifest=manifest,
            state=state,
            manifest_sha256=digest,
            evaluation=snapshot.history_state.evaluations.get(name),
        )

    def _problems(
        self, ledger: AdvisorStore, snapshot: RegistrySnapshot, version: AdapterVersion, *, anew: bool = False
    ) -> tuple[str, ...]:
        try:
            if version.managed:
                ledger.fetch(version.path, version.manifest, anew=anew)
        except BadAdapter as error:
            return (error.problem,)
        return validation.version_problems(version, snapshot.history_state.manifests.get(version.version))
