"""VersionRegistration: the writing methods that add and remove versions: register, import, export, prune."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter, BadInput, MondrianError
from mondrian_core.events import StageNotice
from mondrian_core.files import sync_folder
from mondrian_core.registry import history, looks, retention, version_writer
from mondrian_core.registry.advisor_store import INCOMING_PREFIX, REMOVED_PREFIX, AdvisorStore, RegistrySnapshot
from mondrian_core.registry.import_export import archive, imports
from mondrian_core.registry.import_export.conversion import ScaleConvention
from mondrian_core.registry.reader import RegistryReader
from mondrian_core.registry.retry_on_conflict import retry_on_conflict
from mondrian_core.registry.version import (
    MANIFEST,
    VERSION_NAME,
    AdapterVersion,
    VersionState,
    adapter_content_digest,
    version_folders,
    version_name,
)

RUN_KEY = "run"  # key in a manifest and in the history's details: the run that did it


class VersionRegistration(RegistryReader):
    """The registry with the methods that add and remove versions; none of them changes the champion."""

    @retry_on_conflict
    def register(  # noqa: PLR0913  (each keyword is part of the version's record)
        self,
        advisor: str,
        folder: Path,
        manifest: Mapping[str, Any],
        state: VersionState = "candidate",
        *,
        actor: str = "person",
        reason: str = "",
        attachments: Sequence[Path] = (),
        run: str | None = None,
    ) -> AdapterVersion:
        """Copy an adapter's files and reports to the next free version, completely or not at all.

        Args:
            advisor: whose adapter.
            folder: the adapter.
            manifest: provenance to record.
            state: "candidate" or "rejected".
            actor: who registers it.
            reason: for the history.
            attachments: report files to store with the adapter.
            run: the run's name; a repeated call for it, also after a crash, returns the version that exists. So does a
                call by another run whose training gave the same weights and configuration.

        Raises:
            BadAdapter: no weights, or files that are not allowed in a version.
            DiskFull: nothing is left behind.
        """
        if state not in ("candidate", "rejected"):
            raise BadInput(f"A version can't be registered as {state}.", "Register it as candidate or rejected.")
        files = version_writer.collect_version_files(Path(folder), attachments)
        store = self._store_of(advisor)
        with store.writing(create=True) as snapshot:
            if run is not None and (known := self._registered_by(store, snapshot, run, files)) is not None:
                return known
            name = version_name(self._next_number(store, snapshot))
            by_run = {} if run is None else {RUN_KEY: run}
            digest = self._write_version(store, name, files, {**manifest, **by_run, "registered_as": state})
            content = adapter_content_digest(version_writer.stored_content(files, store.home))
            try:
                sync_folder(store.home)
                snapshot = store.append_event(
                    snapshot,
                    "register",
                    version=name,
                    actor=actor,
                    reason=reason,
                    detail={"state": state, "manifest_sha256": digest, "content": content, **by_run},
                )
            except (OSError, MondrianError):
                store.discard_version(store.home / name)
                raise
            return self._get(store, snapshot, name)

    def _write_version(
        self, store: AdvisorStore, name: str, files: Mapping[str, Path], manifest: Mapping[str, Any]
    ) -> str:
        """Write the folder of a new version in one step; gives the SHA-256 of its manifest."""
        incoming = store.home / f"{INCOMING_PREFIX}{secrets.token_hex(4)}"
        made = self._clock().astimezone(UTC).isoformat(timespec="seconds")
        facts = {"advisor": store.advisor, "version": name, "created_at": made}
        try:
            version_writer.write_version(incoming, files, {**manifest, **facts})
            digest = history.sha256_hex((incoming / MANIFEST).read_bytes())
            incoming.rename(store.home / name)
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise
        return digest

    def export(self, advisor: str, version: str, out: Path) -> Path:
        """Export a verified version to `out`, a file, or a folder for `<advisor>-<version>.tar`.

        Raises:
            BadAdapter: it is damaged, or belongs to an older layout.
        """
        chosen = self.get(advisor, version)
        if not chosen.managed:
            raise BadInput(f"{version} has an older layout.", f"Copy {chosen.path}, or import it first.")
        if found := self.verify(advisor, version):
            raise BadAdapter(f"{version} of '{advisor}' is damaged: {'; '.join(found)}.", "It was not exported.")
        return archive.pack_version(chosen, Path(out))

    def import_from(
        self, advisor: str, source: Path, *, actor: str, reason: str = "", scale: ScaleConvention | None = None
    ) -> AdapterVersion:
        """Import an adapter's folder (also of an older layout, or PEFT's) or an archive as a new candidate.

        The provenance in its manifest is kept; gate results from elsewhere don't count and stay under "imported_from".

        Args:
            advisor: whose adapter it becomes.
            source: folder, archive, or the older project's `model_config.json`, for the adapter it names as active.
            actor: who imports it.
            reason: for the history.
            scale: for the older flat layout: the scale its trainer used; None: the folder is imported unchanged.

        Raises:
            BadAdapter: damaged, more than a LoRA, or not an adapter.
            BadInput: `scale` for a layout that states its scale.
            NothingToDo: that configuration was imported before.
        """
        with imports.prepare_import(Path(source), self.versions(advisor), scale) as made:
            copy = self.version_with_content(advisor, made.folder)
            why = f"{reason or made.reason}. {made.notice}".strip(". ") if made.notice else reason or made.reason
            version = self.register(advisor, made.folder, made.manifest, actor=actor, reason=why)
        if made.notice:
            self._listen(StageNotice("registry", f"{version.version}: {made.notice}"))
        if copy is not None:
            text = (
                f"{version.version} has the weights of {copy.version} ({copy.state}); a FAIL of either counts for both."
            )
            self._listen(StageNotice("registry", text))
        return version

    @retry_on_conflict
    def prune(self, advisor: str, *, keep: int, actor: str, force: bool = False, dry_run: bool = False) -> list[str]:
        """Delete the versions that `retention.removable_versions` names; gives their names."""
        store = self._store_of(advisor)
        if dry_run:
            return list(self._removable(store, store.snapshot(), keep, force))
        with store.writing() as snapshot:
            names = self._removable(store, snapshot, keep, force)
            for name in names:
                hidden = store.home / f"{REMOVED_PREFIX}{name}"
                (store.home / name).rename(hidden)
                sync_folder(store.home)
                snapshot = store.append_event(
                    snapshot, "remove", version=name, actor=actor, reason=f"retention keeps {keep}", forced=force
                )
                shutil.rmtree(hidden)
        return list(names)

    def _removable(self, store: AdvisorStore, snapshot: RegistrySnapshot, keep: int, force: bool) -> tuple[str, ...]:
        best = looks.best_champions(snapshot.chain.entries)
        versions = self._versions(store, snapshot)
        return retention.removable_versions(versions, snapshot.history_state, keep, best=best, force=force)

    # --- steps of the writers -----------------------------------------------------------------------------------------

    def _registered_by(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, run: str, files: Mapping[str, Path]
    ) -> AdapterVersion | None:
        """The version that a run registered, or else the one that has its weights and configuration already.

        By the history, or by its manifest when a process died in between.
        """
        for entry in snapshot.chain.entries:
            if entry.event == "register" and entry.version and entry.detail.get(RUN_KEY) == run:
                return self._get(store, snapshot, entry.version)
        made_here = (each for each in self._versions(store, snapshot) if "imported_from" not in each.manifest)
        of_run = next((each for each in made_here if each.managed and each.manifest.get(RUN_KEY) == run), None)
        return of_run or self._known_content(store, snapshot, version_writer.stored_content(files, store.home))

    def _next_number(self, store: AdvisorStore, snapshot: RegistrySnapshot) -> int:
        used = [folder.name for folder in version_folders(store.home)]
        used += [entry.version for entry in snapshot.chain.entries if entry.version]
        return max((int(name[1:]) for name in used if VERSION_NAME.fullmatch(name)), default=0) + 1
