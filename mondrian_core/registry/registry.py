"""The registry of adapters: immutable versions, one champion per advisor, a history that can't be rewritten unseen."""

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

RUN_KEY = "run"  # in a manifest and in the history's details: which run did it


class Registry(RegistryReader):
    """The registry with its writing side.

    Writers of one advisor take turns; each names the champion it knows of as `expected` (compare and swap). `actor` is
    "person:<login>" or "flow:<run name>".
    """

    @retry_on_conflict
    def register(
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
        """Copy an adapter's files, and reports beside them, to the next free version; all of it or nothing.

        With `run` this happens once for each run of that name: called again, also after the process died anywhere in
        here, it gives the version that the run has registered.

        Raises:
            BadAdapter: no weights, or files that may not come in.
            DiskFull: nothing is left behind.
        """
        if state not in ("candidate", "rejected"):
            raise BadInput(f"A version can't begin as {state}.", "Register it as candidate or rejected.")
        files = version_writer.collect_version_files(Path(folder), attachments)
        ledger = self._ledger(advisor)
        with ledger.writing(create=True) as snapshot:
            if run is not None and (known := self._registered_by(ledger, snapshot, run)) is not None:
                return known
            name = version_name(self._next_number(ledger, snapshot))
            incoming = ledger.home / f"{INCOMING_PREFIX}{secrets.token_hex(4)}"
            made = self._clock().astimezone(UTC).isoformat(timespec="seconds")
            facts = {"advisor": advisor, "version": name, "created_at": made, "registered_as": state}
            by_run = {} if run is None else {RUN_KEY: run}
            try:
                version_writer.write_version(incoming, files, {**manifest, **by_run, **facts})
                digest = history.sha256_hex((incoming / MANIFEST).read_bytes())
                incoming.rename(ledger.home / name)
            except BaseException:
                shutil.rmtree(incoming, ignore_errors=True)
                raise
            try:
                sync_folder(ledger.home)
                snapshot = ledger.append_event(
                    snapshot,
                    "register",
                    version=name,
                    actor=actor,
                    reason=reason,
                    detail={"state": state, "manifest_sha256": digest, **by_run},
                )
            except (OSError, MondrianError):
                ledger.discard_version(ledger.home / name)
                raise
            return self._get(ledger, snapshot, name)

    @retry_on_conflict
    def promote(
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
        beside: Mapping[str, Mapping[str, Any]] | None = None,
        run: str | None = None,
    ) -> AdapterVersion:
        """Make `version` the champion, if the champion still is `expected` (None: the base alone).

        It is hashed anew first; `problems` is what the models room found against the base. `detail` goes into the
        history, such as the rollout that the promotion begins; `beside` are JSON files by name that belong to it and
        are written just before the pointer moves, under the same lock. With `run` it happens once for each run of that
        name: called again it changes nothing, whoever is champion by then.

        Raises:
            ChampionChanged: somebody else was first; nothing has changed.
            GateFailed: its gates failed and it is not `forced` with a reason.
            BadAdapter: it is damaged; it is in quarantine now.
            NothingToDo: it is the champion already.
        """
        if beside:
            self.require_rollout_support()
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            if run is not None and _promotion_entry(snapshot.chain.entries, version, run) is not None:
                return self._get(ledger, snapshot, version)
            _require_champion(snapshot, advisor, expected)
            chosen = self._get(ledger, snapshot, version)
            if chosen.version == snapshot.champion and snapshot.pointer_error is None:
                raise NothingToDo(f"{version} is the champion of '{advisor}' already.", "Nothing was changed.")
            _require_promotable(chosen, forced, reason)
            if found := (*self._problems(ledger, snapshot, chosen), *problems):
                self._quarantine(ledger, snapshot, chosen.version, actor, "; ".join(found))
                raise BadAdapter(
                    f"{version} of '{advisor}' is damaged: {'; '.join(found)}.", "It is in quarantine now."
                )
            for name, values in (beside or {}).items():
                write_json(ledger.home / name, values)
            entry = ledger.move(
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
            return self._get(ledger, RegistrySnapshot(snapshot.chain.with_entry(entry), None), version)

    def promotion_by(self, advisor: str, version: str, run: str) -> HistoryEntry | None:
        """The line of the promotion of `version` by the run of that name; None when it hasn't promoted it."""
        return _promotion_entry(self.history(advisor), version, run)

    def require_rollout_support(self) -> None:
        """Refuse an object store, where nobody would look at a rollout every few minutes.

        Raises:
            BadInput: the root is no folder.
        """
        if self.url is not None:
            raise BadInput(
                f"A registry at {self.url} can't hold a rollout, which belongs to one service.",
                "Promote without one, or keep the registry in a folder.",
            )

    @retry_on_conflict
    def rollback(self, advisor: str, *, actor: str, reason: str, expected: str | None = None) -> AdapterVersion | None:
        """Back to the champion before this one that is still sound; None is the base alone.

        Args:
            expected: go back only if this is the champion, such as the version whose failures were counted.

        Raises:
            NothingToDo: nothing is promoted.
            ChampionChanged: the champion is not `expected`.
        """
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            leaving = snapshot.champion
            if expected is not None and leaving != expected:
                raise ChampionChanged(advisor, expected, leaving)
            if leaving is None:
                raise NothingToDo(f"Nothing is promoted for '{advisor}'.", "The base alone answers already.")
            snapshot, target = self._fallback(ledger, snapshot, leaving)
            entry = ledger.move(
                snapshot,
                "rollback",
                target.version if target else None,
                target.manifest_sha256 if target else "",
                version=leaving,
                actor=actor,
                reason=reason,
            )
            after = RegistrySnapshot(snapshot.chain.with_entry(entry), None)
            return self._get(ledger, after, target.version) if target else None

    @retry_on_conflict
    def quarantine(self, advisor: str, version: str, *, actor: str, reason: str) -> AdapterVersion | None:
        """Never serve `version` again. When it is the champion, the pointer goes back. Gives the new champion."""
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            if self._get(ledger, snapshot, version).managed:  # nothing serves what an older layout left
                snapshot = self._quarantine(ledger, snapshot, version, actor, reason)
            return self._get(ledger, snapshot, snapshot.champion) if snapshot.champion else None

    @retry_on_conflict
    def release(self, advisor: str, version: str, *, actor: str, reason: str) -> AdapterVersion:
        """Take a version that is sound again out of quarantine.

        Raises:
            BadAdapter: when it still is not.
        """
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            chosen = self._get(ledger, snapshot, version)
            if chosen.state != "quarantined":
                raise NothingToDo(f"{version} of '{advisor}' is not in quarantine but {chosen.state}.")
            if found := self._problems(ledger, snapshot, chosen):
                raise BadAdapter(f"{version} of '{advisor}' is damaged: {'; '.join(found)}.", "Copy its files anew.")
            state = initial_version_state(chosen.manifest)
            snapshot = ledger.append_event(
                snapshot, "release", version=version, actor=actor, reason=reason, detail={"state": state}
            )
            return self._get(ledger, snapshot, version)

    @retry_on_conflict
    def reject(self, advisor: str, version: str, *, actor: str, reason: str) -> AdapterVersion:
        """Refuse a candidate by hand."""
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            chosen = self._get(ledger, snapshot, version)
            if chosen.state not in ("candidate", "retired"):
                raise BadInput(f"{version} of '{advisor}' is {chosen.state}.", "Only a candidate can be rejected.")
            snapshot = ledger.append_event(snapshot, "reject", version=version, actor=actor, reason=reason)
            return self._get(ledger, snapshot, version)

    @retry_on_conflict
    def record_evaluation(self, advisor: str, version: str, report: Mapping[str, Any], *, actor: str) -> AdapterVersion:
        """Write down the gates of a later evaluation; a candidate becomes rejected, or a rejected one a candidate.

        One that a person rejected stays so. The report that is the newest already is not written again.

        Args:
            report: {"verdict", "gates", "compared_with"}, the last one as `ChampionReference.as_dict` gives it.
        """
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            chosen = self._get(ledger, snapshot, version)
            kept = {
                "verdict": report["verdict"],
                "gates": list(report["gates"]),
                **({COMPARED_WITH: report[COMPARED_WITH]} if COMPARED_WITH in report else {}),
            }
            if chosen.evaluation == kept:
                return chosen
            detail: dict[str, Any] = {"report": kept}
            by_hand = any(entry.event == "reject" and entry.version == version for entry in snapshot.chain.entries)
            if chosen.state == "candidate" or (chosen.state == "rejected" and not by_hand):
                detail["state"] = "rejected" if report["verdict"] == "FAIL" else "candidate"
            verdicts = {gate["name"]: gate["verdict"] for gate in report["gates"]}
            snapshot = ledger.append_event(
                snapshot,
                "evaluate",
                version=version,
                actor=actor,
                reason=f"gates: {kept['verdict']}",
                verdicts=verdicts,
                detail=detail,
            )
            return self._get(ledger, snapshot, version)

    @retry_on_conflict
    def record_rollout(self, advisor: str, version: str, *, actor: str, reason: str, detail: Mapping[str, Any]) -> None:
        """Write down that another share of the traffic goes to `version`."""
        ledger = self._ledger(advisor)
        with ledger.writing() as snapshot:
            ledger.append_event(snapshot, "rollout", version=version, actor=actor, reason=reason, detail=detail)

    @contextmanager
    def locked(self, advisor: str) -> Iterator[None]:
        """Hold the advisor's lock, for what lies beside the pointer. No writer of this class may be called inside."""
        with self._ledger(advisor).writing():
            yield

    def export(self, advisor: str, version: str, out: Path) -> Path:
        """Pack a sound version into `out`, a file or a folder to put `<advisor>-<version>.tar` in.

        Raises:
            BadAdapter: it is damaged, or belongs to an older layout.
        """
        chosen = self.get(advisor, version)
        if not chosen.managed:
            raise BadInput(f"{version} is of an older layout.", f"Copy {chosen.path}, or import it first.")
        if found := self.verify(advisor, version):
            raise BadAdapter(f"{version} of '{advisor}' is damaged: {'; '.join(found)}.", "It was not exported.")
        return archive.pack_version(chosen, Path(out))

    def import_from(
        self, advisor: str, source: Path, *, actor: str, reason: str = "", scale: ScaleConvention | None = None
    ) -> AdapterVersion:
        """Take in a folder (also of an older layout, or PEFT's) or an archive as a new candidate.

        What its manifest says of its making is kept; gates passed elsewhere are not, they stay under "imported_from".
        PEFT's layout becomes mlx-vlm's. One of the older flat layout stays as it is, unless `scale` says what its
        trainer meant. The older project's `model_config.json` as source means the adapter it names as active, once.

        Raises:
            BadAdapter: damaged, more than a LoRA, or no adapter at all.
            BadInput: `scale` for a layout that leaves no doubt.
            NothingToDo: that configuration was taken over before.
        """
        with imports.prepare_import(Path(source), self.versions(advisor), scale) as made:
            why = f"{reason or made.reason}. {made.notice}".strip(". ") if made.notice else reason or made.reason
            version = self.register(advisor, made.folder, made.manifest, actor=actor, reason=why)
        if made.notice:
            self._listen(StageNotice("registry", f"{version.version}: {made.notice}"))
        return version

    @retry_on_conflict
    def prune(self, advisor: str, *, keep: int, actor: str, force: bool = False, dry_run: bool = False) -> list[str]:
        """Delete what retention lets go (see `retention.removable`); gives the names."""
        ledger = self._ledger(advisor)
        if dry_run:
            snapshot = ledger.snapshot()
            return list(
                retention.removable_versions(
                    self._versions(ledger, snapshot), snapshot.history_state, keep, force=force
                )
            )
        with ledger.writing() as snapshot:
            names = retention.removable_versions(
                self._versions(ledger, snapshot), snapshot.history_state, keep, force=force
            )
            for name in names:
                hidden = ledger.home / f"{REMOVED_PREFIX}{name}"
                (ledger.home / name).rename(hidden)
                sync_folder(ledger.home)
                snapshot = ledger.append_event(
                    snapshot, "remove", version=name, actor=actor, reason=f"retention keeps {keep}", forced=force
                )
                shutil.rmtree(hidden)
        return list(names)

    # --- steps of the writers -----------------------------------------------------------------------------------------

    def _registered_by(self, ledger: AdvisorStore, snapshot: RegistrySnapshot, run: str) -> AdapterVersion | None:
        """The version that a run has registered: by the history, or by its manifest where a process died between."""
        for entry in snapshot.chain.entries:
            if entry.event == "register" and entry.version and entry.detail.get(RUN_KEY) == run:
                return self._get(ledger, snapshot, entry.version)
        made_here = (each for each in self._versions(ledger, snapshot) if "imported_from" not in each.manifest)
        return next((each for each in made_here if each.managed and each.manifest.get(RUN_KEY) == run), None)

    def _next_number(self, ledger: AdvisorStore, snapshot: RegistrySnapshot) -> int:
        used = [folder.name for folder in version_folders(ledger.home)]
        used += [entry.version for entry in snapshot.chain.entries if entry.version]
        return max((int(name[1:]) for name in used if VERSION_NAME.fullmatch(name)), default=0) + 1

    def _fallback(
        self, ledger: AdvisorStore, snapshot: RegistrySnapshot, leaving: str
    ) -> tuple[RegistrySnapshot, AdapterVersion | None]:
        """The newest earlier champion that is sound; those that are not go into quarantine on the way."""
        for name in reversed(snapshot.history_state.champions[:-1]):
            if name is None:
                return snapshot, None
            version = self._read(ledger, snapshot, name) if name != leaving else None
            if version is None or version.state == "quarantined":
                continue
            # Its arrays were read when it was promoted; the same bytes hold the same arrays.
            found = self._changed_files(ledger, snapshot, version)
            if not found:
                return snapshot, version
            try:
                snapshot = ledger.append_event(
                    snapshot, "quarantine", version=name, actor="registry", reason="; ".join(found)
                )
            except DiskFull as error:  # going back matters more than the note
                self._listen(StageNotice("registry", f"{name} is damaged, which could not be written down. {error}"))
        return snapshot, None

    def _changed_files(
        self, ledger: AdvisorStore, snapshot: RegistrySnapshot, version: AdapterVersion
    ) -> tuple[str, ...]:
        try:
            ledger.fetch(version.path, version.manifest)
        except BadAdapter as error:
            return (error.problem,)
        return validation.file_problems(version, snapshot.history_state.manifests.get(version.version))

    def _quarantine(
        self, ledger: AdvisorStore, snapshot: RegistrySnapshot, name: str, actor: str, reason: str
    ) -> RegistrySnapshot:
        if name != snapshot.champion:
            return ledger.append_event(snapshot, "quarantine", version=name, actor=actor, reason=reason)
        snapshot, target = self._fallback(ledger, snapshot, name)
        entry = ledger.move(
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
    """Refuse when the champion is another than the caller knows of; a name alone stands for any manifest."""
    wanted = expected if isinstance(expected, ChampionReference) else ChampionReference(expected)
    if not snapshot.reference.matches(wanted):
        raise ChampionChanged(advisor, wanted.version, snapshot.champion)


def _promotion_entry(entries: Sequence[HistoryEntry], version: str, run: str) -> HistoryEntry | None:
    found = (entry for entry in entries if entry.event == "promote" and entry.version == version)
    return next((entry for entry in found if entry.detail.get(RUN_KEY) == run), None)


def _require_promotable(version: AdapterVersion, forced: bool, reason: str) -> None:
    """The rules that no caller gets around; `decision.check_promotable` adds those for promotions by hand."""
    if not version.managed:
        raise BadInput(
            f"'{version.version}' lies in an older layout and has no manifest.",
            f"Take it in first: `mondrian adapters import --advisor {version.advisor} {version.path}`.",
        )
    if version.state == "quarantined":
        raise BadAdapter(
            f"{version.version} is in quarantine.", "`mondrian adapters verify` says what is wrong with it."
        )
    if (version.state == "rejected" or version.verdict == "FAIL") and not forced:
        raise GateFailed(
            f"The gates refused {version.version} of '{version.advisor}'.",
            'To promote it all the same, add --force --reason "..."; the reason goes into the history.',
        )
    if forced and not reason.strip():
        raise BadInput("A forced promotion needs a reason.", 'Add --reason "..."; it goes into the history.')
