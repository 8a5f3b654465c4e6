"""The schema of `mondrian.db`: the original tables, and numbered steps that add to them.

`PRAGMA user_version` holds the number of the last step. A step only adds; it never drops or rewrites what a user has.
Each works on a database that has some of its columns already, because people add columns by hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from mondrian_core.rubric import DIMENSIONS

ORIGINAL_TABLES: dict[str, str] = {
    "advisors": "CREATE TABLE advisors (id TEXT PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL, prompt TEXT)",
    "jobs": "CREATE TABLE jobs (id TEXT PRIMARY KEY, filename TEXT, advisor TEXT, status TEXT, "
    "analysis_markdown TEXT, llm_outputs TEXT, created_at TEXT, started_at TEXT, completed_at TEXT)",
    "dimensional_profiles": "CREATE TABLE dimensional_profiles (id TEXT PRIMARY KEY, advisor_id TEXT NOT NULL, "
    "image_path TEXT NOT NULL, "
    + ", ".join(f"{name}_score REAL" for name in DIMENSIONS)
    + ", "
    + ", ".join(f"{name}_comment TEXT" for name in DIMENSIONS)
    + ", overall_grade TEXT)",
}


def _add_columns(connection: sqlite3.Connection, table: str, columns: dict[str, str]) -> None:
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    for name, kind in columns.items():
        if name not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def _service(connection: sqlite3.Connection) -> None:
    """1: what the service needs to know of a job."""
    columns = dict.fromkeys(
        ("model_used", "requested_mode", "mode", "adapter_version", "arm", "answer", "error"), "TEXT"
    )
    columns |= {"explicit_mode": "INTEGER", "attempts": "INTEGER", "idempotency_key": "TEXT"}
    columns |= {"photograph_sha256": "TEXT", "details": "TEXT"}
    _add_columns(connection, "jobs", columns)
    connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (idempotency_key)")
    connection.execute("CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, advisor)")
    connection.execute("CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (created_at)")


def _origin(connection: sqlite3.Connection) -> None:
    """2: who wrote a critique, and when. Rows from before were written by people."""
    _add_columns(connection, "dimensional_profiles", {"origin": "TEXT NOT NULL DEFAULT 'human'", "created_at": "TEXT"})
    connection.execute("CREATE INDEX IF NOT EXISTS profiles_by_advisor ON dimensional_profiles (advisor_id)")


def _portfolio(connection: sqlite3.Connection) -> None:
    """3: what the index knows of a photograph, and critiques that a model drafted and a person decides on.

    `looks` are two perceptual hashes as hexadecimal, `vector` little-endian float32, critiques canonical JSON.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS embeddings (advisor_id TEXT NOT NULL, sha256 TEXT NOT NULL, base TEXT NOT NULL, "
        "image_path TEXT NOT NULL, looks TEXT NOT NULL, vector BLOB NOT NULL, created_at TEXT NOT NULL, "
        "PRIMARY KEY (advisor_id, sha256, base))"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS drafts (id TEXT PRIMARY KEY, advisor_id TEXT NOT NULL, sha256 TEXT NOT NULL, "
        "image_path TEXT NOT NULL, base TEXT NOT NULL, prompt_digest TEXT NOT NULL, raw TEXT NOT NULL, "
        "proposal TEXT NOT NULL, state TEXT NOT NULL, decided TEXT, decided_by TEXT, decided_at TEXT, "
        "created_at TEXT NOT NULL, UNIQUE (advisor_id, sha256))"
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_service, _origin, _portfolio)
VERSION = len(MIGRATIONS)
