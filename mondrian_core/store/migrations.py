"""The schema of `mondrian.db`: the original tables, and the numbered migrations that add to them.

`PRAGMA user_version` holds the number of the last migration. A migration only adds; it never drops or rewrites what a
user has. Each works on a database that already has some of its columns, because people add columns manually.

Score, comment and recommendation columns follow `rubric.DIMENSIONS` instead of a number: `add_dimension_columns` adds
those that a database lacks, so a new dimension needs no migration (docs/decisions/0087).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from mondrian_core.rubric import DIMENSIONS

DIMENSION_COLUMNS: dict[str, str] = {f"{name}_score": "REAL" for name in DIMENSIONS} | {
    f"{name}_{text}": "TEXT" for text in ("comment", "recommendation") for name in DIMENSIONS
}
PROFILE_TABLES = ("dimensional_profiles", "added_profiles")

ORIGINAL_TABLES: dict[str, str] = {
    "advisors": "CREATE TABLE advisors (id TEXT PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL, prompt TEXT)",
    "jobs": "CREATE TABLE jobs (id TEXT PRIMARY KEY, filename TEXT, advisor TEXT, status TEXT, "
    "analysis_markdown TEXT, llm_outputs TEXT, created_at TEXT, started_at TEXT, completed_at TEXT)",
    "dimensional_profiles": "CREATE TABLE dimensional_profiles (id TEXT PRIMARY KEY, advisor_id TEXT NOT NULL, "
    "image_path TEXT NOT NULL, "
    + ", ".join(f"{name} {kind}" for name, kind in DIMENSION_COLUMNS.items())
    + ", overall_grade TEXT)",
}


def lacks_dimension_columns(connection: sqlite3.Connection) -> bool:
    """True when a table of critiques has no column for the score, comment or recommendation of a dimension."""
    return any(
        DIMENSION_COLUMNS.keys() - _column_names(connection, table)
        for table in PROFILE_TABLES
        if _is_table(connection, table)
    )


def add_dimension_columns(connection: sqlite3.Connection) -> None:
    """Add the columns of dimensions that the tables of critiques lack; existing rows have no value there."""
    for table in PROFILE_TABLES:
        _add_columns(connection, table, DIMENSION_COLUMNS)


def _column_names(connection: sqlite3.Connection, table: str) -> set[str]:
    """In lower case, as SQLite compares them; generated columns too."""
    return {row[1].lower() for row in connection.execute(f"PRAGMA table_xinfo({table})")}


def _add_columns(connection: sqlite3.Connection, table: str, columns: dict[str, str]) -> None:
    if not _is_table(connection, table):
        return
    present = _column_names(connection, table)
    for name, kind in columns.items():
        if name not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def _add_index(connection: sqlite3.Connection, name: str, table: str, columns: str, *, unique: bool = False) -> None:
    """Add an index where the table can have one; not a unique one where a person's rows are not unique."""
    if not _is_table(connection, table):
        return
    statement = f"INDEX IF NOT EXISTS {name} ON {table} ({columns})"
    try:
        connection.execute(f"CREATE {'UNIQUE ' if unique else ''}{statement}")
    except sqlite3.IntegrityError:
        connection.execute(f"CREATE {statement}")


def _is_table(connection: sqlite3.Connection, name: str) -> bool:
    """False for a view, whose columns follow from its query."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND lower(name) = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _original_columns(connection: sqlite3.Connection) -> None:
    """Add columns of the original tables that a person's database lacks, so that every statement finds them."""
    texts = (
        "filename",
        "advisor",
        "status",
        "analysis_markdown",
        "llm_outputs",
        "created_at",
        "started_at",
        "completed_at",
    )
    _add_columns(connection, "jobs", dict.fromkeys(texts, "TEXT"))
    _add_columns(connection, "advisors", dict.fromkeys(("name", "bio", "prompt"), "TEXT"))
    _add_columns(
        connection, "dimensional_profiles", dict.fromkeys(("advisor_id", "image_path", "overall_grade"), "TEXT")
    )
    add_dimension_columns(connection)


def _service(connection: sqlite3.Connection) -> None:
    """1: columns that the service needs for a job."""
    _original_columns(connection)
    columns = dict.fromkeys(
        ("model_used", "requested_mode", "mode", "adapter_version", "arm", "answer", "error"), "TEXT"
    )
    columns |= {"explicit_mode": "INTEGER", "attempts": "INTEGER", "idempotency_key": "TEXT"}
    columns |= {"photograph_sha256": "TEXT", "details": "TEXT"}
    _add_columns(connection, "jobs", columns)
    _add_index(connection, "jobs_by_key", "jobs", "idempotency_key", unique=True)
    _add_index(connection, "jobs_by_status", "jobs", "status, advisor")
    _add_index(connection, "jobs_by_time", "jobs", "created_at")


def _origin(connection: sqlite3.Connection) -> None:
    """2: who wrote a critique, and when. Rows from before this migration were written by people."""
    _add_columns(connection, "dimensional_profiles", {"origin": "TEXT NOT NULL DEFAULT 'human'", "created_at": "TEXT"})
    _add_index(connection, "profiles_by_advisor", "dimensional_profiles", "advisor_id")


def _portfolio(connection: sqlite3.Connection) -> None:
    """3: the retrieval index, and critiques that a model drafted and a person decides on.

    `looks` holds two perceptual hashes in hexadecimal, `vector` little-endian float32 numbers, critiques are canonical
    JSON.
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


def _added_profiles(connection: sqlite3.Connection) -> None:
    """4: critiques that the program writes, separate from `dimensional_profiles`, where a person's own rules apply.

    Rows are only added (those of the index are replaced); of several rows with one id the last one counts.
    """
    columns = ", ".join(f"{name} {kind}" for name, kind in DIMENSION_COLUMNS.items())
    connection.execute(
        "CREATE TABLE IF NOT EXISTS added_profiles (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, "
        "advisor_id TEXT NOT NULL, image_path TEXT NOT NULL, "
        f"{columns}, overall_grade TEXT, origin TEXT NOT NULL, created_at TEXT NOT NULL)"
    )
    _add_index(connection, "added_profiles_by_id", "added_profiles", "id")


def _thumbnails(connection: sqlite3.Connection) -> None:
    """5: small gray pictures in the retrieval index, which recognize crops; NULL until `mondrian index` runs again."""
    _add_columns(connection, "embeddings", {"thumbnail": "BLOB"})


def _critique_details(connection: sqlite3.Connection) -> None:
    """6: what a critique says besides its dimensions, and how it was written, as a JSON object."""
    for table in PROFILE_TABLES:
        _add_columns(connection, table, {"details": "TEXT"})


def _photographs(connection: sqlite3.Connection) -> None:
    """7: the photographs of a workspace, by advisor and SHA-256; `camera` is a JSON object without place and owner."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS photographs (advisor_id TEXT NOT NULL, sha256 TEXT NOT NULL, "
        "image_path TEXT NOT NULL, portfolio INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, "
        "taken_at TEXT, camera TEXT NOT NULL, imported_at TEXT NOT NULL, PRIMARY KEY (advisor_id, sha256))"
    )
    _add_index(connection, "photographs_by_sha256", "photographs", "sha256")


def _unfinished_critiques(connection: sqlite3.Connection) -> None:
    """8: critiques that a person is writing, and how photographs look, which decides in what order they are written.

    `entry` and `draft` are JSON objects, `revision` counts the changes of a row, `vector` is little-endian float32
    numbers.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS unfinished_critiques (advisor_id TEXT NOT NULL, sha256 TEXT NOT NULL, "
        "image_path TEXT NOT NULL, entry TEXT NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL, "
        "draft TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY (advisor_id, sha256))"
    )
    connection.execute("CREATE TABLE IF NOT EXISTS photograph_looks (sha256 TEXT PRIMARY KEY, vector BLOB NOT NULL)")


def _drift_watches(connection: sqlite3.Connection) -> None:
    """9: the drift watches of an advisor, numbered from 1; `reference` and `state` are JSON.

    A state can be computed again from `jobs`, so nothing is lost with this table but time.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS drift_watches (advisor_id TEXT NOT NULL, number INTEGER NOT NULL, "
        "version TEXT NOT NULL, manifest_sha256 TEXT NOT NULL, began_at TEXT NOT NULL, begun_by TEXT NOT NULL, "
        "reference TEXT NOT NULL, last_row INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (advisor_id, number))"
    )
    _add_index(connection, "jobs_by_advisor", "jobs", "advisor")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _service,
    _origin,
    _portfolio,
    _added_profiles,
    _thumbnails,
    _critique_details,
    _photographs,
    _unfinished_critiques,
    _drift_watches,
)
SCHEMA_VERSION = len(MIGRATIONS)
ADDED_TABLES = ("embeddings", "drafts", "added_profiles", "photographs")
