"""Every query: advisors, critiques and jobs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from mondrian_core.errors import BadInput, UnknownAdvisor
from mondrian_core.prompts import Voice
from mondrian_core.rubric import DIMENSIONS
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
    Profile,
    job_cells,
    job_of,
    profile_cells,
    profile_of,
    stamp,
)


class Store(Database):
    """The workspace's database, with its queries.

    Raises (all methods):
        DatabaseBusy: when the file stays locked for `BUSY_SECONDS` or can't be written.
        DiskFull: when a write finds no space; the transaction is undone.
    """

    # --- advisors and critiques -------------------------------------------------------------------------------------

    def advisors(self) -> list[Voice]:
        """All advisors, by id."""
        rows = self._rows("SELECT id, name, coalesce(bio, ''), prompt FROM advisors ORDER BY id")
        return [Voice(*row) for row in rows]

    def voice(self, advisor: str) -> Voice:
        """What the prompt needs to know of an advisor.

        Raises:
            UnknownAdvisor: when there is no such row; it names those that are there.
        """
        known = {voice.advisor: voice for voice in self.advisors()}
        if advisor not in known:
            raise UnknownAdvisor(advisor, sorted(known))
        return known[advisor]

    def add_advisor(self, voice: Voice) -> None:
        """Insert an advisor, or replace name, bio and prompt of one with the same id."""
        self._write(
            "INSERT INTO advisors (id, name, bio, prompt) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "name = excluded.name, bio = excluded.bio, prompt = excluded.prompt",
            (voice.advisor, voice.name, voice.bio, voice.prompt),
        )

    def profiles(self, advisor: str | None = None) -> list[Profile]:
        """Critiques of one advisor (None: of all) in the order they were inserted."""
        query = self._profile_query
        return [profile_of(row) for row in self._rows(*_where(query, {"advisor_id": advisor}, "rowid"))]

    def profile(self, profile_id: str) -> Profile | None:
        """One critique, or None."""
        rows = self._rows(*_where(self._profile_query, {"id": profile_id}, None))
        return profile_of(rows[0]) if rows else None

    def add_profiles(self, profiles: Iterable[Profile], *, replace: bool = False) -> None:
        """Insert critiques in one transaction; `order` is given by the database. `replace` those of the same id."""
        names = ["id", "advisor_id", "image_path", "overall_grade", "origin", "created_at"]
        names += [f"{name}_score" for name in DIMENSIONS] + [f"{name}_comment" for name in DIMENSIONS]
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        statement = f"{verb} INTO dimensional_profiles ({', '.join(names)}) VALUES ({_marks(len(names))})"
        with self.transaction() as connection:
            connection.executemany(statement, (profile_cells(profile) for profile in profiles))

    # --- jobs: reading ------------------------------------------------------------------------------------------------

    def jobs(self, advisor: str | None = None, *, status: str | None = None,
             since: datetime | None = None) -> Iterator[Job]:  # fmt: skip
        """Jobs, oldest first, read a batch at a time; filters that are None let everything through.

        `since` compares with `created_at` as text: ISO 8601 times in UTC sort like the moments they name.
        """
        query, values = _where(f"SELECT {self._job_columns} FROM jobs", {"advisor": advisor, "status": status}, None)
        if since is not None:
            query += (" AND " if values else " WHERE ") + "created_at >= ?"
            values = (*values, stamp(since))
        for row in self._each(query + " ORDER BY rowid", values):
            yield job_of(row)

    def job(self, job_id: str) -> Job | None:
        """One job, or None."""
        rows = self._rows(f"SELECT {self._job_columns} FROM jobs WHERE id = ?", (job_id,))
        return job_of(rows[0]) if rows else None

    def latest_jobs(self, count: int) -> list[Job]:
        """The `count` jobs that were completed last, newest first."""
        query = f"SELECT {self._job_columns} FROM jobs WHERE status = ? AND answer IS NOT NULL"
        return [job_of(row) for row in self._rows(query + " ORDER BY completed_at DESC LIMIT ?", (COMPLETED, count))]

    def job_of_key(self, idempotency_key: str) -> Job | None:
        """The job that was made with this idempotency key, or None."""
        rows = self._rows(f"SELECT {self._job_columns} FROM jobs WHERE idempotency_key = ?", (idempotency_key,))
        return job_of(rows[0]) if rows else None

    # --- jobs: writing ------------------------------------------------------------------------------------------------

    def add_job(self, advisor: str, filename: str, *, requested_mode: str | None = None, explicit_mode: bool = False,
                arm: str | None = None, idempotency_key: str | None = None, photograph_sha256: str | None = None,
                job_id: str | None = None, details: Mapping[str, Any] | None = None) -> tuple[Job, bool]:  # fmt: skip
        """Insert a queued job before any work is done: (job, True), or (the earlier job of the same key, False)."""
        identity = job_id or str(uuid.uuid4())
        with self.transaction() as connection:
            if idempotency_key and (earlier := self.job_of_key(idempotency_key)):
                return earlier, False
            connection.execute(
                "INSERT INTO jobs (id, filename, advisor, status, created_at, requested_mode, explicit_mode, arm, "
                "idempotency_key, photograph_sha256, details, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (identity, filename, advisor, QUEUED, stamp(), requested_mode, int(explicit_mode), arm,
                 idempotency_key, photograph_sha256, json.dumps(details) if details else None),
            )  # fmt: skip
            return self._sure(identity), True

    def add_past_jobs(self, jobs: Iterable[Job]) -> None:
        """Insert jobs as they are, in one transaction: those of another database, or of a sample."""
        statement = f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}) VALUES ({_marks(len(JOB_COLUMNS))})"
        with self.transaction() as connection:
            connection.executemany(statement, (job_cells(job) for job in jobs))

    def claim_job(self, job_id: str | None = None) -> Job | None:
        """Take a queued job (None: the oldest) to work on: running, one attempt more. None when there is none."""
        choice = "id = ?" if job_id else "id = (SELECT id FROM jobs WHERE status = ? ORDER BY rowid LIMIT 1)"
        with self.transaction() as connection:
            rows = connection.execute(
                f"UPDATE jobs SET status = ?, started_at = ?, attempts = coalesce(attempts, 0) + 1 "
                f"WHERE {choice} AND status = ? RETURNING id",
                (RUNNING, stamp(), job_id or QUEUED, QUEUED),
            ).fetchall()
            return self._sure(rows[0][0]) if rows else None

    def finish_job(self, job_id: str, *, answer: Mapping[str, Any], model_used: str, mode: str,
                   adapter_version: str | None = None, analysis_markdown: str | None = None,
                   llm_outputs: str | None = None, details: Mapping[str, Any] | None = None) -> Job:  # fmt: skip
        """Keep a job's answer. `mode` is the strategy that answered, `details` plain values such as timings."""
        if model_used not in MODELS_USED:
            raise ValueError(f"model_used must be one of {MODELS_USED}, not {model_used!r}")
        self._write(
            "UPDATE jobs SET status = ?, completed_at = ?, answer = ?, model_used = ?, mode = ?, adapter_version = ?, "
            "analysis_markdown = coalesce(?, analysis_markdown), llm_outputs = coalesce(?, llm_outputs), details = ?, "
            "error = NULL WHERE id = ?",
            (COMPLETED, stamp(), json.dumps(answer), model_used, mode, adapter_version, analysis_markdown,
             llm_outputs, json.dumps(details or {}), job_id),
        )  # fmt: skip
        return self._sure(job_id)

    def fail_job(
        self,
        job_id: str,
        error: str,
        *,
        again: bool = False,
        model_used: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        """Note why a job failed; `again` puts it back into the queue instead. `model_used` is the arm it counts for."""
        self._write(
            "UPDATE jobs SET status = ?, completed_at = ?, error = ?, model_used = coalesce(?, model_used), "
            "details = coalesce(?, details) WHERE id = ?",
            (QUEUED if again else FAILED, None if again else stamp(), error, model_used,
             json.dumps(details) if details else None, job_id),
        )  # fmt: skip
        return self._sure(job_id)

    def note_on_job(self, job_id: str, **values: str | int | float) -> Job:
        """Add plain values, such as a person's rating, to the details of a completed job; the last word counts."""
        places = ", ".join("?, ?" for _ in values)
        pairs = [part for name, value in values.items() for part in (f"$.{name}", value)]
        changed = self._write(
            f"UPDATE jobs SET details = json_set(coalesce(details, '{{}}'), {places}) WHERE id = ? AND status = ?",
            (*pairs, job_id, COMPLETED),
        )
        if not changed:
            raise BadInput(f"The job {job_id} is not completed.", "Wait for its critique first.")
        return self._sure(job_id)

    def cancel_job(self, job_id: str) -> Job:
        """End a job that waits or runs; one that has ended stays as it is."""
        self._write(
            "UPDATE jobs SET status = ?, completed_at = ?, error = NULL WHERE id = ? AND status IN (?, ?)",
            (CANCELED, stamp(), job_id, QUEUED, RUNNING),
        )
        return self._sure(job_id)

    def give_back_job(self, job_id: str) -> Job:
        """Put a job that was claimed back into the queue, as if it had not been: the attempt doesn't count."""
        self._write(
            "UPDATE jobs SET status = ?, started_at = NULL, attempts = max(0, coalesce(attempts, 0) - 1) "
            "WHERE id = ? AND status = ?",
            (QUEUED, job_id, RUNNING),
        )
        return self._sure(job_id)

    def requeue_running(self) -> int:
        """Put jobs back that a process left running when it died; to be called before a service takes work."""
        return self._write("UPDATE jobs SET status = ?, started_at = NULL WHERE status = ?", (QUEUED, RUNNING))

    def _sure(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job is None:
            raise BadInput(f"There is no job {job_id}.", "Check the id with `GET /jobs/{id}` or in the jobs table.")
        return job

    @property
    def _profile_query(self) -> str:
        scores = ", ".join(f"{name}_score" for name in DIMENSIONS)
        comments = ", ".join(f"{name}_comment" for name in DIMENSIONS)
        later = self._selectable("dimensional_profiles", ("origin", "created_at"))
        query = f"SELECT rowid, id, advisor_id, image_path, overall_grade, {later}, {scores}, {comments} "
        return query + "FROM dimensional_profiles"

    @property
    def _job_columns(self) -> str:
        return self._selectable("jobs", JOB_COLUMNS)


def _where(query: str, filters: Mapping[str, str | None], order: str | None) -> tuple[str, tuple[Any, ...]]:
    given = {name: value for name, value in filters.items() if value is not None}
    if given:
        query += " WHERE " + " AND ".join(f"{name} = ?" for name in given)
    if order:
        query += f" ORDER BY {order}"
    return query, tuple(given.values())


def _marks(count: int) -> str:
    return ", ".join("?" * count)
