"""The drift watches of an advisor (table `drift_watches`), and the jobs that a watch has not read yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mondrian_core.store.queries import Store
from mondrian_core.store.records import QUEUED, RUNNING, Job

TABLE = "drift_watches"
_COLUMNS = (
    "advisor_id",
    "number",
    "version",
    "manifest_sha256",
    "began_at",
    "begun_by",
    "reference",
    "last_row",
    "state",
)


@dataclass(frozen=True, kw_only=True)
class StoredWatch:
    """A row of the table.

    Attributes:
        advisor: id.
        number: from 1; the highest is the present watch.
        version: the champion that is watched.
        manifest_sha256: of its manifest.
        began_at: time from which requests count, ISO 8601.
        begun_by: the champion's evaluation, or the person who accepted the latest answers as normal.
        reference: plain values.
        last_row: number of the last row of `jobs` that is in the state.
        state: plain values.
    """

    advisor: str
    number: int
    version: str
    manifest_sha256: str
    began_at: str
    begun_by: str
    reference: Mapping[str, Any]
    last_row: int
    state: Mapping[str, Any]


class DriftStore:
    """The watches of a workspace. Reading works with a store that was opened for reading.

    Raises (all methods): what `Store` raises.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def present(self, advisor: str) -> StoredWatch | None:
        """The present watch; None before the first, and when its row can't be read."""
        if not self._store.has_table(TABLE):
            return None
        query = f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} WHERE advisor_id = ? ORDER BY number DESC LIMIT 1"
        rows = self._store.select(query, (advisor,))
        return _watch(rows[0]) if rows else None

    def last_number(self, advisor: str) -> int:
        """Number of the latest watch, also of one that can't be read; 0 before the first."""
        if not self._store.has_table(TABLE):
            return 0
        rows = self._store.select(f"SELECT max(number) FROM {TABLE} WHERE advisor_id = ?", (advisor,))
        return int(rows[0][0] or 0)

    def begin(self, watch: StoredWatch) -> None:
        """Add a watch; nothing happens when another process has begun the one with this number."""
        cells = (*_cells(watch), json.dumps(watch.reference), watch.last_row, json.dumps(watch.state))
        with self._store.transaction() as connection:
            places = ", ".join("?" * len(cells))
            connection.execute(f"INSERT OR IGNORE INTO {TABLE} ({', '.join(_COLUMNS)}) VALUES ({places})", cells)

    def save_state(self, watch: StoredWatch) -> None:
        """Write the state of a watch, unless another process has already read more jobs."""
        with self._store.transaction() as connection:
            connection.execute(
                f"UPDATE {TABLE} SET state = ?, last_row = ? WHERE advisor_id = ? AND number = ? AND last_row <= ?",
                (json.dumps(watch.state), watch.last_row, watch.advisor, watch.number, watch.last_row),
            )

    def jobs_after(self, advisor: str, row: int, since: str) -> Iterator[tuple[int, Job]]:
        """(row number, job) of an advisor's jobs after a row, in order, up to the first that has not ended yet.

        A job that waits since before `since` (ISO 8601) was given up, and doesn't hold the others up.
        """
        for number, job in self._store.numbered_jobs(advisor, row):
            if job.status in (QUEUED, RUNNING) and (job.created_at or "") >= since:
                return
            yield number, job


def _cells(watch: StoredWatch) -> tuple[Any, ...]:
    return (
        watch.advisor,
        watch.number,
        watch.version,
        watch.manifest_sha256,
        watch.began_at,
        watch.begun_by,
    )


def _watch(row: Any) -> StoredWatch | None:
    advisor, number, version, manifest, began_at, begun_by, reference, last_row, state = row
    try:
        return StoredWatch(
            advisor=advisor,
            number=int(number),
            version=version,
            manifest_sha256=manifest,
            began_at=began_at,
            begun_by=begun_by,
            reference=json.loads(reference),
            last_row=int(last_row),
            state=json.loads(state),
        )
    except (ValueError, TypeError):
        return None
