"""The SQLite file: opening for reading or writing, migrating after a backup, transactions, integrity check."""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from mondrian_core.errors import BadInput, DatabaseBusy, DatabaseReplaced, NoDatabase, translate_foreign_errors
from mondrian_core.files import create_private, restrict_to_owner
from mondrian_core.store.cells import normalized_timestamp, text_or_bytes
from mondrian_core.store.migrations import (
    ADDED_TABLES,
    MIGRATIONS,
    ORIGINAL_TABLES,
    SCHEMA_VERSION,
    add_dimension_columns,
    lacks_dimension_columns,
)

BUSY_SECONDS = 10.0
DATABASE_SUFFIXES = ("", "-wal", "-shm")  # the files that together are the database while it is open

FileIds = tuple[tuple[int, int] | None, ...]  # device and inode of each of the files; None where it is missing


class _Connection(sqlite3.Connection):
    """A connection that reads cells of any content, and can close every cursor that it created.

    A statement that failed midway stays open together with the snapshot it read. Until it is closed, a write on the
    same connection fails with "database is locked" as soon as another process has written.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.text_factory = text_or_bytes
        self.create_function("moment", 1, normalized_timestamp, deterministic=True)
        self._given: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """A cursor; `execute` creates one too."""
        made = super().cursor(*arguments, **options)
        self._given.add(made)
        return made

    def close_cursors(self) -> None:
        """Close all cursors that are still open."""
        for cursor in list(self._given):
            cursor.close()
        self._given.clear()


class Database:
    """One connection to `mondrian.db`, safe to share between the threads of a process.

    Raises (all methods):
        DatabaseBusy: when the file stays locked for `BUSY_SECONDS` or can't be written.
        DatabaseReplaced: when, opened for writing, the path now holds another file (device or inode differ).
        DiskFull: when a write finds no space; the transaction is undone.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
        """Open an existing database.

        Raises:
            NoDatabase: when it is missing, is not an SQLite file, lacks a table, or is newer than this program.
        """
        self.path, self.read_only = Path(path), read_only
        self._lock = threading.RLock()
        self._opened: FileIds = ()
        if not self.path.is_file():
            raise NoDatabase(self.path)
        main = _ids_of(self.path)[0]
        with _translated_sqlite_errors(self.path):
            self._connection = (_connect_to_read if read_only else _connect_to_write)(self.path, busy_seconds)
        try:
            self._check_tables()
            if not read_only:
                self._migrate()
            self._columns = {table: self._columns_of(table) for table in (*ORIGINAL_TABLES, *ADDED_TABLES)}
            self._numbers = {table: self._number_of(table) for table in self._columns}
            if not read_only:
                self._opened = (main, *_ids_of(self.path)[1:])
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create an empty database and open it.

        Raises:
            BadInput: when the file already exists.
        """
        if path.exists():
            raise BadInput(f"There is already a database at {path}.", "Use it as it is, or name another workspace.")
        with translate_foreign_errors(path):
            create_private(path)
            with _translated_sqlite_errors(path), closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")  # each statement by itself would be flushed to disk
                for statement in ORIGINAL_TABLES.values():
                    connection.execute(statement)
                for migration in MIGRATIONS:
                    migration(connection)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return cls(path)

    def close(self) -> None:
        """Close the connection; further use raises."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def version(self) -> int:
        """The schema version: the number of the last migration, 0 for a database without migrations."""
        return int(self._rows("PRAGMA user_version")[0][0])

    @property
    def replaced(self) -> bool:
        """True when the path, or its write-ahead log, is now another file. Never waits; safe from any thread."""
        return any(
            ours is not None and ours != now for ours, now in zip(self._opened, _ids_of(self.path), strict=False)
        )

    def start_write_counter(self, boot: str) -> None:
        """Start a counter of a service's writes at 1, under the id of its start; see `read_write_counter`."""
        with self.transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS service_marks (boot TEXT PRIMARY KEY, jobs INTEGER NOT NULL)"
            )
            connection.execute("DELETE FROM service_marks")
            connection.execute("INSERT INTO service_marks VALUES (?, 1)", (boot,))

    def increment_write_counter(self, boot: str) -> None:
        """Increment the counter; call it in the transaction that writes."""
        self._write("UPDATE service_marks SET jobs = jobs + 1 WHERE boot = ?", (boot,))

    def read_write_counter(self, boot: str) -> int | None:
        """The counter as a new connection reads it; 0 when it is missing, None while the database is locked.

        A copy written over the open file, or a restore by SQLite, keeps the inode: only a counter that went back shows
        that rows are lost.
        """
        try:
            with closing(_connect_to_read(self.path, 0.1)) as fresh:
                row = fresh.execute("SELECT jobs FROM service_marks WHERE boot = ?", (boot,)).fetchone()
                return int(row[0]) if row else 0
        except DatabaseBusy:
            return None
        except sqlite3.OperationalError as error:
            return None if "locked" in str(error) else 0
        except (sqlite3.DatabaseError, OSError):
            return 0

    def _require_same_files(self) -> None:
        if self.replaced:
            raise DatabaseReplaced(self.path)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; it takes the lock at once, so that it waits for its turn instead of failing midway."""
        if self.read_only:
            raise DatabaseBusy(f"The database {self.path} was opened for reading only.", "Open it for writing.")
        with self._lock, translate_foreign_errors(self.path):
            outer = self._connection.in_transaction
            if outer:
                yield self._connection
                return
            self._require_same_files()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._connection.close_cursors()
            self._require_same_files()  # a commit into a file that the path no longer names is lost

    def select(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Rows of a reading query, for the modules of this package with their own tables (`drafts`, `embeddings`)."""
        return self._rows(query, values)

    def has_table(self, name: str) -> bool:
        """False when a database that was opened for reading is older than that table."""
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def has_column(self, table: str, name: str) -> bool:
        """False when a database that was opened for reading is older than that column."""
        return bool(self._rows("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, name)))

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy to `target`, one file without a journal; writers are not blocked."""
        with self._lock, translate_foreign_errors(target), closing(sqlite3.connect(target)) as copy:
            self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        with self.transaction() as connection:
            return connection.execute(statement, values).rowcount

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock, translate_foreign_errors(self.path), _translated_sqlite_errors(self.path):
            self._require_same_files()
            with closing(self._connection.cursor()) as cursor:
                return cursor.execute(query, values).fetchall()

    def _each(self, query: str, values: tuple[Any, ...], batch: int = 1000) -> Iterator[Any]:
        """Current rows on a separate connection, because slow reading must not block writes."""
        self._require_same_files()
        with translate_foreign_errors(self.path), _translated_sqlite_errors(self.path):
            reading = _connect_to_read(self.path, BUSY_SECONDS)
        with closing(reading):
            with translate_foreign_errors(self.path), _translated_sqlite_errors(self.path):
                cursor = reading.execute(query, values)
            while True:
                with translate_foreign_errors(self.path), _translated_sqlite_errors(self.path):
                    rows = cursor.fetchmany(batch)
                if not rows:
                    return
                yield from rows

    def _named_rows(
        self, table: str, columns: tuple[str, ...], where: str, values: tuple[Any, ...], order: str
    ) -> list[dict[str, Any]]:
        """Rows of a table as dictionaries; `{number}` in `order` is the expression that numbers its rows."""
        query = (
            f"SELECT {self._selectable(table, columns)} FROM {table}{where} {order.format(number=self._number(table))}"
        )
        return [dict(zip(columns, row, strict=True)) for row in self._rows(query, values)]

    def _selectable(self, table: str, columns: tuple[str, ...]) -> str:
        return ", ".join(self._or_null(table, name) for name in columns)

    def _or_null(self, table: str, column: str) -> str:
        """The column, or NULL where the table lacks it."""
        return column if column in self._columns[table] else "NULL"

    def _number(self, table: str) -> str:
        """The expression that numbers the rows of a table by insertion; a constant where there is none."""
        return self._numbers[table]

    def _number_of(self, table: str) -> str:
        try:
            self._rows(f"SELECT rowid FROM {table} LIMIT 0")
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            return "NULL"
        return "rowid"

    def _insertion(self, table: str, columns: tuple[str, ...]) -> tuple[str, tuple[Any, ...]]:
        """An INSERT of these columns, and values for a person's additional columns that must not be NULL."""
        needed = self._rows(
            f"SELECT lower(name), upper(type) FROM pragma_table_info('{table}') "
            'WHERE "notnull" AND dflt_value IS NULL AND NOT pk'
        )
        more = {name: _empty(kind) for name, kind in needed if name not in columns}
        named = (*columns, *(f'"{name}"' for name in more))
        return f"INSERT INTO {table} ({', '.join(named)}) VALUES ({', '.join('?' * len(named))})", tuple(more.values())

    def _columns_of(self, table: str) -> set[str]:
        """Names in lower case, as SQLite compares them; generated columns too."""
        return {row[1].lower() for row in self._rows(f"PRAGMA table_xinfo({table})")}

    def _check_tables(self) -> None:
        present = {
            row[0] for row in self._rows("SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')")
        }
        missing = [name for name in ORIGINAL_TABLES if name not in present]
        if missing:
            raise NoDatabase(self.path, f"it has no table {' and no table '.join(missing)}")
        if self.version > SCHEMA_VERSION:
            raise NoDatabase(self.path, f"its schema {self.version} is newer than this program's {SCHEMA_VERSION}")

    def _migrate(self) -> None:
        if self.version == SCHEMA_VERSION and not lacks_dimension_columns(self._connection):
            return
        with translate_foreign_errors(self.path):
            _back_up(self._connection, self.path, self.version)
            with self.transaction() as connection:
                # The version is read again: another process may have migrated first.
                for number in range(self.version, SCHEMA_VERSION):
                    MIGRATIONS[number](connection)
                add_dimension_columns(connection)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def integrity_problems(path: Path) -> list[str]:
    """What SQLite's own check finds damaged in a database file, at most three findings; empty when it is intact."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            findings = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        findings = [str(error)]
    return [] if findings == ["ok"] else findings


@contextmanager
def _translated_sqlite_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's "not a database" into `NoDatabase`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error):
            raise NoDatabase(path, "it can't be opened; check the permissions of the file and its folder") from error
        raise
    except sqlite3.DatabaseError as error:
        raise NoDatabase(path, str(error)) from error


def _empty(kind: str) -> Any:
    """The empty value of a column of this type, where NULL is not allowed."""
    return 0 if any(word in kind for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL")) else ""


def _ids_of(path: Path) -> FileIds:
    found: list[tuple[int, int] | None] = []
    for suffix in DATABASE_SUFFIXES:
        try:
            status = os.stat(f"{path}{suffix}")  # noqa: PTH116  runs before every query; Path is slower
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def _connect_to_write(path: Path, busy_seconds: float) -> _Connection:
    for suffix in DATABASE_SUFFIXES:  # SQLite gives new companions the permissions of the database
        restrict_to_owner(path.with_name(path.name + suffix))
    connection = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, factory=_Connection
    )
    with translate_foreign_errors(path):
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connect_to_read(path: Path, busy_seconds: float) -> _Connection:
    """A connection that can't write; `immutable` for a WAL database in a folder that can't be written."""
    address = path.absolute().as_uri() + "?mode=ro"

    def connect(uri: str) -> _Connection:
        return sqlite3.connect(
            uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False, factory=_Connection
        )

    connection = connect(address)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        journal = path.with_name(path.name + "-wal")
        if "unable to open" not in str(error) or (journal.exists() and journal.stat().st_size):
            with translate_foreign_errors(path):
                raise
        connection = connect(address + "&immutable=1")
    return connection


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Copy the database before it changes; an earlier copy of the same version is the original and is kept."""
    copy = path.with_name(f"{path.name}.backup-{version}")
    if copy.exists():
        return
    temporary = copy.with_name(f".{copy.name}-{uuid.uuid4().hex}")
    try:
        create_private(temporary)
        with closing(sqlite3.connect(temporary)) as target:
            connection.backup(target)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)
