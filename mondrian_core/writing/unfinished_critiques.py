"""Critiques that a person is writing: the table `unfinished_critiques`, which keeps every change.

A row belongs to an advisor and a photograph (its SHA-256). Each change states the revision that it was made from, so
that two tabs or devices can't overwrite each other unseen. A saved critique keeps its row, for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from mondrian_core.errors import BadInput
from mondrian_core.store import Cells, Store, utc_timestamp
from mondrian_core.writing.critique_entry import CritiqueEntry

TABLE = "unfinished_critiques"
_COLUMNS = ("advisor_id", "sha256", "image_path", "entry", "revision", "state", "draft", "updated_at")


class WritingState(StrEnum):
    """What a person did with a photograph."""

    OPEN = "open"  # began to write, or put it back
    SAVED = "saved"
    SKIPPED = "skipped"  # comes again at the end
    EXCLUDED = "excluded"  # never comes again, until it is put back


@dataclass(frozen=True, kw_only=True)
class UnfinishedCritique:
    """A row of the table.

    Attributes:
        advisor: id.
        sha256: of the photograph's bytes.
        image_path: below the workspace.
        entry: the critique as typed.
        revision: counts the changes; 0 when there is no row yet.
        state: of the photograph.
        draft: the base model's draft that was shown: `job`, `seen_at`, `scored_before` (the dimensions that already had
            a score) and `scores`; empty when none was.
        updated_at: as `utc_timestamp` spells it; None when there is no row yet.
    """

    advisor: str
    sha256: str
    image_path: str
    entry: CritiqueEntry = field(default_factory=CritiqueEntry)
    revision: int = 0
    state: WritingState = WritingState.OPEN
    draft: Mapping[str, Any] = field(default_factory=dict)
    updated_at: str | None = None


class ChangedElsewhere(BadInput):
    """Another tab or device changed the same critique; `current` is what is stored."""

    def __init__(self, current: UnfinishedCritique) -> None:
        self.current = current
        super().__init__(
            "This critique was changed in another tab or on another device.",
            "Use the stored version, or send yours again with its revision.",
        )


class UnfinishedCritiques:
    """The critiques that are being written in a workspace. Reading works with a store opened for reading.

    Raises (all methods): what `Store` raises.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, advisor: str) -> dict[str, UnfinishedCritique]:
        """All rows of an advisor by SHA-256, the most recently changed last; rows that can't be read are left out."""
        found = self._read("advisor_id = ?", (advisor,))
        return {each.sha256: each for each in found}

    def get(self, advisor: str, sha256: str, image_path: str) -> UnfinishedCritique:
        """The row of a photograph; an empty one with revision 0 when there is none."""
        found = self._read("advisor_id = ? AND sha256 = ?", (advisor, sha256))
        return found[0] if found else UnfinishedCritique(advisor=advisor, sha256=sha256, image_path=image_path)

    def write(self, changed: UnfinishedCritique) -> UnfinishedCritique:
        """Store a change that was made from revision `changed.revision`; returns it with the next revision.

        Raises:
            ChangedElsewhere: the stored revision is another one.
        """
        with self._store.transaction() as connection:
            current = self.get(changed.advisor, changed.sha256, changed.image_path)
            if current.revision != changed.revision:
                raise ChangedElsewhere(current)
            connection.execute(
                f"INSERT OR REPLACE INTO {TABLE} ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",
                (
                    changed.advisor,
                    changed.sha256,
                    changed.image_path,
                    changed.entry.model_dump_json(),
                    changed.revision + 1,
                    changed.state.value,
                    json.dumps(dict(changed.draft)),
                    utc_timestamp(),
                ),
            )
            return self.get(changed.advisor, changed.sha256, changed.image_path)

    def _read(self, where: str, values: tuple[str, ...]) -> list[UnfinishedCritique]:
        if not self._store.has_table(TABLE):
            return []
        query = f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} WHERE {where} ORDER BY updated_at, sha256"
        rows = (dict(zip(_COLUMNS, row, strict=True)) for row in self._store.select(query, values))
        return [found for row in rows if (found := _unfinished(row)) is not None]


def _unfinished(row: Mapping[str, Any]) -> UnfinishedCritique | None:
    """None for a row whose key was damaged; an entry or state that can't be read is empty, with its revision."""
    cells = Cells(row)
    advisor, sha256 = cells.label("advisor_id"), cells.label("sha256")
    if not advisor or not sha256:
        return None
    try:
        entry = CritiqueEntry.model_validate_json(cells.text("entry") or "{}")
    except ValidationError:
        entry = CritiqueEntry()
    state = cells.label("state")
    return UnfinishedCritique(
        advisor=advisor,
        sha256=sha256,
        image_path=cells.label("image_path") or "",
        entry=entry,
        revision=cells.integer("revision"),
        state=WritingState(state) if state in set(WritingState) else WritingState.OPEN,
        draft=cells.json_object("draft") or {},
        updated_at=cells.timestamp("updated_at"),
    )
