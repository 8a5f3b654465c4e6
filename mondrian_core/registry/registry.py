"""Registry: the writing methods that decide about versions: promote, roll back, quarantine, reject, record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mondrian_core.errors import (
    AlreadyChampion,
    BadAdapter,
    BadInput,
    ChampionChanged,
    DiskFull,
    GateFailed,
    NothingToDo,
)
from mondrian_core.events import StageNotice
from mondrian_core.gate_strictness import loosened_text
from mondrian_core.registry import validation
from mondrian_core.registry.advisor_store import AdvisorStore, RegistrySnapshot, initial_version_state
from mondrian_core.registry.evaluations import RecordedEvaluation
from mondrian_core.registry.history import HistoryEntry
from mondrian_core.registry.look_ledger import LookLedger
from mondrian_core.registry.registration import RUN_KEY, VersionRegistration
from mondrian_core.registry.retry_on_conflict import retry_on_conflict
from mondrian_core.registry.version import AdapterVersion, ChampionReference

HistoryCheck = Callable[[Sequence[HistoryEntry]], None]
OBJECTIONS = "objections"  # key in the details of a promotion: what spoke against it and a person overrode


class Registry(VersionRegistration, LookLedger):
    """The registry with its writing methods.

    Writers of one advisor take turns; each passes the champion that it knows as `expected` (compare and swap). `actor`
    is "person:<login>" or "flow:<run name>", `reason` a sentence; both go into the history.
    """

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
            run: the run's name; a repeated call for it changes nothing, whoever is champion by then.

        Raises:
            ChampionChanged: another writer was first; nothing has changed.
            GateFailed: its gates failed and it is not `forced` with a reason.
            BadAdapter: it is damaged, and in quarantine now.
            AlreadyChampion: it is the champion already.
        """
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            if run is not None and _promotion_entry(snapshot.chain.entries, version, run) is not None:
                return self._get(store, snapshot, version)
            _require_champion(snapshot, advisor, expected)
            chosen = self._get(store, snapshot, version)
            if chosen.version == snapshot.champion and snapshot.pointer_error is None:
                raise AlreadyChampion(f"{version} is the champion of '{advisor}' already.", "Nothing was changed.")
            _require_promotable(chosen, forced, reason)
            self._require_sound(store, snapshot, chosen, problems, actor)
            facts = {"actor": actor, "reason": reason, "forced": forced, "verdicts": dict(verdicts or chosen.verdicts)}
            facts["detail"] = {**(detail or {}), **({} if run is None else {RUN_KEY: run})}
            entry = store.move(snapshot, "promote", version, chosen.manifest_sha256, version=version, **facts)
            return self._get(store, RegistrySnapshot(snapshot.chain.with_entry(entry), None), version)

    def _require_sound(
        self,
        store: AdvisorStore,
        snapshot: RegistrySnapshot,
        version: AdapterVersion,
        problems: Sequence[str],
        actor: str,
    ) -> None:
        """Hash a version's files; one that is damaged, or has `problems`, is quarantined.

        Raises:
            BadAdapter: it is damaged, and in quarantine now.
        """
        if found := (*self._problems(store, snapshot, version), *problems):
            self._quarantine(store, snapshot, version.version, actor, "; ".join(found))
            raise BadAdapter(
                f"{version.version} of '{version.advisor}' is damaged: {'; '.join(found)}.", "It is in quarantine now."
            )

    def promotion_by(self, advisor: str, version: str, run: str) -> HistoryEntry | None:
        """The history entry of the promotion of `version` by a run; None when the run has not promoted it."""
        return _promotion_entry(self.history(advisor), version, run)

    @retry_on_conflict
    def rollback(
        self,
        advisor: str,
        *,
        actor: str,
        reason: str,
        expected: str | None = None,
        detail: Mapping[str, Any] | None = None,
        require: HistoryCheck | None = None,
    ) -> AdapterVersion | None:
        """Return to the most recent earlier champion whose files are intact; None is the base alone.

        Args:
            advisor: whose champion.
            actor: who rolls back.
            reason: for the history.
            expected: roll back only if this is the champion, such as the version whose failures were counted.
            detail: for the history, such as the rollout that ends here.
            require: called with the history under the lock; what it raises stops the rollback.

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
            if require is not None:
                require(snapshot.chain.entries)
            snapshot, target = self._fallback(store, snapshot, leaving)
            entry = store.move(
                snapshot,
                "rollback",
                target.version if target else None,
                target.manifest_sha256 if target else "",
                version=leaving,
                actor=actor,
                reason=reason,
                detail=detail or {},
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
        """Record a later evaluation; a candidate may become rejected, or a rejected version a candidate.

        A version that a person rejected stays rejected, and so does one with a FAIL that no later evaluation answers
        (`RecordedEvaluation.answers`). A repeated report of one run is recorded once.

        Args:
            advisor: whose version.
            version: name of the version.
            report: {"verdict", "gates", "compared_with", ...}; every key is kept. "compared_with" is as in
                `ChampionReference.as_dict`, and `registry.evaluations` names other keys that are read.
            actor: who evaluated it.
        """
        kept = json.loads(json.dumps(report))
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            chosen = self._get(store, snapshot, version)
            earlier = chosen.evaluations if kept.get(RUN_KEY) else chosen.evaluations[-1:]
            if any(evaluation.report == kept for evaluation in earlier):
                return chosen
            made = RecordedEvaluation(kept, serial=snapshot.chain.next_serial)
            detail: dict[str, Any] = {"report": kept}
            if chosen.state in ("candidate", "rejected"):
                refused = replace(chosen, recorded=(*chosen.recorded, made)).unanswered_failures
                detail["state"] = "rejected" if refused else "candidate"
            snapshot = store.append_event(
                snapshot,
                "evaluate",
                version=version,
                actor=actor,
                reason=_evaluation_reason(made),
                verdicts=made.verdicts,
                detail=detail,
            )
            return self._get(store, snapshot, version)

    @retry_on_conflict
    def record_rollout(
        self,
        advisor: str,
        version: str,
        *,
        actor: str,
        reason: str,
        detail: Mapping[str, Any],
        require: HistoryCheck,
    ) -> None:
        """Record that another share of the traffic goes to `version`.

        Args:
            advisor: whose rollout.
            version: the version under rollout.
            actor: who changed the share.
            reason: for the history.
            detail: for the history: the rollout's new state.
            require: called with the history under the lock; what it raises stops the change.
        """
        store = self._store_of(advisor)
        with store.writing() as snapshot:
            require(snapshot.chain.entries)
            store.append_event(snapshot, "rollout", version=version, actor=actor, reason=reason, detail=detail)

    # --- steps of the writers -----------------------------------------------------------------------------------------

    def _fallback(
        self, store: AdvisorStore, snapshot: RegistrySnapshot, leaving: str
    ) -> tuple[RegistrySnapshot, AdapterVersion | None]:
        """The most recent earlier champion that is intact; damaged ones are quarantined on the way."""
        for version in self._earlier_champions(store, snapshot, leaving):
            if version is None:
                return snapshot, None
            # Its arrays were checked when it was promoted; equal hashes mean equal arrays.
            found = self._changed_files(store, snapshot, version)
            if not found:
                return snapshot, version
            try:
                snapshot = store.append_event(
                    snapshot, "quarantine", version=version.version, actor="registry", reason="; ".join(found)
                )
            except DiskFull as error:  # the rollback matters more than the entry
                self._listen(
                    StageNotice("registry", f"{version.version} is damaged, which could not be recorded. {error}")
                )
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


def _evaluation_reason(evaluation: RecordedEvaluation) -> str:
    """The reason in the history: the verdict, the loosened gates, and which look of the year it was."""
    look = (evaluation.report.get("look") or {}).get("number")
    parts = [f"gates: {evaluation.verdict}", loosened_text(evaluation.loosened), "" if look is None else f"look {look}"]
    return ", ".join(filter(None, parts))


def _promotion_entry(entries: Sequence[HistoryEntry], version: str, run: str) -> HistoryEntry | None:
    found = (entry for entry in entries if entry.event == "promote" and entry.version == version)
    return next((entry for entry in found if entry.detail.get(RUN_KEY) == run), None)


def _require_promotable(version: AdapterVersion, forced: bool, reason: str) -> None:
    """The rules for every caller; `promotion.check_manual_promotion` adds those for manual promotions."""
    if not version.managed:
        raise BadInput(
            f"'{version.version}' has an older layout and no manifest.",
            f"Import it first: `mondrian adapters import --advisor {version.advisor} {version.path}`.",
        )
    if version.state == "quarantined":
        raise BadAdapter(
            f"{version.version} is in quarantine.", "`mondrian adapters verify` says what is wrong with it."
        )
    if (version.state == "rejected" or version.unanswered_failures) and not forced:
        raise GateFailed(
            f"The gates refused {version.version} of '{version.advisor}'.",
            'To promote it anyway, add --force --reason "..."; the reason goes into the history.',
        )
    if forced and not reason.strip():
        raise BadInput("A forced promotion needs a reason.", 'Add --reason "..."; it goes into the history.')
