"""The workspace's SQLite database: schema, migrations, and all SQL of the program.

Reading works on any database that has the three original tables, also when file or folder are read-only; columns that
an older database lacks read as None. Only a store that is opened for writing migrates, and it first copies an existing
database to `mondrian.db.backup-<version>`. Times are read in any spelling and returned as ISO 8601 text in UTC, which
sorts chronologically.

database.py     opening, migrating, transactions      queries.py      Store: advisors, critiques; jobs.py: its jobs
migrations.py   the schema and its steps              records.py      rows as values
cells.py        reading cells of any type             corrections.py  ids of corrected critiques
advice_judgements.py  judgements of single recommendations and crops
drafts.py       drafted critiques                     embeddings.py   the retrieval index
profile_stream.py  critiques one after another
photographs.py  the photographs of the workspace
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
