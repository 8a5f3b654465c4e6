"""The columns of a table of critiques: their names, what they hold, and the titles by which a file's are recognized.

Reader, writer and the page about the formats share `COLUMNS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mondrian_core.critique_files.records import is_list_of_texts
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.store.cells import parse_json_value
from mondrian_core.store.records import LIST_DETAILS

# Spreadsheets run a cell that starts with one of these as a formula. Such a cell gets an apostrophe in front, and so
# does one that starts with apostrophes before it; the reader takes one apostrophe away from exactly those cells.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED = re.compile("'+[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


@dataclass(frozen=True)
class FileColumn:
    """A column: its name, what it holds, and other titles (lower case, words separated by blanks)."""

    name: str
    meaning: str
    titles: tuple[str, ...] = ()


_PARTS = (
    ("score", "from 0 to 10: `8`, `7.5`, `7,5` or `8/10`", ("", "points", "mark", "rating")),
    ("comment", "text", ("comments", "note", "notes", "remark", "remarks", "text", "critique")),
    ("recommendation", "optional text", ("recommendations", "advice", "suggestion", "suggestions")),
    (
        "regions",
        "optional, the places that the recommendation means: boxes [left, top, right, bottom] from 0 to 1, as JSON",
        ("region", "boxes", "places"),
    ),
)

COLUMNS: tuple[FileColumn, ...] = (
    FileColumn(
        "advisor", "id of the advisor; without it, the one of `--advisor`", ("advisor id", "critic", "reviewer")
    ),
    FileColumn(
        "photograph",
        "path or file name of the photograph",
        ("photo", "image", "image path", "picture", "path", "file", "filename", "file name", "file path"),
    ),
    FileColumn("sha256", "hash of the photograph's bytes, instead of its path or to check it", ("sha", "hash")),
    FileColumn("id", "id of the critique", ("critique id", "profile id")),
    FileColumn("origin", "`human` (default) or `model`", ()),
    FileColumn("created_at", "when it was written", ("created", "date", "written", "written at", "updated at", "time")),
    *(
        FileColumn(f"{name}_{part}", f"{DIMENSION_TITLES[name]}: {meaning}", titles)
        for part, meaning, titles in _PARTS
        for name in DIMENSIONS
    ),
    FileColumn(
        "overall_grade",
        "text such as 8.1; without it, the mean of the scores",
        ("grade", "overall", "overall score", "overall rating", "total"),
    ),
    FileColumn("advisor_notes", "optional text", ("notes", "technical notes", "advisor note", "remarks")),
    FileColumn("image_description", "optional text", ("description", "photograph description")),
    FileColumn("strengths", "optional, one in a line", ("key strengths", "strength")),
    FileColumn(
        "priority_improvements", "optional, one in a line", ("improvements", "priorities", "priority improvement")
    ),
    FileColumn("details", "a JSON object with everything else that the critique says", ()),
)
COLUMN_NAMES = tuple(column.name for column in COLUMNS)


def recognized_column(title: str) -> str | None:
    """The name of the column that a title means; None for none.

    Case, order, punctuation, `&` and the British spelling don't matter: "Focus & Sharpness", "focus sharpness score"
    and "FOCUS_SHARPNESS_SCORE" are one column.
    """
    return _TITLES.get(_words(title))


def recognized_columns(titles: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """(Column names by position, titles that mean none). The first of two titles for one column counts."""
    names: list[str | None] = []
    for title in titles:
        name = recognized_column(title)
        names.append(None if name in names else name)
    return names, [title for title, name in zip(titles, names, strict=True) if name is None and title.strip()]


def _words(title: str) -> str:
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title).lower().replace("colour", "color")
    return " ".join(word for word in re.findall(r"[a-z]+", spelled) if word != "and")


def _title_table() -> dict[str, str]:
    table: dict[str, str] = {}
    for column in COLUMNS:
        dimension, _, part = column.name.rpartition("_")
        titles = [column.name, *column.titles]
        if dimension in DIMENSIONS and part in [each[0] for each in _PARTS]:
            titles = [f"{dimension} {title}" for title in (part, *column.titles)]
            titles += [f"{title} {dimension}" for title in (part, *column.titles) if title]
        for title in titles:
            table.setdefault(_words(title), column.name)
    return table


_TITLES = _title_table()


def cell_from_value(value: Any) -> str:
    """A value as the text of a cell, guarded against being run as a formula. `value_from_cell` is its inverse."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = value if isinstance(value, str) else _text_of(value)
        return f"'{text}" if _FORMULA.match(text) else text
    return decimal_text(value)


def value_from_cell(name: str, cell: str) -> Any:
    """The value of a cell of the column `name`.

    Raises:
        ValueError: the column holds JSON, and the cell doesn't.
    """
    text = cell[1:] if _GUARDED.match(cell) else cell
    if not text.strip():
        return None if name in (*LIST_DETAILS, "details") or name.endswith("_regions") else text
    if name in LIST_DETAILS:
        return _list_of(text)
    if name == "details" or name.endswith("_regions"):
        return parse_json_value(text)
    return text


def decimal_text(value: float) -> str:
    """A number without an exponent: every digit that reading it back needs, and no more."""
    return str(value) if isinstance(value, int) else format(Decimal(repr(value)), "f")


def _text_of(value: Any) -> str:
    if value is None:
        return ""
    if is_list_of_texts(value):
        joined = "\n".join(value)
        if _list_of(joined) == value:
            return joined
    return json.dumps(value, ensure_ascii=False)


def _list_of(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if is_list_of_texts(value):
            return list(value)
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def values_from_cells(names: Sequence[str | None], cells: Sequence[str]) -> Mapping[str, Any]:
    """Values by column of one line of a table.

    Raises:
        ValueError: `details` is not JSON.
    """
    return {name: value_from_cell(name, cell) for name, cell in zip(names, cells, strict=False) if name is not None}
