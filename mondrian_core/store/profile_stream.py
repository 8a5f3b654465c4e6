"""Critiques one after another, for exports and imports of many: a batch of rows in memory instead of all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mondrian_core.store.database import Database
from mondrian_core.store.records import (
    JOB_COLUMNS,
    READ_PROFILE_COLUMNS,
    DimensionalProfile,
    Job,
    job_from_row,
    profile_from_row,
)

BATCH_ROWS = 100  # with eight long comments each, some megabytes


class ProfileStream(Database):
    """A database whose critiques are read as a stream."""

    def each_profile(self, advisor: str | None = None) -> Iterator[DimensionalProfile]:
        """The critiques of `Store.profiles`, read in batches on a separate connection."""
        tables = {"dimensional_profiles": "TRUE"}
        if self.has_table("added_profiles"):
            tables["dimensional_profiles"] = "id IS NULL OR id NOT IN (SELECT id FROM added_profiles)"
            tables["added_profiles"] = "number IN (SELECT max(number) FROM added_profiles GROUP BY id)"
        order = 0
        for table, newest in tables.items():
            where = f"({newest})" if advisor is None else f"advisor_id = ? AND ({newest})"
            columns = self._selectable(table, READ_PROFILE_COLUMNS)
            query = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {self._number(table)}"
            for row in self._each(query, () if advisor is None else (advisor,), BATCH_ROWS):
                order += 1
                yield profile_from_row(dict(zip(READ_PROFILE_COLUMNS, row, strict=True)), order)

    def numbered_jobs(self, advisor: str, after: int) -> Iterator[tuple[int, Job]]:
        """(row number, job) of an advisor's jobs in rows after a number, in their order, read in batches."""
        number = self._number("jobs")
        query = (
            f"SELECT {number}, {self._selectable('jobs', JOB_COLUMNS)} FROM jobs WHERE advisor = ? AND {number} > ? "
            f"ORDER BY {number}"
        )
        for row in self._each(query, (advisor, after), BATCH_ROWS):
            yield row[0], job_from_row(dict(zip(JOB_COLUMNS, row[1:], strict=True)))

    def profiles_mark(self) -> tuple[Any, ...]:
        """Equal as long as nobody has added a critique."""
        tables = ("dimensional_profiles", *(("added_profiles",) if self.has_table("added_profiles") else ()))
        return tuple(
            tuple(self._rows(f"SELECT count(*), max({self._number(table)}) FROM {table}")[0]) for table in tables
        )
