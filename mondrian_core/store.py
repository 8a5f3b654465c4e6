"""The workspace's SQLite database: schema, migrations and every query.

Reading works on any database that has the three original tables, also on a file or folder that can't be written;
columns that an older one lacks read as None. Only a store that is opened for writing migrates, and it copies an
existing database to `mondrian.db.backup-<version>` before the first change. Times are ISO 8601 texts.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadInput, DatabaseBusy, NoDatabase, UnknownAdvisor, translated
from mondrian_core.migrations import MIGRATIONS, ORIGINAL_TABLES, VERSION
from mondrian_core.prompts import Voice
from mondrian_core.rubric import DIMENSIONS

BUSY_SECONDS = 10.0
QUEUED, RUNNING, COMPLETED, FAILED, CANCELED = "queued", "running", "completed", "failed", "canceled"
MODELS_USED = ("base", "fine_tuned", "ab_test_base", "ab_test_fine_tuned")


@dataclass(frozen=True)
class Profile:
    """A row of `dimensional_profiles` as it is: scores may be missing, texts or out of range.

    `origin` is "human", "model", or "index" for one that the base model made for retrieval alone; `order` grows with
    insertion and stands for the age where `created_at` is missing.
    """

    id: str
    advisor: str
    image_path: str
    scores: Mapping[str, Any]
    comments: Mapping[str, str | None]
    overall_grade: str | None
    origin: str = "human"
    created_at: str | None = None
    order: int = 0


@dataclass(frozen=True)
class Job:
    """A row of `jobs`. `analysis_markdown` is a file name under analysis_md/; `answer` the parsed JSON."""

    id: str
    filename: str | None
    advisor: str | None
    status: str | None
    analysis_markdown: str | None = None
    llm_outputs: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    model_used: str | None = None
    requested_mode: str | None = None
    mode: str | None = None
    explicit_mode: bool = False
    adapter_version: str | None = None
    arm: str | None = None
    answer: dict[str, Any] | None = None
    error: str | None = None
    attempts: int = 0
    idempotency_key: str | None = None
    photograph_sha256: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


_JOB_COLUMNS = (
    "id", "filename", "advisor", "status", "analysis_markdown", "llm_outputs", "created_at", "started_at",
    "completed_at", "model_used", "requested_mode", "mode", "explicit_mode", "adapter_version", "arm", "answer",
    "error", "attempts", "idempotency_key", "photograph_sha256", "details",
)  # fmt: skip


class Store:
    """One connection to `mondrian.db`, safe to share between the threads of a process.

    Raises (all methods):
        DatabaseBusy: when the file stays locked for `BUSY_SECONDS` or can't be written.
        DiskFull: when a write finds no space; the transaction is undone.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
        """Open an existing database.

        Raises:
            NoDatabase: when it is missing, no SQLite file, lacks a table, or is newer than this program.
        """
        self.path, self.read_only = Path(path), read_only
        self._lock = threading.RLock()
        if not self.path.is_file():
            raise NoDatabase(self.path)
        with _explained(self.path):
            self._connection = (_connect_to_read if read_only else _connect_to_write)(self.path, busy_seconds)
        try:
            self._check_tables()
            if not read_only:
                self._migrate()
            self._columns = {table: self._columns_of(table) for table in ORIGINAL_TABLES}
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, path: Path) -> Store:
        """Make an empty database and open it.

        Raises:
            BadInput: when there is a file already.
        """
        if path.exists():
            raise BadInput(f"There is a database at {path} already.", "Use it as it is, or name another workspace.")
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _explained(path), closing(sqlite3.connect(path)) as connection, connection:
                for statement in ORIGINAL_TABLES.values():
                    connection.execute(statement)
                for migration in MIGRATIONS:
                    migration(connection)
                connection.execute(f"PRAGMA user_version = {VERSION}")
        return cls(path)

    def close(self) -> None:
        """Close the connection; further use raises."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def version(self) -> int:
        """The schema's number: that of the last migration, 0 for a database from before there were any."""
        return int(self._rows("PRAGMA user_version")[0][0])

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
        return [_profile(row) for row in self._rows(*_where(query, {"advisor_id": advisor}, "rowid"))]

    def profile(self, profile_id: str) -> Profile | None:
        """One critique, or None."""
        rows = self._rows(*_where(self._profile_query, {"id": profile_id}, None))
        return _profile(rows[0]) if rows else None

    def add_profiles(self, profiles: Iterable[Profile], *, replace: bool = False) -> None:
        """Insert critiques in one transaction; `order` is given by the database. `replace` those of the same id."""
        names = ["id", "advisor_id", "image_path", "overall_grade", "origin", "created_at"]
        names += [f"{name}_score" for name in DIMENSIONS] + [f"{name}_comment" for name in DIMENSIONS]
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        statement = f"{verb} INTO dimensional_profiles ({', '.join(names)}) VALUES ({_marks(len(names))})"
        with self.transaction() as connection:
            connection.executemany(statement, (_profile_cells(profile) for profile in profiles))

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
            yield _job(row)

    def job(self, job_id: str) -> Job | None:
        """One job, or None."""
        rows = self._rows(f"SELECT {self._job_columns} FROM jobs WHERE id = ?", (job_id,))
        return _job(rows[0]) if rows else None

    def latest_jobs(self, count: int) -> list[Job]:
        """The `count` jobs that were completed last, newest first."""
        query = f"SELECT {self._job_columns} FROM jobs WHERE status = ? AND answer IS NOT NULL"
        return [_job(row) for row in self._rows(query + " ORDER BY completed_at DESC LIMIT ?", (COMPLETED, count))]

    def job_of_key(self, idempotency_key: str) -> Job | None:
        """The job that was made with this idempotency key, or None."""
        rows = self._rows(f"SELECT {self._job_columns} FROM jobs WHERE idempotency_key = ?", (idempotency_key,))
        return _job(rows[0]) if rows else None

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
        statement = f"INSERT INTO jobs ({', '.join(_JOB_COLUMNS)}) VALUES ({_marks(len(_JOB_COLUMNS))})"
        with self.transaction() as connection:
            connection.executemany(statement, (_job_cells(job) for job in jobs))

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

    # --- the connection -----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that is begun at once, so that it waits for its turn instead of failing half-way."""
        if self.read_only:
            raise DatabaseBusy(f"The database {self.path} was opened for reading only.", "Open it for writing.")
        with self._lock, translated(self.path):
            outer = self._connection.in_transaction
            if outer:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def select(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Rows of a query that only reads, for the modules with tables of their own (`drafts`, `embeddings`)."""
        return self._rows(query, values)

    def has_table(self, name: str) -> bool:
        """False on a database that was opened for reading and is older than that table."""
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        with self.transaction() as connection:
            return connection.execute(statement, values).rowcount

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock, translated(self.path), _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def _each(self, query: str, values: tuple[Any, ...], batch: int = 1000) -> Iterator[Any]:
        with self._lock, translated(self.path), _explained(self.path):
            cursor = self._connection.execute(query, values)
        while True:
            with self._lock, translated(self.path), _explained(self.path):
                rows = cursor.fetchmany(batch)
            if not rows:
                return
            yield from rows

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
        return self._selectable("jobs", _JOB_COLUMNS)

    def _selectable(self, table: str, columns: tuple[str, ...]) -> str:
        present = self._columns[table]
        return ", ".join(name if name in present else f"NULL AS {name}" for name in columns)

    def _columns_of(self, table: str) -> set[str]:
        return {row[1] for row in self._rows(f"PRAGMA table_info({table})")}

    def _check_tables(self) -> None:
        present = {row[0] for row in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        missing = [name for name in ORIGINAL_TABLES if name not in present]
        if missing:
            raise NoDatabase(self.path, f"it has no table {' and no table '.join(missing)}")
        if self.version > VERSION:
            raise NoDatabase(self.path, f"its schema {self.version} is newer than this program's {VERSION}")

    def _migrate(self) -> None:
        if self.version == VERSION:
            return
        with translated(self.path):
            _back_up(self._connection, self.path, self.version)
            with self.transaction() as connection:
                for number in range(self.version, VERSION):  # read again: another process may have been first
                    MIGRATIONS[number](connection)
                connection.execute(f"PRAGMA user_version = {VERSION}")


def stamp(moment: datetime | None = None) -> str:
    """A moment (None: now) as ISO 8601 in UTC without offset, as the older rows are written."""
    return (moment or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's "this is no database" into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error):
            raise NoDatabase(path, "it can't be opened; check the permissions of the file and its folder") from error
        raise
    except sqlite3.DatabaseError as error:
        raise NoDatabase(path, str(error)) from error


def _connect_to_write(path: Path, busy_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    with translated(path):
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connect_to_read(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection that can't write; `immutable` where a WAL database lies in a folder that can't be written."""
    address = path.absolute().as_uri() + "?mode=ro"

    def connect(uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False)

    connection = connect(address)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        journal = path.with_name(path.name + "-wal")
        if "unable to open" not in str(error) or (journal.exists() and journal.stat().st_size):
            with translated(path):
                raise
        connection = connect(address + "&immutable=1")
    return connection


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Copy the database before it changes; an earlier copy of the same version is the true original and stays."""
    copy = path.with_name(f"{path.name}.backup-{version}")
    if copy.exists():
        return
    temporary = copy.with_name(f".{copy.name}-{uuid.uuid4().hex}")
    try:
        with closing(sqlite3.connect(temporary)) as target:
            connection.backup(target)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)


def _where(query: str, filters: Mapping[str, str | None], order: str | None) -> tuple[str, tuple[Any, ...]]:
    given = {name: value for name, value in filters.items() if value is not None}
    if given:
        query += " WHERE " + " AND ".join(f"{name} = ?" for name in given)
    if order:
        query += f" ORDER BY {order}"
    return query, tuple(given.values())


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _profile(row: Any) -> Profile:
    order, identity, owner, path, grade, origin, created, *cells = row
    scores = dict(zip(DIMENSIONS, cells[: len(DIMENSIONS)], strict=True))
    comments = dict(zip(DIMENSIONS, cells[len(DIMENSIONS) :], strict=True))
    return Profile(identity, owner, path, scores, comments, grade, origin or "human", created, order)


def _profile_cells(profile: Profile) -> tuple[Any, ...]:
    scores = (profile.scores.get(name) for name in DIMENSIONS)
    comments = (profile.comments.get(name) for name in DIMENSIONS)
    created = profile.created_at or stamp()
    return (profile.id, profile.advisor, profile.image_path, profile.overall_grade, profile.origin, created,
            *scores, *comments)  # fmt: skip


def _job_cells(job: Job) -> tuple[Any, ...]:
    texts = {"answer": json.dumps(job.answer) if job.answer is not None else None, "details": json.dumps(job.details)}
    return tuple(texts.get(name, getattr(job, name)) for name in _JOB_COLUMNS)


def _job(row: Any) -> Job:
    values = dict(zip(_JOB_COLUMNS, row, strict=True))
    values["explicit_mode"] = bool(values["explicit_mode"])
    values["attempts"] = values["attempts"] or 0
    values["answer"] = _object(values["answer"])
    values["details"] = _object(values["details"]) or {}
    return Job(**values)


def _object(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
