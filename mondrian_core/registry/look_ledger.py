"""LookLedger: take a look and record what it measured, in the history of the advisor."""

from __future__ import annotations

from collections.abc import Mapping

from mondrian_core.registry import looks
from mondrian_core.registry.history import LOOK_EVENT, LOOK_RESULT_EVENT
from mondrian_core.registry.looks import EvaluationLook, LookRequest
from mondrian_core.registry.reader import RegistryReader
from mondrian_core.registry.retry_on_conflict import retry_on_conflict


class LookLedger(RegistryReader):
    """The writing methods about looks. Writers take turns, so two evaluations at once get different numbers."""

    @retry_on_conflict
    def take_look(self, advisor: str, request: LookRequest, *, actor: str) -> EvaluationLook:
        """Record that a run is about to judge an adapter; a repeated call for the run returns the look that it has.

        Raises:
            RegistryBusy: another process holds the registry's lock for too long.
            DiskFull: nothing was recorded, so nothing may be judged.
        """
        store = self._store_of(advisor)
        with store.writing(create=True) as snapshot:
            if (known := looks.look_of_run(snapshot.chain.entries, request.run, request.candidate)) is not None:
                return known
            look = looks.next_look(snapshot.chain.entries, request, self._clock())
            store.append_event(
                snapshot,
                LOOK_EVENT,
                version=request.version,
                actor=actor,
                reason=f"look {look.number}, passes at p <= {look.level:.2g}",
                detail={"look": look.as_dict()},
            )
            return look

    @retry_on_conflict
    def record_look_result(
        self,
        advisor: str,
        look: EvaluationLook,
        differences: Mapping[str, float],
        *,
        better_than_best: bool,
        actor: str,
    ) -> None:
        """Record what a look measured; the same result is not recorded twice.

        Args:
            advisor: whose adapter was judged.
            look: as `take_look` returned it.
            differences: by photograph ID, the base's error minus the candidate's, in points squared.
            better_than_best: the candidate was shown to be better than the best champion so far.
            actor: who evaluated it.
        """
        detail = looks.look_result(look, differences, better_than_best=better_than_best)
        store = self._store_of(advisor)
        with store.writing(create=True) as snapshot:
            if looks.look_results(snapshot.chain.entries).get((look.run, look.candidate)) != detail:
                store.append_event(
                    snapshot,
                    LOOK_RESULT_EVENT,
                    version=None,
                    actor=actor,
                    reason=f"look {look.number} measured {len(differences)} photographs",
                    detail=detail,
                )

    def best_champion(self, advisor: str, base_fingerprint: str) -> str | None:
        """Name of the best champion so far that was trained on this base; None when there is none."""
        store = self._store_of(advisor)
        snapshot = store.snapshot()
        for name in reversed(looks.best_champions(snapshot.chain.entries)):
            version = self._read(store, snapshot, name)
            usable = version is not None and version.state != "quarantined"
            if version is not None and usable and version.base_fingerprint == base_fingerprint:
                return name
        return None
