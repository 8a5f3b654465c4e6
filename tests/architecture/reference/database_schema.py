"""docs/reference/database.md: the tables of an empty `mondrian.db`, read back from SQLite after each migration.

Types, keys and the migration of each column come from the database. What a column means is written here; a column
without a meaning, or a meaning without a column, is an error.
"""

from __future__ import annotations

import inspect
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.markdown import Markdown, markdown_table
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store.database import Database
from mondrian_core.store.migrations import DIMENSION_COLUMNS, MIGRATIONS, ORIGINAL_TABLES
from tests.architecture.reference.prose_markup import escaped_prose

PAGE = "docs/reference/database.md"
_PHOTOGRAPH = {
    "advisor_id": "whose row it is",
    "sha256": "of the photograph's bytes",
    "image_path": "below the workspace, with `/`",
}
_CRITIQUE = {
    "id": "of the critique",
    "advisor_id": "who critiques",
    "image_path": "the photograph, possibly as another machine wrote it",
    "DIMENSION_score": "0 to 10",
    "DIMENSION_comment": "the advisor's words",
    "DIMENSION_recommendation": "what to do next time",
    "overall_grade": "such as 8.1",
    "origin": "`human`, `model`, or `index` (by the base model, for retrieval only)",
    "created_at": "time of the critique",
    "details": "JSON: `strengths`, `priority_improvements`, `regions`, `advisor_notes`, `image_description`",
}


@dataclass(frozen=True, kw_only=True)
class TableText:
    """What a table is for, what writes it, and the meaning of its columns."""

    about: str
    written_by: str
    columns: dict[str, str]


TABLES = {
    "advisors": TableText(
        about="The advisors.",
        written_by="`mondrian advisors`, `mondrian start`, the page /advisors",
        columns={
            "id": "such as `ansel`",
            "name": "for people",
            "bio": "whose eye it is, what counts",
            "prompt": "the system message; empty: made from name and biography",
        },
    ),
    "dimensional_profiles": TableText(
        about="Critiques as people and other programs write them. No row of it is ever changed by Mondrian.",
        written_by="people, older programs, and `mondrian init --sample`",
        columns=_CRITIQUE,
    ),
    "added_profiles": TableText(
        about="Critiques that Mondrian writes. Rows are only added (those of the index are replaced); of several rows "
        "with one `id` the last one counts.",
        written_by="`mondrian write`, `import`, `index`, corrections, the pages",
        columns={"number": "order of the rows", **_CRITIQUE},
    ),
    "jobs": TableText(
        about="One row for each critique that was asked for.",
        written_by="`mondrian serve`, `analyze`, `watch`, `mcp`",
        columns={
            "id": "of the job",
            "filename": "of the photograph",
            "advisor": "who critiques",
            "status": "`queued`, `running`, `completed`, `failed` or `canceled`",
            "analysis_markdown": "file name below `analysis_md/`",
            "llm_outputs": "JSON: what the model wrote",
            "created_at": "when it was asked for",
            "started_at": "when the model began",
            "completed_at": "when it ended",
            "model_used": "`base`, `fine_tuned`, `ab_test_base` or `ab_test_fine_tuned`",
            "requested_mode": "strategy asked for: `lora`, `rag` or `baseline`",
            "mode": "strategy that answered",
            "adapter_version": "version that answered",
            "arm": "arm that it counts for: `base` or `fine_tuned`",
            "answer": "the critique, JSON",
            "error": "why it failed",
            "explicit_mode": "1: the request named the mode",
            "attempts": "how often it was started",
            "idempotency_key": "of the request",
            "photograph_sha256": "of the photograph's bytes",
            "details": "JSON: seconds, passes, expected scores, rating, correction, judgements of advice, rollout mark",
        },
    ),
    "photographs": TableText(
        about="The photographs of the workspace.",
        written_by="`mondrian import`, the page /photographs/import, the service for files put under `source/`",
        columns={
            **_PHOTOGRAPH,
            "portfolio": "1: the advisor's own work",
            "width": "upright, in pixels",
            "height": "upright, in pixels",
            "taken_at": "by the camera's clock",
            "camera": "JSON: camera, lens and exposure; never place or owner",
            "imported_at": "time of the import",
        },
    ),
    "embeddings": TableText(
        about="The retrieval index of a portfolio.",
        written_by="`mondrian index`",
        columns={
            **_PHOTOGRAPH,
            "base": "fingerprint of the base model that made the vector",
            "looks": "two perceptual hashes, hexadecimal",
            "vector": "little-endian float32 of length 1",
            "created_at": "time of the entry",
            "thumbnail": "48 x 48 gray bytes, to recognize crops",
        },
    ),
    "drafts": TableText(
        about="Critiques that the base model drafted, until a person decides.",
        written_by="`mondrian synthesize`, `mondrian review`",
        columns={
            "id": "of the draft",
            **_PHOTOGRAPH,
            "base": "fingerprint of the base model",
            "prompt_digest": "SHA-256 of the prompt",
            "raw": "JSON: the model's scores before calibration",
            "proposal": "JSON: the critique to review",
            "state": "`waiting`, `accepted`, `corrected` or `discarded`",
            "decided": "JSON: the critique as accepted or corrected",
            "decided_by": "who decided",
            "decided_at": "when",
            "created_at": "time of the draft",
        },
    ),
    "unfinished_critiques": TableText(
        about="What a person has typed so far on /write or in `mondrian write`.",
        written_by="`mondrian write`, the page /write",
        columns={
            **_PHOTOGRAPH,
            "entry": "JSON: the critique as typed",
            "revision": "counts the changes",
            "state": "`open`, `saved`, `skipped` or `excluded`",
            "draft": "JSON: the base model's draft that was shown",
            "updated_at": "time of the last change",
        },
    ),
    "photograph_looks": TableText(
        about="How photographs look, which decides in what order they are offered for writing.",
        written_by="`mondrian write`, the page /write",
        columns={"sha256": "of the photograph's bytes", "vector": "little-endian float32"},
    ),
    "drift_watches": TableText(
        about="The drift watches of an advisor. Their state can be computed again from `jobs`.",
        written_by="`mondrian drift`, the flow `drift/scheduled`, the page /drift",
        columns={
            "advisor_id": "whose answers are watched",
            "number": "from 1; the highest is the present watch",
            "version": "the champion that is watched",
            "manifest_sha256": "of its manifest",
            "began_at": "requests from then on count",
            "begun_by": "the champion's evaluation, or who accepted the latest answers",
            "reference": "JSON: what answers are compared with",
            "last_row": "last row of `jobs` that is in the state",
            "state": "JSON",
        },
    ),
    "service_marks": TableText(
        about="Counts what the running service wrote, which shows that the file was replaced under it.",
        written_by="`mondrian serve`, which creates it",
        columns={"boot": "ID of this start of the service", "jobs": "rows written since then"},
    ),
}
_START = """# Database

`WORKSPACE/mondrian.db` is an SQLite database in WAL mode. This page is generated from an empty one. A command that
writes copies an older database first and applies the missing migrations; a migration only adds. `mondrian backup`
copies the database safely while programs write; copying the file alone does not.

Times are ISO 8601 in UTC without offset. Columns named DIMENSION_... exist for each of the dimensions
{dimensions}.
Tables and columns that you add are kept.

## Migrations

`PRAGMA user_version` is the number of the last one; 0 is a database of the older program.

{migrations}
"""


def database_page() -> str:
    """The page as Markdown."""
    added = _migration_by_column()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mondrian.db"
        with Database.create(path) as database:
            database.start_write_counter("")
        with closing(sqlite3.connect(path)) as connection:
            names = _names(
                connection, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
            if set(names) != TABLES.keys():
                raise ValueError(f"TABLES and the database differ: {set(names) ^ TABLES.keys()}")
            sections = [_section(connection, name, added) for name in TABLES]
    rows = [
        (
            str(number),
            Markdown(escaped_prose((inspect.getdoc(each) or "").split("\n\n")[0].split(": ", 1)[1].rstrip("."))),
        )
        for number, each in enumerate(MIGRATIONS, start=1)
    ]
    start = _START.format(
        dimensions=", ".join(f"`{name}`" for name in DIMENSIONS), migrations=markdown_table(("number", "adds"), rows)
    )
    return "\n\n".join(part.strip("\n") for part in (start, *sections)) + "\n"


def _migration_by_column() -> dict[tuple[str, str], int]:
    """(table, column) -> number of the migration that adds it; 0: one of the original columns."""
    found: dict[tuple[str, str], int] = {}
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in ORIGINAL_TABLES.values():
            connection.execute(statement)
        for number, migration in enumerate((None, *MIGRATIONS)):
            if migration is not None:
                migration(connection)
            for table in _names(connection, "SELECT name FROM sqlite_master WHERE type = 'table'"):
                for column in _names(connection, f"SELECT name FROM pragma_table_xinfo('{table}')"):
                    found.setdefault((table, column), number)
    return found


def _section(connection: sqlite3.Connection, table: str, added: dict[tuple[str, str], int]) -> str:
    text = TABLES[table]
    rows: dict[str, tuple[Markdown, str, str, str, Markdown]] = {}
    for _, column, kind, required, default, key, _ in connection.execute(f"PRAGMA table_xinfo({table})"):
        name = _generic(column)
        facts = [kind, "not null" * bool(required and not key), f"default {default}" * (default is not None)]
        number = added.get((table, column), 0)
        rows[name] = (
            Markdown(f"`{name}`"),
            ", ".join(filter(None, facts)),
            "yes" if key else "",
            str(number) if number else "",
            Markdown(text.columns[name]),
        )
    if rows.keys() != text.columns.keys():
        raise ValueError(f"TABLES has columns that {table} lacks: {text.columns.keys() - rows.keys()}")
    parts = [
        f"## {table}",
        text.about,
        f"Written by: {text.written_by}.",
        markdown_table(("column", "type", "key", "migration", "meaning"), rows.values()),
    ]
    if indexes := list(_indexes(connection, table)):
        parts.append(f"Indexes: {', '.join(indexes)}.")
    return "\n\n".join(parts)


def _generic(column: str) -> str:
    """`DIMENSION_score` for `lighting_score`; other names as they are."""
    return next(
        (f"DIMENSION_{column.removeprefix(f'{name}_')}" for name in DIMENSIONS if column in _columns_of(name)), column
    )


def _columns_of(dimension: str) -> list[str]:
    return [column for column in DIMENSION_COLUMNS if column.startswith(f"{dimension}_")]


def _indexes(connection: sqlite3.Connection, table: str) -> list[str]:
    found = []
    for _, name, unique, origin, _ in connection.execute(f"PRAGMA index_list({table})"):
        columns = ", ".join(_names(connection, f"SELECT name FROM pragma_index_info('{name}')"))
        if origin != "pk":
            found.append(f"({columns}){', unique' * bool(unique)}")
    return sorted(found)


def _names(connection: sqlite3.Connection, query: str) -> list[str]:
    return [name for (name,) in connection.execute(query)]
