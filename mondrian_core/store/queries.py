"""`Store`: all queries on advisors and critiques; those on jobs come from `JobQueries`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mondrian_core.errors import BadInput, UnknownAdvisor
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store.cells import Cells
from mondrian_core.store.jobs import JobQueries, where_clause
from mondrian_core.store.profile_stream import ProfileStream
from mondrian_core.store.records import (
    PROFILE_COLUMNS,
    READ_PROFILE_COLUMNS,
    DimensionalProfile,
    profile_column_values,
    profile_from_row,
)


class Store(ProfileStream, JobQueries):
    """The workspace's database, with its queries.

    Raises (all methods):
        DatabaseBusy: when the file stays locked for `BUSY_SECONDS` or can't be written.
        DiskFull: when a write finds no space; the transaction is undone.
    """

    def advisors(self) -> list[AdvisorPrompt]:
        """All advisors, by id; without rows whose id or prompt can't be read (`advisor` reports those)."""
        return [advisor_prompt for advisor_prompt, unreadable in self._readable_advisors() if not unreadable]

    def advisor(self, advisor: str) -> AdvisorPrompt:
        """The prompt data of an advisor.

        Raises:
            UnknownAdvisor: when there is no such row; the error names the existing advisors.
            BadInput: when the row's prompt can't be read.
        """
        found = {
            advisor_prompt.advisor: (advisor_prompt, unreadable)
            for advisor_prompt, unreadable in self._readable_advisors()
        }
        if advisor not in found:
            raise UnknownAdvisor(advisor, sorted(found))
        advisor_prompt, unreadable = found[advisor]
        if unreadable:
            raise BadInput(f"The row of '{advisor}' in the table `advisors` holds {unreadable}.", "Correct that row.")
        return advisor_prompt

    def _readable_advisors(self) -> list[tuple[AdvisorPrompt, str]]:
        """Every advisor with an id, and why its prompt can't be read ("" when it can)."""
        found = []
        for row in self._named_rows("advisors", ("id", "name", "bio", "prompt"), "", (), "ORDER BY id"):
            cells = Cells(row)
            identity, prompt = cells.label("id"), cells.text("prompt")
            if identity:
                advisor_prompt = AdvisorPrompt(
                    identity, cells.display_text("name") or identity, cells.display_text("bio") or "", prompt
                )
                found.append((advisor_prompt, cells.unreadable.get("prompt", "")))
        return found

    def add_advisor(self, advisor_prompt: AdvisorPrompt) -> None:
        """Insert an advisor, or replace name, bio and prompt of one with the same id."""
        self._write(
            "INSERT INTO advisors (id, name, bio, prompt) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "name = excluded.name, bio = excluded.bio, prompt = excluded.prompt",
            (advisor_prompt.advisor, advisor_prompt.name, advisor_prompt.bio, advisor_prompt.prompt),
        )

    def advisor_names(self) -> dict[str, str]:
        """Name by ID of all advisors, also of those whose prompt can't be read."""
        return {advisor_prompt.advisor: advisor_prompt.name for advisor_prompt, _ in self._readable_advisors()}

    def remove_advisor(self, advisor: str) -> None:
        """Delete the row of an advisor; everything else that names it stays."""
        self._write("DELETE FROM advisors WHERE id = ?", (advisor,))

    def profiles(self, advisor: str | None = None, *, image_path: str | None = None) -> list[DimensionalProfile]:
        """Critiques of one advisor, or of one path as the rows spell it (None: of all), in the order of writing.

        Rows of `dimensional_profiles` come first, then those that `save_profile` wrote, the last version of each.
        """
        return self._profiles({"advisor_id": advisor, "image_path": image_path})

    def profile(self, profile_id: str) -> DimensionalProfile | None:
        """One critique, or None."""
        found = self._profiles({"id": profile_id})
        return found[-1] if found else None

    def profile_versions(self, profile_id: str) -> list[DimensionalProfile]:
        """All versions of a critique that `save_profile` saved, the earliest first."""
        if not self.has_table("added_profiles"):
            return []
        rows = self._named_rows(
            "added_profiles", READ_PROFILE_COLUMNS, " WHERE id = ?", (profile_id,), "ORDER BY number"
        )
        return [profile_from_row(row, order) for order, row in enumerate(rows, 1)]

    def add_profiles(self, profiles: Iterable[DimensionalProfile]) -> None:
        """Insert new critiques into `dimensional_profiles` in one transaction, as an import does.

        Raises:
            DatabaseRefused: when one of them violates a rule of the table, such as one critique per photograph.
        """
        with self.transaction() as connection:
            statement, more = self._insertion("dimensional_profiles", PROFILE_COLUMNS)
            connection.executemany(statement, ((*profile_column_values(profile), *more) for profile in profiles))

    def save_profile(self, profile: DimensionalProfile) -> None:
        """Save a critique that the program writes: a person's correction, or a critique made for the index.

        It goes to a separate table (`added_profiles`), where no rule of the person's schema can refuse it or make it
        replace their own rows. The last version of an id counts; earlier versions by a person stay in the table.
        """
        self.save_profiles((profile,))

    def save_profiles(self, profiles: Iterable[DimensionalProfile]) -> None:
        """Save critiques as `save_profile` does, all of them or, when `profiles` raises, none."""
        with self.transaction() as connection:
            statement, more = self._insertion("added_profiles", PROFILE_COLUMNS)
            for profile in profiles:
                connection.execute("DELETE FROM added_profiles WHERE id = ? AND origin = 'index'", (profile.id,))
                connection.execute(statement, (*profile_column_values(profile), *more))

    def _profiles(self, filters: Mapping[str, str | None]) -> list[DimensionalProfile]:
        where, values = where_clause(filters)
        rows = self._named_rows("dimensional_profiles", READ_PROFILE_COLUMNS, where, values, "ORDER BY {number}")
        added: dict[Any, dict[str, Any]] = {}
        if self.has_table("added_profiles"):
            for row in self._named_rows("added_profiles", READ_PROFILE_COLUMNS, where, values, "ORDER BY number"):
                added.pop(row["id"], None)
                added[row["id"]] = row
        kept = [row for row in rows if row["id"] not in added]
        return [profile_from_row(row, order) for order, row in enumerate((*kept, *added.values()), 1)]
