"""The SQLite file of a workspace's Prefect server: give space back that deleted rows left.

SQLite reuses the pages of deleted rows but never shrinks its file by itself, and Prefect creates its database without
auto_vacuum. A file of mostly free pages, after a week with many runs, say, is compacted before the server opens it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from mondrian_core.errors import DiskFull
from mondrian_core.files import require_free_space

MIN_FREED_BYTES = 32 << 20
MIN_FREE_SHARE = 0.5


def free_bytes(database: Path) -> int:
    """Bytes of free pages in a SQLite file; 0 without a file."""
    if not database.is_file():
        return 0
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        return _pragma(connection, "freelist_count") * _pragma(connection, "page_size")


def compact_database(database: Path, least: int = MIN_FREED_BYTES) -> int:
    """Compact a SQLite file that nobody has open, if at least half of it and `least` bytes are free.

    VACUUM writes a copy and replaces the file in one transaction: a kill in the middle leaves the old content. Returns
    the bytes that were freed; 0 when nothing was done, also when another process has the file open or the disk is full.
    """
    try:
        free = free_bytes(database)
        size = database.stat().st_size if free else 0
        if not free or free < least or free < MIN_FREE_SHARE * size:
            return 0
        require_free_space(database.parent, 2 * (size - free))
        with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return size - database.stat().st_size
    except (sqlite3.Error, OSError, DiskFull):
        return 0


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
