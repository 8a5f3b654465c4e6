"""The photographs of a workspace: the table `photographs`.

A row says where the bytes of a photograph are, and which advisor it belongs to. One of `ALL_ADVISORS` belongs to every
advisor, except where it is in another advisor's portfolio. Critiques don't depend on it: removing or moving a
photograph removes no critique.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mondrian_core.settings import ALL_ADVISORS
from mondrian_core.store import Cells, Store, utc_timestamp

_COLUMNS = (
    "sha256",
    "image_path",
    "advisor_id",
    "portfolio",
    "width",
    "height",
    "taken_at",
    "camera",
    "imported_at",
)
_ADD = (
    f"INSERT INTO photographs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (advisor_id, sha256) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in ("sha256", "advisor_id", "imported_at"))
)

_OF_ADVISOR = (
    "(advisor_id = ? OR (advisor_id = ? AND sha256 NOT IN "
    "(SELECT sha256 FROM photographs WHERE advisor_id = ? OR portfolio)))"
)
_REPLACED = "DELETE FROM photographs WHERE advisor_id = ? AND image_path = ? AND sha256 <> ?"


def path_below_source(path: str) -> str:
    """A path of the database, possibly from another machine, relative to source/ and with "/"."""
    return path.replace("\\", "/").rpartition("source/")[2]


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A photograph of the workspace.

    Attributes:
        sha256: of the file's bytes as they are in the workspace.
        image_path: below the workspace, with "/".
        advisor: id, or `ALL_ADVISORS`.
        portfolio: True for the advisor's own work, False for a photograph that the advisor critiques.
        width: upright, in pixels.
        height: upright, in pixels.
        taken_at: by the camera's clock, ISO 8601 without offset; None when unknown.
        camera: `exif.camera_facts`, never a place.
        imported_at: as `utc_timestamp` spells it; None for now.
    """

    sha256: str
    image_path: str
    advisor: str
    portfolio: bool
    width: int
    height: int
    taken_at: str | None = None
    camera: Mapping[str, str] = field(default_factory=dict)
    imported_at: str | None = None


class Photographs:
    """The photographs of a workspace. Reading works with a store that was opened for reading.

    Raises (all methods): what `Store` raises.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, *photographs: Photograph) -> None:
        """Add photographs in one transaction.

        A known one (same advisor and bytes) is updated and keeps its first time. One whose file now has other bytes is
        replaced: a path names one photograph of an advisor.
        """
        rows = [
            (
                each.sha256,
                each.image_path,
                each.advisor,
                int(each.portfolio),
                each.width,
                each.height,
                each.taken_at,
                json.dumps(dict(each.camera)),
                each.imported_at or utc_timestamp(),
            )
            for each in photographs
        ]
        with self._store.transaction() as connection:
            connection.executemany(_REPLACED, [(row[2], row[1], row[0]) for row in rows])
            connection.executemany(_ADD, rows)

    def find(self, advisor: str | None = None, portfolio: bool | None = None) -> list[Photograph]:
        """Photographs by advisor, then by path; None is any.

        Those of an advisor are its own ones and those of all advisors, each with the advisor's id.
        """
        return list(self._rows(advisor, "portfolio = ?" if portfolio is not None else "TRUE", portfolio))

    def count(self, advisor: str) -> int:
        """How many photographs `find` gives for an advisor."""
        return self._count(*_of_advisor(advisor))

    def count_own(self, advisor: str) -> int:
        """How many photographs belong to an advisor alone."""
        return self._count("advisor_id = ?", (advisor,))

    def recorded_paths(self) -> set[str]:
        """The paths of all photographs, below the workspace."""
        if not self._store.has_table("photographs"):
            return set()
        return {row[0] for row in self._store.select("SELECT image_path FROM photographs") if isinstance(row[0], str)}

    def get(self, sha256: str, advisor: str | None = None) -> Photograph | None:
        """The photograph with these bytes, of an advisor or of the first who has it; None when there is none."""
        return next(self._rows(advisor, "sha256 = ?", sha256), None)

    def paths(self, sha256: str) -> list[str]:
        """Where a photograph with these bytes was seen, each path once: in this table, the index, and the jobs.

        Below the workspace with "/", except what a person named outside it; a file may be gone.
        """
        places = ["SELECT 'source/' || filename FROM jobs WHERE photograph_sha256 = ? AND filename NOT LIKE '/%'"]
        places += ["SELECT filename FROM jobs WHERE photograph_sha256 = ? AND filename LIKE '/%'"]
        if not self._store.has_column("jobs", "photograph_sha256"):
            places = []
        tables = [name for name in ("photographs", "embeddings") if self._store.has_table(name)]
        places = [*(f"SELECT image_path FROM {name} WHERE sha256 = ?" for name in tables), *places]
        if not places:
            return []
        rows = self._store.select(" UNION ALL ".join(places), (sha256,) * len(places))
        return list(dict.fromkeys(row[0] for row in rows if isinstance(row[0], str)))

    def _rows(self, advisor: str | None, condition: str, value: Any) -> Iterator[Photograph]:
        if not self._store.has_table("photographs"):
            return
        where, values = ("TRUE", ()) if advisor is None else _of_advisor(advisor)
        order = "advisor_id, image_path" if advisor is None else "image_path"
        query = f"SELECT {', '.join(_COLUMNS)} FROM photographs WHERE {where} AND {condition} ORDER BY {order}"
        for row in self._store.select(query, values if value is None else (*values, value)):
            found = _photograph(dict(zip(_COLUMNS, row, strict=True)))
            if found is not None:
                yield found if advisor is None else replace(found, advisor=advisor)

    def _count(self, where: str, values: tuple[str, ...]) -> int:
        if not self._store.has_table("photographs"):
            return 0
        ((count,),) = self._store.select(f"SELECT count(*) FROM photographs WHERE {where}", values)
        return int(count)


def _of_advisor(advisor: str) -> tuple[str, tuple[str, ...]]:
    """Condition and values that select what an advisor has."""
    return _OF_ADVISOR, (advisor, ALL_ADVISORS, advisor)


def _photograph(row: Mapping[str, Any]) -> Photograph | None:
    """None for a row that somebody made unreadable; the next import or rescan writes it again."""
    cells = Cells(row)
    sha256, path, advisor = cells.label("sha256"), cells.label("image_path"), cells.label("advisor_id")
    if not sha256 or not path or not advisor:
        return None
    camera = cells.json_object("camera") or {}
    return Photograph(
        sha256=sha256,
        image_path=path,
        advisor=advisor,
        portfolio=cells.boolean("portfolio"),
        width=cells.integer("width"),
        height=cells.integer("height"),
        taken_at=cells.label("taken_at"),
        camera={str(name): str(fact) for name, fact in camera.items()},
        imported_at=cells.timestamp("imported_at"),
    )
