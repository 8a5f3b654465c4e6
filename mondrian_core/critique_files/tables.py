"""Tables of critiques: CSV as spreadsheets write it, in any of their dialects, and CSV that every spreadsheet reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from mondrian_core.critique_files.columns import (
    COLUMN_NAMES,
    cell_from_value,
    recognized_columns,
    values_from_cells,
)
from mondrian_core.critique_files.records import CritiqueRecord, FileRow, row_from_values, values_from_record
from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS

DELIMITERS = (",", ";", "\t", "|")
MAX_HEADER_CHARACTERS = 100_000


def write_table(records: Iterable[CritiqueRecord]) -> Iterator[str]:
    """The lines of a CSV file with all columns, as RFC 4180 has it; texts that look like formulas are guarded."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)

    def line(cells: Sequence[str]) -> str:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(cells)
        return buffer.getvalue()

    yield line(COLUMN_NAMES)
    for record in records:
        values = values_from_record(record)
        yield line([cell_from_value(values.get(name)) for name in COLUMN_NAMES])


def read_table(stream: TextIO, name: str, notices: list[str]) -> Iterator[FileRow]:
    """The rows of a CSV file, numbered as a spreadsheet does: the titles are row 1.

    Args:
        stream: opened with `newline=""`.
        name: of the file, for messages.
        notices: receives what a person should know about the file, such as columns that are not read.

    Raises:
        BadInput: it is not a table of critiques, or no CSV from some line on.
    """
    delimiter, titles = _header(stream, name)
    names, ignored = recognized_columns(titles)
    if ignored:
        notices.append(f"{name}: columns that are not read: {', '.join(title.strip()[:40] for title in ignored[:20])}")
    lines = csv.reader(stream, delimiter=delimiter, strict=True)
    number = 1
    while True:
        number += 1
        try:
            cells = next(lines, None)
        except csv.Error as error:
            raise BadInput(
                f"{name} is not valid CSV in row {number} ({error}).",
                "Check the quotes of that row, or save the file again from the spreadsheet as CSV UTF-8.",
            ) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield _row(f"row {number}", names, cells)


def _row(place: str, names: Sequence[str | None], cells: Sequence[str]) -> FileRow:
    if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
        problem = f"it has {len(cells)} cells for {len(names)} columns; put texts that contain the separator in quotes"
        return FileRow(place, None, problem)
    try:
        values = values_from_cells(names, cells)
    except ValueError as error:
        return FileRow(place, None, f"details: it is not valid JSON ({error})")
    return row_from_values(place, values)


def _header(stream: TextIO, name: str) -> tuple[str, list[str]]:
    """The delimiter and the titles; the stream is left behind them."""
    first = _record_text(stream, name)
    declared = first.strip().lower()
    if declared.startswith("sep=") and len(declared) == 5:
        delimiter = first.strip()[4]
        return delimiter, _checked_titles(_cells(_record_text(stream, name), delimiter), name)
    readings = [(delimiter, _cells(first, delimiter)) for delimiter in DELIMITERS]
    delimiter, titles = max(readings, key=lambda each: _known_titles(each[1]))
    return delimiter, _checked_titles(titles, name)


def _known_titles(titles: list[str]) -> int:
    return sum(name is not None for name in recognized_columns(titles)[0])


def _record_text(stream: TextIO, name: str) -> str:
    """The text of the next record: lines until the quotes are closed."""
    text = ""
    while line := stream.readline(MAX_HEADER_CHARACTERS):
        text += line
        if text.count('"') % 2 == 0 and (text.strip() or not text):
            break
        if len(text) > MAX_HEADER_CHARACTERS:
            raise BadInput(f"{name} has no line of titles.", _TITLES_NEEDED)
    return text


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text.strip("\r\n"), newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _checked_titles(titles: list[str], name: str) -> list[str]:
    known = set(recognized_columns(titles)[0])
    missing = [each for each in DIMENSIONS if f"{each}_score" not in known]
    if len(missing) == len(DIMENSIONS):
        raise BadInput(f"{name} is not a table of critiques: its first line names no dimension.", _TITLES_NEEDED)
    if not known & {"photograph", "sha256"}:
        raise BadInput(f"{name} has no column that names the photograph.", _TITLES_NEEDED)
    return titles


_TITLES_NEEDED = (
    "The first line must hold titles such as photograph, composition_score, composition_comment; "
    "`mondrian export --format csv` writes a file with all of them."
)
