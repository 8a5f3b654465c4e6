"""The workspace's SQLite database: schema, migrations and every query.

Reading works on any database that has the three original tables, also on a file or folder that can't be written;
columns that an older one lacks read as None. Only a store that is opened for writing migrates, and it copies an
existing database to `mondrian.db.backup-<version>` before the first change. Times are read in any spelling and given as
ISO 8601 texts in UTC, so that they sort like the moments they name.

database.py   the file: opening, migrating, transactions      queries.py   Store: advisors, critiques, jobs
records.py    rows as values                              cells.py     a cell of any type as what it should be
"""

from mondrian_core.store.cells import Cells
from mondrian_core.store.database import BUSY_SECONDS
from mondrian_core.store.queries import Store
from mondrian_core.store.records import (
    CANCELED,
    COMPLETED,
    FAILED,
    MODELS_USED,
    QUEUED,
    RUNNING,
    DimensionalProfile,
    Job,
    utc_timestamp,
)

__all__ = [
    "BUSY_SECONDS",
    "CANCELED",
    "COMPLETED",
    "FAILED",
    "MODELS_USED",
    "QUEUED",
    "RUNNING",
    "Cells",
    "DimensionalProfile",
    "Job",
    "Store",
    "utc_timestamp",
]
