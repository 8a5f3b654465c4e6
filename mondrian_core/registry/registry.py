"""Registry: register, promote, roll back, quarantine, import and prune adapter versions."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter, BadInput, ChampionChanged, DiskFull, GateFailed, MondrianError, NothingToDo
from mondrian_core.events import StageNotice
from mondrian_core.files import sync_folder, write_json
from mondrian_core.registry import history, retention, validation, version_writer
from mondrian_core.registry.advisor_store import (
    INCOMING_PREFIX,
    REMOVED_PREFIX,
    AdvisorStore,
    RegistrySnapshot,
    initial_version_state,
)
from mondrian_core.registry.history import HistoryEntry
from mondrian_core.registry.import_export import archive, imports
from mondrian_core.registry.import_export.conversion import ScaleConvention
from mondrian_core.registry.reader import RegistryReader
from mondrian_core.registry.retry_on_conflict import retry_on_conflict
from mondrian_core.registry.version import (
    COMPARED_WITH,
    MANIFEST,
    VERSION_NAME,
    AdapterVersion,
    ChampionReference,
    VersionState,
    version_folders,
    version_name,
)

RUN_KEY = "run"  # key in a manifest and in the history's details: the run that did it


class Registry(RegistryReader):
    """The registry with its writing methods.

    Writers of one advisor take turns; each passes the champion that it knows as `expected` (compare and swap). `actor`
    is "person:<login>" or "flow:<run name>", `reason` a sentence; both go into the history.
    """

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
            run: the run's name; a repeated call for it, also after a crash, returns the version that exists.

        Raises:
            BadAdapter: no weights, or files that are not allowed in a version.
            DiskFull: nothing is left behind.
        """
        if state not in ("candidate", "rejected"):
            raise BadInput(f"A version can't be registered as {state}.", "Register it as candidate or rejected.")
        files = version_writer.collect_version_files(Path(folder), attachments)
        store = self._store_of(advisor)
        with store.writing(create=True) as snapshot:
            if run is not None and (known := self._registered_by(store, snapshot, run)) is not None:
                return known
            name = version_name(self._next_number(store, snapshot))
            incoming = store.home / f"{INCOMING_PREFIX}{secrets.token_hex(4)}"
            made = self._clock().astimezone(UTC).isoformat(timespec="seconds")
            facts = {"advisor": advisor, "version": name, "created_at": made, "registered_as": state}
            by_run = {} if run is None else {RUN_KEY: run}
            try:
                version_writer.write_version(incoming, files, {**manifest, **by_run, **facts})
                digest = history.sha256_hex((incoming / MANIFEST).read_bytes())
                incoming.rename(store.home / name)
            except BaseException:
                shutil.rmtree(incoming, ignore_errors=True)
                raise
            try:
                sync_folder(store.home)
                snapshot = store.append_event(
                    snapshot,
                    "register",
                    version=name,
                    actor=actor,
                    reason=reason,
                    detail={"state": state, "manifest_sha256": digest, **by_run},
                )
            except (OSError, MondrianError):
                store.discard_version(store.home / name)
                raise
            return self._get(store, snapshot, name)

    @retry_on_conflict
    def promote(  # noqa: PLR0913  (each keyword is part of the history entry)
        self,
        advisor: str,
        version: str,
        *,
        expected: ChampionReference | str | None,
        actor: str,
        reason: str,
        verdicts: Mapping[str, str] | None = None,
        forced: bool = False,
        problems: Sequence[str] = (),
        detail: Mapping[str, Any] | None = None,
        extra_files: Mapping[str, Mapping[str, Any]] | None = None,
        run: str | None = None,
    ) -> AdapterVersion:
        """Make `version` the champion, if the champion still is `expected`. Its files are hashed again first.

        Args:
            advisor: whose champion.
            version: name of the version.
            expected: the champion that it replaces; None: the base alone.
            actor: who promotes it.
            reason: for the history.
            verdicts: verdict by gate name; None: those of the version's report.
            forced: promote although its gates failed; needs a reason.
            problems: what a comparison with the base found.
            detail: for the history, such as the rollout that starts here.
            extra_files: JSON files by name, written just before the pointer moves, under the same lock.
            run: the run's name; a repeated call for it changes nothing, whoever is champion by then.

        Raises:
            ChampionChanged: another writer was first; nothing has changed.
            GateFailed: its gates failed and it is not `forced` with a reason.
            BadAdapter: it is damaged, and in quarantine now.
            NothingToDo: it is the champion already.
        """
        if extra_files:
            self.require_rollout_support()
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            if run is not None and _promotion_entry(snapshot.chain.entries, version, run) is not None:
                return self._get(store, snapshot, version)
            _require_champion(snapshot, advisor, expected)
            chosen = self._get(store, snapshot, version)
            if chosen.version == snapshot.champion and snapshot.pointer_error is None:
                raise NothingToDo(f"{version} is the champion of '{advisor}' already.", "Nothing was changed.")
            _require_promotable(chosen, forced, reason)
            if found := (*self._problems(store, snapshot, chosen), *problems):
                self._quarantine(store, snapshot, chosen.version, actor, "; ".join(found))
                raise BadAdapter(
                    f"{version} of '{advisor}' is damaged: {'; '.join(found)}.", "It is in quarantine now."
                )
            for name, values in (extra_files or {}).items():
                write_json(store.home / name, values)
            entry = store.move(
                snapshot,
                "promote",
                version,
                chosen.manifest_sha256,
                version=version,
                actor=actor,
                reason=reason,
                forced=forced,
                verdicts=dict(verdicts or chosen.verdicts),
                detail={**(detail or {}), **({} if run is None else {RUN_KEY: run})},
            )
            return self._get(store, RegistrySnapshot(snapshot.chain.with_entry(entry), None), version)

    def promotion_by(self, advisor: str, version: str, run: str) -> HistoryEntry | None:
        """The history entry of the promotion of `version` by a run; None when the run has not promoted it."""
        return _promotion_entry(self.history(advisor), version, run)

    def require_rollout_support(self) -> None:
        """Refuse an object store: a rollout's state belongs to one service and its jobs table.

        Raises:
            BadInput: the registry is not a folder.
        """
        if self.url is not None:
            raise BadInput(
                f"A registry at {self.url} can't hold a rollout, which belongs to one service.",
                "Promote without one, or keep the registry in a folder.",
            )

    @retry_on_conflict
    def rollback(self, advisor: str, *, actor: str, reason: str, expected: str | None = None) -> AdapterVersion | None:
        """Return to the most recent earlier champion whose files are intact; None is the base alone.

        Args:
            advisor: whose champion.
            actor: who rolls back.
            reason: for the history.
            expected: roll back only if this is the champion, such as the version whose failures were counted.

        Raises:
            NothingToDo: nothing is promoted.
            ChampionChanged: the champion is not `expected`.
        """
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            leaving = snapshot.champion
            if expected is not None and leaving != expected:
                raise ChampionChanged(advisor, expected, leaving)
            if leaving is None:
                raise NothingToDo(f"Nothing is promoted for '{advisor}'.", "The base alone answers already.")
            snapshot, target = self._fallback(store, snapshot, leaving)
            entry = store.move(
                snapshot,
                "rollback",
                target.version if target else None,
                target.manifest_sha256 if target else "",
                version=leaving,
                actor=actor,
                reason=reason,
            )
            after = RegistrySnapshot(snapshot.chain.with_entry(entry), None)
            return self._get(store, after, target.version) if target else None

    @retry_on_conflict
    def quarantine(self, advisor: str, version: str, *, actor: str, reason: str) -> AdapterVersion | None:
        """Quarantine a version so that it is never served; a champion is rolled back. Gives the champion afterwards."""
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            if self._get(store, snapshot, version).managed:  # versions of older layouts are never served
                snapshot = self._quarantine(store, snapshot, version, actor, reason)
            return self._get(store, snapshot, snapshot.champion) if snapshot.champion else None

    @retry_on_conflict
    def release(self, advisor: str, version: str, *, actor: str, reason: str) -> AdapterVersion:
        """Restore a quarantined version that passes verification.

        Raises:
            BadAdapter: it is still damaged.
        """
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            chosen = self._get(store, snapshot, version)
            if chosen.state != "quarantined":
                raise NothingToDo(f"{version} of '{advisor}' is not in quarantine but {chosen.state}.")
            if found := self._problems(store, snapshot, chosen):
                raise BadAdapter(f"{version} of '{advisor}' is damaged: {'; '.join(found)}.", "Copy its files again.")
            state = initial_version_state(chosen.manifest)
            snapshot = store.append_event(
                snapshot, "release", version=version, actor=actor, reason=reason, detail={"state": state}
            )
            return self._get(store, snapshot, version)

    @retry_on_conflict
    def reject(self, advisor: str, version: str, *, actor: str, reason: str) -> AdapterVersion:
        """Reject a candidate manually."""
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            chosen = self._get(store, snapshot, version)
            if chosen.state not in ("candidate", "retired"):
                raise BadInput(f"{version} of '{advisor}' is {chosen.state}.", "Only a candidate can be rejected.")
            snapshot = store.append_event(snapshot, "reject", version=version, actor=actor, reason=reason)
            return self._get(store, snapshot, version)

    @retry_on_conflict
    def record_evaluation(self, advisor: str, version: str, report: Mapping[str, Any], *, actor: str) -> AdapterVersion:
        """Record the gates of a later evaluation; a candidate may become rejected, or a rejected version a candidate.

        A version that a person rejected stays rejected. A repeated identical report is not recorded again.

        Args:
            advisor: whose version.
            version: name of the version.
            report: {"verdict", "gates", "compared_with"}, the last one as in `ChampionReference.as_dict`.
            actor: who evaluated it.
        """
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            chosen = self._get(store, snapshot, version)
            kept = {
                "verdict": report["verdict"],
                "gates": list(report["gates"]),
                **({COMPARED_WITH: report[COMPARED_WITH]} if COMPARED_WITH in report else {}),
            }
            if chosen.evaluation == kept:
                return chosen
            detail: dict[str, Any] = {"report": kept}
            rejected_manually = any(
                entry.event == "reject" and entry.version == version for entry in snapshot.chain.entries
            )
            if chosen.state == "candidate" or (chosen.state == "rejected" and not rejected_manually):
                detail["state"] = "rejected" if report["verdict"] == "FAIL" else "candidate"
            verdicts = {gate["name"]: gate["verdict"] for gate in report["gates"] if gate.get("decides", True)}
            snapshot = store.append_event(
                snapshot,
                "evaluate",
                version=version,
                actor=actor,
                reason=f"gates: {kept['verdict']}",
                verdicts=verdicts,
                detail=detail,
            )
            return self._get(store, snapshot, version)

    @retry_on_conflict
    def record_rollout(self, advisor: str, version: str, *, actor: str, reason: str, detail: Mapping[str, Any]) -> None:
        """Record that another share of the traffic goes to `version`."""
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            store.append_event(snapshot, "rollout", version=version, actor=actor, reason=reason, detail=detail)

    @contextmanager
    def locked(self, advisor: str) -> Iterator[None]:
        """Hold the advisor's lock, for files stored next to the pointer. Call no other writing method inside."""
        with self._store_of(advisor).writing():
            yield

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
            why = f"{reason or made.reason}. {made.notice}".strip(". ") if made.notice else reason or made.reason
            version = self.register(advisor, made.folder, made.manifest, actor=actor, reason=why)
        if made.notice:
            self._listen(StageNotice("registry", f"{version.version}: {made.notice}"))
        return version

    @retry_on_conflict
    def prune(self, advisor: str, *, keep: int, actor: str, force: bool = False, dry_run: bool = False) -> list[str]:
        """Delete the versions that `retention.removable_versions` names; gives their names."""
        store = self._store_of(advisor)
        if dry_run:
            snapshot = store.snapshot()
            return list(
                retention.removable_versions(self._versions(store, snapshot), snapshot.history_state, keep, force=force)
            )
        with store.writing() as snapshot:
            names = retention.removable_versions(
                self._versions(store, snapshot), snapshot.history_state, keep, force=force
            )
            for name in names:
                hidden = store.home / f"{REMOVED_PREFIX}{name}"
                (store.home / name).rename(hidden)
                sync_folder(store.home)
                snapshot = store.append_event(
                    snapshot, "remove", version=name, actor=actor, reason=f"retention keeps {keep}", forced=force
                )
                shutil.rmtree(hidden)
        return list(names)

    # --- steps of the writers -----------------------------------------------------------------------------------------

    def _registered_by(self, store: AdvisorStore, snapshot: RegistrySnapshot, run: str) -> AdapterVersion | None:
        """The version that a run registered: by the history, or by its manifest when a process died in between."""
        for entry in snapshot.chain.entries:
            if entry.event == "register" and entry.version and entry.detail.get(RUN_KEY) == run:
                return self._get(store, snapshot, entry.version)
        made_here = (each for each in self._versions(store, snapshot) if "imported_from" not in each.manifest)
        return next((each for each in made_here if each.managed and each.manifest.get(RUN_KEY) == run), None)

    def _next_number(self, store: AdvisorStore, snapshot: RegistrySnapshot) -> int:
        used = [folder.name for folder in version_folders(store.home)]
        used += [entry.version for entry in snapshot.chain.entries if entry.version]
        return max((int(name[1:]) for name in used if VERSION_NAME.fullmatch(name)), default=0) + 1

    def _fallback(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, leaving: str
    ) -> tuple[RegistrySnapshot, AdapterVersion | None]:
        """The most recent earlier champion that is intact; damaged ones are quarantined on the way."""
        for name in reversed(snapshot.history_state.champions[:-1]):
            if name is None:
                return snapshot, None
            version = self._read(store, snapshot, name) if name != leaving else None
            if version is None or version.state == "quarantined":
                continue
            # Its arrays were checked when it was promoted; equal hashes mean equal arrays.
            found = self._changed_files(store, snapshot, version)
            if not found:
                return snapshot, version
            try:
                snapshot = store.append_event(
                    snapshot, "quarantine", version=name, actor="registry", reason="; ".join(found)
                )
            except DiskFull as error:  # the rollback matters more than the entry
                self._listen(StageNotice("registry", f"{name} is damaged, which could not be recorded. {error}"))
        return snapshot, None

    def _changed_files(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, version: AdapterVersion
    ) -> tuple[str, ...]:
        try:
            store.fetch(version.path, version.manifest)
        except BadAdapter as error:
            return (error.problem,)
        return validation.file_problems(version, snapshot.history_state.manifests.get(version.version))

    def _quarantine(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, name: str, actor: str, reason: str
    ) -> RegistrySnapshot:
        if name != snapshot.champion:
            return store.append_event(snapshot, "quarantine", version=name, actor=actor, reason=reason)
        snapshot, target = self._fallback(store, snapshot, name)
        entry = store.move(
            snapshot,
            "quarantine",
            target.version if target else None,
            target.manifest_sha256 if target else "",
            version=name,
            actor=actor,
            reason=reason,
        )
        return RegistrySnapshot(snapshot.chain.with_entry(entry), None)


def _require_champion(snapshot: RegistrySnapshot, advisor: str, expected: ChampionReference | str | None) -> None:
    """Refuse when the champion is not the one that the caller knows; a name alone matches any manifest."""
    wanted = expected if isinstance(expected, ChampionReference) else ChampionReference(expected)
    if not snapshot.reference.matches(wanted):
        raise ChampionChanged(advisor, wanted.version, snapshot.champion)


def _promotion_entry(entries: Sequence[HistoryEntry], version: str, run: str) -> HistoryEntry | None:
    found = (entry for entry in entries if entry.event == "promote" and entry.version == version)
    return next((entry for entry in found if entry.detail.get(RUN_KEY) == run), None)


def _require_promotable(version: AdapterVersion, forced: bool, reason: str) -> None:
    """The rules for every caller; `promotion_decision.check_manual_promotion` adds those for manual promotions."""
    if not version.managed:
        raise BadInput(
            f"'{version.version}' has an older layout and no manifest.",
            f"Import it first: `mondrian adapters import --advisor {version.advisor} {version.path}`.",
        )
    if version.state == "quarantined":
        raise BadAdapter(
            f"{version.version} is in quarantine.", "`mondrian adapters verify` says what is wrong with it."
        )
    if (version.state == "rejected" or version.verdict == "FAIL") and not forced:
        raise GateFailed(
            f"The gates refused {version.version} of '{version.advisor}'.",
            'To promote it anyway, add --force --reason "..."; the reason goes into the history.',
        )
    if forced and not reason.strip():
        raise BadInput("A forced promotion needs a reason.", 'Add --reason "..."; it goes into the history.')
