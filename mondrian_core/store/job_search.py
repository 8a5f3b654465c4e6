"""Searching the jobs: which critiques a history page lists, and in which order.

All conditions are part of one query. It returns IDs only, so that no answer is read that isn't shown. Without an index
10,000 jobs take a tenth of a second (docs/experiments).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store.queries import Store
from mondrian_core.store.records import COMPLETED, utc_timestamp

MAX_TERMS = 8


def _object(column: str) -> str:
    """A column's JSON object; NULL for anything else, which the functions of SQLite would refuse."""
    is_json = f"typeof({column}) = 'text' AND json_valid({column})"
    return f"iif({is_json}, iif(json_type({column}) = 'object', {column}, NULL), NULL)"


_ANSWER, _DETAILS = _object("answer"), _object("details")
_MOMENT = "moment(CAST(completed_at AS BLOB))"
_GRADE = f"CAST(json_extract({_ANSWER}, '$.overall_grade') AS REAL)"
_RATING = f"json_extract({_DETAILS}, '$.rating')"
_ORDERS = {
    "newest": f"{_MOMENT} DESC",
    "oldest": f"{_MOMENT} ASC",
    "best": f"{_GRADE} DESC, {_MOMENT} DESC",
    "worst": f"{_GRADE} ASC, {_MOMENT} DESC",
}
ORDERS = tuple(_ORDERS)
# smoke tests of a start, answers that only a rollout compares, and answers in a program's own form: none is a critique
# that a person asked for
ASKED_FOR = (
    "coalesce(idempotency_key, '') NOT LIKE 'smoke-%' "
    f"AND NOT coalesce(json_extract({_DETAILS}, '$.rollout.shadow'), 0) "
    f"AND json_type({_DETAILS}, '$.answer_options.schema') IS NULL"
)


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs to find; what is None or "" matches everything.

    Attributes:
        text: words that all occur in the file name or in the critique.
        advisor: id.
        mode: the strategy that answered.
        status: of the job.
        dimension: whose score `lowest` and `highest` limit; "" is the overall grade.
        lowest, highest: scores, 0-10, both included.
        since, until: days in this machine's time zone, both included.
        corrected: whether a person has corrected the critique.
        least_rating: 1-5.
        sha256: of the photograph.
        order: one of `ORDERS`.
    """

    text: str = ""
    advisor: str = ""
    mode: str = ""
    status: str = COMPLETED
    dimension: str = ""
    lowest: float | None = None
    highest: float | None = None
    since: date | None = None
    until: date | None = None
    corrected: bool | None = None
    least_rating: int | None = None
    sha256: str = ""
    order: str = ORDERS[0]


def find_job_ids(store: Store, wanted: JobFilter) -> list[str]:
    """The IDs of the jobs that a filter matches, in its order.

    Raises:
        DatabaseBusy: the database can't be read.
    """
    conditions, values = [ASKED_FOR], []
    for condition, value in _conditions(wanted):
        conditions.append(condition)
        values += value
    query = f"SELECT id FROM jobs WHERE {' AND '.join(conditions)} ORDER BY {_ORDERS[wanted.order]}"
    return [row[0] for row in store.select(query, tuple(values)) if isinstance(row[0], str)]


def modes_used(store: Store) -> list[str]:
    """The strategies that answered completed jobs, sorted."""
    rows = store.select("SELECT DISTINCT mode FROM jobs WHERE status = ? AND typeof(mode) = 'text'", (COMPLETED,))
    return sorted(row[0] for row in rows if row[0])


def _conditions(wanted: JobFilter) -> Iterator[tuple[str, list[Any]]]:
    equal = {"status": wanted.status, "advisor": wanted.advisor, "mode": wanted.mode}
    for column, text in {**equal, "photograph_sha256": wanted.sha256}.items():
        if text:
            yield f"{column} = ?", [text]
    if wanted.status == COMPLETED:
        yield f"{_ANSWER} IS NOT NULL", []
    for expression, operator, limit in _limits(wanted):
        if limit is not None:
            yield f"{expression} {operator} ?", [limit]
    if wanted.corrected is not None:
        yield f"json_extract({_DETAILS}, '$.corrected_at') IS {'NOT ' if wanted.corrected else ''}NULL", []
    for term in wanted.text.split()[:MAX_TERMS]:
        pattern = "%" + term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        inside = f"EXISTS (SELECT 1 FROM json_tree({_ANSWER}) WHERE type = 'text' AND atom LIKE ? ESCAPE '\\')"
        yield f"(filename LIKE ? ESCAPE '\\' OR {inside})", [pattern, pattern]


def _limits(wanted: JobFilter) -> Iterator[tuple[str, str, Any]]:
    score = _GRADE
    if wanted.dimension in DIMENSIONS:
        score = f"CAST(json_extract({_ANSWER}, '$.dimensional_analysis.{wanted.dimension}.score') AS REAL)"
    yield score, ">=", wanted.lowest
    yield score, "<=", wanted.highest
    yield _RATING, ">=", wanted.least_rating
    yield _MOMENT, ">=", None if wanted.since is None else _start_of(wanted.since)
    yield _MOMENT, "<", None if wanted.until is None else _start_of(wanted.until, days=1)


def _start_of(day: date, days: int = 0) -> str:
    """The first moment of a day in this machine's time zone, or of one `days` later, as rows spell times."""
    try:
        return utc_timestamp(datetime.combine(day + timedelta(days=days), time.min).astimezone())
    except (OverflowError, ValueError, OSError):  # the first and the last day that exist
        return utc_timestamp(datetime.combine(day, time.min if not days else time.max, UTC))
