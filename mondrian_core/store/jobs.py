"""Queries on jobs: the critiques that were asked for, in all their states."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mondrian_core.errors import BadInput
from mondrian_core.store.database import Database
from mondrian_core.store.records import (
    CANCELED,
    COMPLETED,
    FAILED,
    JOB_COLUMNS,
    MODELS_USED,
    QUEUED,
    RUNNING,
    Job,
    job_column_values,
    job_from_row,
    utc_timestamp,
)


class JobQueries(Database):
    """A database with its queries on jobs; see `Store` for what all methods raise."""

    # --- reading ------------------------------------------------------------------------------------------------------

    def jobs(
        self, advisor: str | None = None, *, status: str | None = None, since: datetime | None = None
    ) -> Iterator[Job]:
        """Jobs, oldest first, read in batches; filters that are None match everything.

        `since` compares moments, however `created_at` is spelled; a job without a time that can be read is left out.
        """
        where, values = where_clause({"advisor": advisor, "status": status})
        if since is not None:
            where += (" AND " if where else " WHERE ") + f"{_moment(self._or_null('jobs', 'created_at'))} >= ?"
            values = (*values, utc_timestamp(since))
        query = f"SELECT {self._selectable('jobs', JOB_COLUMNS)} FROM jobs{where} ORDER BY {self._number('jobs')}"
        for row in self._each(query, values):
            yield _job(row)

    def job(self, job_id: str) -> Job | None:
        """One job, or None."""
        return self._one_job("id", job_id)

    def latest_jobs(self, count: int) -> list[Job]:
        """The `count` most recently completed jobs, newest first."""
        moment = _moment(self._or_null("jobs", "completed_at"))
        answered = f" WHERE status = ? AND {self._or_null('jobs', 'answer')} IS NOT NULL"
        query = f"SELECT {self._selectable('jobs', JOB_COLUMNS)} FROM jobs{answered} ORDER BY {moment} DESC LIMIT ?"
        return [_job(row) for row in self._rows(query, (COMPLETED, count))]

    def jobs_of_group(self, group: str) -> list[Job]:
        """The jobs whose ID is the group's, "-" and a number; in the order in which they were added."""
        query = (
            f"SELECT {self._selectable('jobs', JOB_COLUMNS)} FROM jobs WHERE id >= ? AND id < ? "
            f"ORDER BY {self._number('jobs')}"
        )
        return [_job(row) for row in self._rows(query, (f"{group}-", f"{group}."))]

    def completed_job(self, advisor: str, photograph_sha256: str, requested_mode: str | None = None) -> Job | None:
        """The last completed job of an advisor for a photograph (None: in any mode), or None."""
        where, values = where_clause(
            {
                "advisor": advisor,
                "photograph_sha256": photograph_sha256,
                "status": COMPLETED,
                "requested_mode": requested_mode,
            }
        )
        query = f"SELECT {self._selectable('jobs', JOB_COLUMNS)} FROM jobs{where} ORDER BY {self._number('jobs')}"
        rows = self._rows(query, values)
        return _job(rows[-1]) if rows else None

    def job_by_idempotency_key(self, idempotency_key: str) -> Job | None:
        """The job that was created with this idempotency key, or None."""
        return self._one_job("idempotency_key", idempotency_key)

    def _one_job(self, column: str, value: str) -> Job | None:
        query = f"SELECT {self._selectable('jobs', JOB_COLUMNS)} FROM jobs WHERE {self._or_null('jobs', column)} = ?"
        rows = self._rows(query, (value,))
        return _job(rows[0]) if rows else None

    # --- writing ------------------------------------------------------------------------------------------------

    def add_job(  # noqa: PLR0913  keyword-only, one per column
        self,
        advisor: str,
        filename: str,
        *,
        requested_mode: str | None = None,
        explicit_mode: bool = False,
        arm: str | None = None,
        idempotency_key: str | None = None,
        photograph_sha256: str | None = None,
        job_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> tuple[Job, bool]:
        """Insert a queued job before any work is done: (job, True), or (the earlier job with the same key, False)."""
        identity = job_id or str(uuid.uuid4())
        with self.transaction() as connection:
            if idempotency_key and (earlier := self.job_by_idempotency_key(idempotency_key)):
                return earlier, False
            statement, more = self._insertion("jobs", _NEW_JOB)
            connection.execute(
                statement,
                (
                    identity,
                    filename,
                    advisor,
                    QUEUED,
                    utc_timestamp(),
                    requested_mode,
                    int(explicit_mode),
                    arm,
                    idempotency_key,
                    photograph_sha256,
                    json.dumps(details) if details else None,
                    0,
                    *more,
                ),
            )
            return self._existing_job(identity), True

    def import_jobs(self, jobs: Iterable[Job]) -> None:
        """Insert jobs unchanged in one transaction, for instance from another database."""
        with self.transaction() as connection:
            statement, more = self._insertion("jobs", JOB_COLUMNS)
            connection.executemany(statement, ((*job_column_values(job), *more) for job in jobs))

    def claim_job(self, job_id: str | None = None) -> Job | None:
        """Mark a queued job (None: the oldest) as running and count the attempt. None when there is no queued job."""
        oldest = f"SELECT id FROM jobs WHERE status = ? ORDER BY {self._number('jobs')} LIMIT 1"
        choice = "id = ?" if job_id else f"id = ({oldest})"
        with self.transaction() as connection:
            rows = connection.execute(
                f"UPDATE jobs SET status = ?, started_at = ?, attempts = coalesce(attempts, 0) + 1 "
                f"WHERE {choice} AND status = ? RETURNING id",
                (RUNNING, utc_timestamp(), job_id or QUEUED, QUEUED),
            ).fetchall()
            return self._existing_job(rows[0][0]) if rows else None

    def finish_job(  # noqa: PLR0913  keyword-only, one per column
        self,
        job_id: str,
        *,
        answer: Mapping[str, Any],
        model_used: str,
        mode: str,
        adapter_version: str | None = None,
        analysis_markdown: str | None = None,
        llm_outputs: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        """Save a job's answer. `mode` is the strategy that answered, `details` plain values such as timings.

        Raises:
            ValueError: for an unknown `model_used`.
        """
        if model_used not in MODELS_USED:
            raise ValueError(f"model_used must be one of {MODELS_USED}, not {model_used!r}")
        self._write(
            "UPDATE jobs SET status = ?, completed_at = ?, answer = ?, model_used = ?, mode = ?, adapter_version = ?, "
            "analysis_markdown = coalesce(?, analysis_markdown), llm_outputs = coalesce(?, llm_outputs), details = ?, "
            "error = NULL WHERE id = ?",
            (
                COMPLETED,
                utc_timestamp(),
                json.dumps(answer),
                model_used,
                mode,
                adapter_version,
                analysis_markdown,
                llm_outputs,
                json.dumps(details or {}),
                job_id,
            ),
        )
        return self._existing_job(job_id)

    def fail_job(
        self,
        job_id: str,
        error: str,
        *,
        again: bool = False,
        model_used: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        """Record why a job failed.

        Args:
            job_id: id.
            error: the reason, for people.
            again: put the job back into the queue instead of ending it.
            model_used: the arm that the failure counts for.
            details: plain values such as timings.
        """
        self._write(
            "UPDATE jobs SET status = ?, completed_at = ?, error = ?, model_used = coalesce(?, model_used), "
            "details = coalesce(?, details) WHERE id = ?",
            (
                QUEUED if again else FAILED,
                None if again else utc_timestamp(),
                error,
                model_used,
                json.dumps(details) if details else None,
                job_id,
            ),
        )
        return self._existing_job(job_id)

    def update_job_details(self, job_id: str, **values: str | int | float) -> Job:
        """Add plain values, such as a rating, to the details of a completed job; later values replace earlier ones.

        Raises:
            BadInput: when the job is not completed.
        """
        places = ", ".join("?, ?" for _ in values)
        return self._change_details(
            job_id, places, *(part for key, value in values.items() for part in (f"$.{key}", value))
        )

    def add_to_job_detail(self, job_id: str, name: str, key: str, value: str) -> Job:
        """Set one key of an object in the details of a completed job; its other keys stay, whoever writes them.

        Args:
            job_id: of the job.
            name: of the object, which is added when there is none.
            key: of the object; a later value replaces an earlier one.
            value: JSON.

        Raises:
            BadInput: when the job is not completed.
        """
        detail = "iif(json_type(details, ?) = 'object', json_extract(details, ?), '{}')"
        safe = f"iif({_IS_OBJECT}, {detail}, '{{}}')"
        path = f"$.{name}"
        return self._change_details(
            job_id, f"?, json_set(json({safe}), ?, json(?))", path, path, path, f"$.{key}", value
        )

    def _change_details(self, job_id: str, changes: str, *values: str | int | float) -> Job:
        """Set paths of a completed job's details: the arguments of SQLite's `json_set` after the first."""
        changed = self._write(
            f"UPDATE jobs SET details = json_set(iif({_IS_OBJECT}, details, '{{}}'), {changes}) "
            "WHERE id = ? AND status = ?",
            (*values, job_id, COMPLETED),
        )
        if not changed:
            raise BadInput(f"The job {job_id} is not completed.", "Wait for its critique first.")
        return self._existing_job(job_id)

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a queued or running job; a job that has ended stays unchanged."""
        self._write(
            "UPDATE jobs SET status = ?, completed_at = ?, error = NULL WHERE id = ? AND status IN (?, ?)",
            (CANCELED, utc_timestamp(), job_id, QUEUED, RUNNING),
        )
        return self._existing_job(job_id)

    def release_job(self, job_id: str) -> Job:
        """Put a claimed job back into the queue; the attempt doesn't count."""
        self._write(
            "UPDATE jobs SET status = ?, started_at = NULL, attempts = max(0, coalesce(attempts, 0) - 1) "
            "WHERE id = ? AND status = ?",
            (QUEUED, job_id, RUNNING),
        )
        return self._existing_job(job_id)

    def requeue_running(self, job_ids: Sequence[str]) -> int:
        """Put jobs back into the queue that are running; returns their number. See `requeue_abandoned_jobs`."""
        statement = "UPDATE jobs SET status = ?, started_at = NULL WHERE status = ? AND id = ?"
        with self.transaction():
            return sum(self._write(statement, (QUEUED, RUNNING, job_id)) for job_id in job_ids)

    def _existing_job(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job is None:
            raise BadInput(f"There is no job {job_id}.", "Check the id with `GET /jobs/{id}` or in the jobs table.")
        return job


_NEW_JOB = (
    "id",
    "filename",
    "advisor",
    "status",
    "created_at",
    "requested_mode",
    "explicit_mode",
    "arm",
    "idempotency_key",
    "photograph_sha256",
    "details",
    "attempts",
)
_IS_OBJECT = "iif(json_valid(details), json_type(details) = 'object', 0)"


def _job(row: Any) -> Job:
    return job_from_row(dict(zip(JOB_COLUMNS, row, strict=True)))


def _moment(column: str) -> str:
    """A column's time as sortable text; read as bytes, because SQLite passes on no text that isn't UTF-8."""
    return f"moment(CAST({column} AS BLOB))"


def where_clause(filters: Mapping[str, str | None]) -> tuple[str, tuple[Any, ...]]:
    """The condition that columns equal these values, with its parameters; a value that is None matches everything."""
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = " AND ".join(f"{name} = ?" for name in given)
    return (f" WHERE {conditions}" if given else ""), tuple(given.values())
