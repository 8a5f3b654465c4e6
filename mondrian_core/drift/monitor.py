"""The drift watch of an advisor's champion: find its reference, read new jobs, store the state.

When the champion changes, the watch starts again with the evaluation of the new one. A person who finds an alarm
harmless accepts the latest answers as normal: then the watch starts again with those. Both inherit what is left of the
year's capital, so all watches of a year together raise at most the promised false alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.drift.observations import drift_observation, evaluation_values
from mondrian_core.drift.photograph_distance import leave_one_out_distances
from mondrian_core.drift.signals import DISTANCE, SIGNALS, SignalValues
from mondrian_core.drift.watch import (
    FEWEST_REFERENCES,
    WATCH_YEAR,
    DriftAlarm,
    DriftState,
    add_observation,
    count_values,
    counts_as_rows,
    counts_from_rows,
    left_capital,
    start_watch,
    state_as_dict,
    state_from_dict,
    watched_signals,
)
from mondrian_core.errors import BadAdapter, BadInput, NothingToDo
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.samples_file import CANDIDATE, CHAMPION, SAMPLES_NAME, SamplesFile
from mondrian_core.store import Store, utc_timestamp
from mondrian_core.store.drift_watches import DriftStore, StoredWatch

EVALUATION = "evaluation"  # what began a watch: the champion's evaluation; else "accepted by ..."
GIVEN_UP = timedelta(days=1)  # a job that waits this long holds up no other
LATEST_ANSWERS = 200  # at most so many answers become the new normal
_COUNTS, _SOURCE = "counts", "source"


@dataclass(frozen=True, kw_only=True)
class DriftWatch:
    """The present watch of an advisor.

    Attributes:
        advisor: id.
        number: of the watch, from 1.
        version: the champion.
        began_at: ISO 8601; earlier requests don't count.
        begun_by: `EVALUATION`, or who accepted the latest answers.
        source: where the reference comes from, for people.
        reference: (S, B) counts.
        state: after the last finished request.
        new_alarms: those that the last update raised.
    """

    advisor: str
    number: int
    version: str
    began_at: str
    begun_by: str
    source: str
    reference: NDArray[np.int64]
    state: DriftState
    new_alarms: tuple[DriftAlarm, ...] = ()

    @property
    def watched(self) -> NDArray[np.bool_]:
        """(S,) True for signals with a reference."""
        return watched_signals(self.reference)


class DriftMonitor:
    """Watches the champions of a workspace.

    Args:
        store: opened for writing; with one opened for reading nothing is stored, and each update reads all jobs.
        registry: of the champions.
        workspace: for the samples of runs; None: only those in the registry.
    """

    def __init__(self, store: Store, registry: Registry, workspace: Path | None = None) -> None:
        self._store, self._registry, self._workspace = store, registry, workspace
        self._watches = DriftStore(store)

    def advisors(self) -> list[str]:
        """Advisors of the workspace, sorted."""
        return sorted(self._store.advisor_names())

    def update(self, advisor: str) -> DriftWatch | None:
        """Read the jobs that have ended since the last update; None while nothing is promoted.

        The same jobs give the same state, in however many updates they are read.
        """
        champion = self._champion(advisor)
        if champion is None:
            return None
        stored = self._present(advisor, champion)
        if stored is None:
            stored = self._begin_with_evaluation(advisor, champion)
        return self._read_jobs(stored)

    def accept(self, advisor: str, actor: str) -> DriftWatch:
        """Begin a new watch with the latest answers as the reference.

        Args:
            advisor: whose watch.
            actor: who finds them normal, for the record.

        Raises:
            NothingToDo: nothing is promoted.
            BadInput: too few answers.
        """
        watch, champion = self.update(advisor), self._champion(advisor)
        if watch is None or champion is None:
            raise NothingToDo(f"Nothing is promoted for '{advisor}', so nothing is watched.")
        values, last_row = self._latest_values(watch)
        if len(values) < FEWEST_REFERENCES:
            raise BadInput(
                f"{len(values)} answers of {watch.version} count since this watch began, too few for a reference.",
                f"Accept them when there are {FEWEST_REFERENCES} or more.",
            )
        counts = count_values(values)
        begun = self._begin(
            champion,
            watch.number,
            counts,
            f"the latest {len(values)} answers of {watch.version}",
            f"accepted by {actor}",
        )
        self._watches.begin(replace(begun, last_row=last_row))
        return self._read_jobs(replace(begun, last_row=last_row))

    # --- steps --------------------------------------------------------------------------------------------------------

    def _champion(self, advisor: str) -> AdapterVersion | None:
        try:
            return self._registry.champion(advisor)
        except BadAdapter:  # the service answers without it; its own page says what is wrong
            return None

    def _present(self, advisor: str, champion: AdapterVersion) -> StoredWatch | None:
        stored = self._watches.present(advisor)
        if stored is None or (stored.version, stored.manifest_sha256) != (champion.version, champion.manifest_sha256):
            return None
        try:
            counts_from_rows(stored.reference[_COUNTS])
            state_from_dict(stored.state)
        except (KeyError, ValueError, TypeError):  # of another release: it is computed again
            return None
        return stored

    def _begin_with_evaluation(self, advisor: str, champion: AdapterVersion) -> StoredWatch:
        values, source = self._evaluated(champion)
        counts = count_values(values)
        begun = self._begin(champion, self._watches.last_number(advisor), counts, source, EVALUATION)
        if not self._store.read_only:
            self._watches.begin(begun)
        return begun

    def _begin(
        self, champion: AdapterVersion, before: int, counts: NDArray[np.int64], source: str, begun_by: str
    ) -> StoredWatch:
        accepted = begun_by != EVALUATION
        began_at = utc_timestamp() if accepted else self._promoted_at(champion)
        year_began, capital = self._rest_of_the_year(champion.advisor, began_at)
        state = start_watch(counts, year_began, capital)
        return StoredWatch(
            advisor=champion.advisor,
            number=before + 1,
            version=champion.version,
            manifest_sha256=champion.manifest_sha256,
            began_at=began_at,
            begun_by=begun_by,
            reference={_COUNTS: counts_as_rows(counts), _SOURCE: source},
            last_row=0,
            state=state_as_dict(state),
        )

    def _promoted_at(self, champion: AdapterVersion) -> str:
        moves = [entry for entry in self._registry.history(champion.advisor) if entry.moves_pointer]
        return utc_timestamp(datetime.fromisoformat(moves[-1].at)) if moves else utc_timestamp()

    def _rest_of_the_year(self, advisor: str, began_at: str) -> tuple[str, NDArray[np.float64] | float]:
        """When the year of the watch before began, and what it left; a new year where that is over."""
        before = self._watches.present(advisor)
        try:
            state = state_from_dict(before.state) if before is not None else None
        except (KeyError, ValueError, TypeError):
            state = None
        if state is None or datetime.fromisoformat(began_at) - datetime.fromisoformat(state.year_began) > WATCH_YEAR:
            return began_at, 1.0
        return state.year_began, left_capital(state)

    def _evaluated(self, champion: AdapterVersion) -> tuple[list[SignalValues], str]:
        """The values of the evaluation's answers, and the distances among the advisor's photographs."""
        values: list[SignalValues] = []
        for path in self._samples(champion):
            records = list(SamplesFile(path).records())
            values = evaluation_values(records, CANDIDATE) or evaluation_values(records, CHAMPION)
            if values:
                break
        source = f"{len(values)} photographs of the evaluation of {champion.version}" if values else ""
        base = champion.base_fingerprint
        distances = leave_one_out_distances(self._store, champion.advisor, base) if base else []
        return [*values, *({DISTANCE: each} for each in distances)], source

    def _samples(self, champion: AdapterVersion) -> Sequence[Path]:
        found = [self._registry.fetch_file(champion, SAMPLES_NAME)]
        run = champion.manifest.get("run")
        if self._workspace is not None and isinstance(run, str) and run == Path(run).name:
            found.append(self._workspace / "runs" / run / SAMPLES_NAME)
        return [path for path in found if path is not None and path.is_file()]

    def _read_jobs(self, stored: StoredWatch) -> DriftWatch:
        state, reference = state_from_dict(stored.state), counts_from_rows(stored.reference[_COUNTS])
        watched, alarms, last_row = watched_signals(reference), set(state.alarms), stored.last_row
        since = utc_timestamp(datetime.now(UTC) - GIVEN_UP)
        for last_row, job in self._watches.jobs_after(stored.advisor, stored.last_row, since):  # noqa: B007  (the last)
            if (job.created_at or "") >= stored.began_at and (seen := drift_observation(job, stored.version)):
                add_observation(state, seen, watched)
        state.last_row = last_row
        if last_row > stored.last_row and not self._store.read_only:
            self._watches.save_state(replace(stored, last_row=last_row, state=state_as_dict(state)))
        return DriftWatch(
            advisor=stored.advisor,
            number=stored.number,
            version=stored.version,
            began_at=stored.began_at,
            begun_by=stored.begun_by,
            source=str(stored.reference.get(_SOURCE) or ""),
            reference=reference,
            state=state,
            new_alarms=tuple(alarm for name, alarm in state.alarms.items() if name not in alarms),
        )

    def _latest_values(self, watch: DriftWatch) -> tuple[list[dict[str, Any]], int]:
        """The values of the latest requests that counted, and the number of the last row."""
        kept: list[dict[str, Any]] = []
        state = DriftState(martingale=watch.state.martingale, year_began=watch.state.year_began)
        nothing = np.zeros(len(SIGNALS), dtype=bool)
        last_row = 0
        for row, job in self._watches.jobs_after(watch.advisor, 0, utc_timestamp(datetime.now(UTC) - GIVEN_UP)):
            last_row = row
            seen = drift_observation(job, watch.version)
            if (job.created_at or "") >= watch.began_at and seen is not None:
                before = state.counted
                add_observation(state, seen, nothing)
                if state.counted > before:
                    kept.append(dict(seen.values))
        return kept[-LATEST_ANSWERS:], last_row
