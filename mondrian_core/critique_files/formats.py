"""The formats of critique files. Commands, pages and documentation are made from `CRITIQUE_FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mondrian_core.critique_files.analyses import AnalysisOrigin, read_analysis
from mondrian_core.critique_files.argilla import is_argilla_record, row_from_argilla, write_records
from mondrian_core.critique_files.json_forms import row_from_object, write_json_array, write_json_lines
from mondrian_core.critique_files.label_studio import is_task, row_from_task, write_tasks
from mondrian_core.critique_files.records import CritiqueRecord, FileRow
from mondrian_core.critique_files.streamed_json import (
    MAX_VALUE_CHARACTERS,
    StreamedValue,
    array_items,
    is_json_array,
    json_lines,
)
from mondrian_core.critique_files.tables import read_table, write_table
from mondrian_core.errors import BadInput
from mondrian_core.store.cells import parse_json_value
from mondrian_core.text_decoding import UnknownEncodingError, file_encoding

CSV, JSON, JSON_LINES, LABEL_STUDIO, ARGILLA, ANALYSIS = "csv", "json", "jsonl", "label-studio", "argilla", "analysis"
_LISTS = ("critiques", "records", "tasks", "items")
_START_CHARACTERS = 4096


@dataclass(frozen=True, kw_only=True)
class CritiqueFormat:
    """A format of critique files.

    Attributes:
        name: as the options `--format` take it.
        title: for people.
        suffixes: of its files; the first one is given to exported files.
        media_type: for HTTP.
        meaning: for people.
        write: the text of a file, in pieces; None for a format that is only read.
        encoding: of the written text.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    media_type: str
    meaning: str
    write: Callable[[Iterable[CritiqueRecord]], Iterator[str]] | None
    encoding: str = "utf-8"


CRITIQUE_FORMATS: Mapping[str, CritiqueFormat] = {
    each.name: each
    for each in (
        CritiqueFormat(
            name=CSV,
            title="CSV",
            suffixes=(".csv", ".tsv", ".txt"),
            media_type="text/csv",
            meaning="a table for Excel, Numbers, LibreOffice: one critique in a row",
            write=write_table,
            encoding="utf-8-sig",  # without the mark Excel reads umlauts as Windows-1252
        ),
        CritiqueFormat(
            name=JSON,
            title="JSON",
            suffixes=(".json",),
            media_type="application/json",
            meaning="an array with one critique in a line",
            write=write_json_array,
        ),
        CritiqueFormat(
            name=JSON_LINES,
            title="JSON Lines",
            suffixes=(".jsonl", ".ndjson"),
            media_type="application/jsonl",
            meaning="one critique in a line",
            write=write_json_lines,
        ),
        CritiqueFormat(
            name=LABEL_STUDIO,
            title="Label Studio",
            suffixes=(".json",),
            media_type="application/json",
            meaning="tasks with annotations and predictions; its labeling configuration is exported too",
            write=write_tasks,
        ),
        CritiqueFormat(
            name=ARGILLA,
            title="Argilla",
            suffixes=(".json",),
            media_type="application/json",
            meaning="records with fields, suggestions and responses",
            write=write_records,
        ),
        CritiqueFormat(
            name=ANALYSIS,
            title="older analysis",
            suffixes=(".md", ".markdown"),
            media_type="text/markdown",
            meaning="a file of `analysis_md/`: one critique by a model, in a fence; read only",
            write=None,
        ),
    )
}
WRITTEN_FORMATS = tuple(name for name, each in CRITIQUE_FORMATS.items() if each.write is not None)


@dataclass(frozen=True)
class CritiqueFile:
    """A file to import: where it is, and its name for people and for its suffix."""

    path: Path
    name: str


def critique_format(name: str) -> CritiqueFormat:
    """The format of that name.

    Raises:
        BadInput: there is none.
    """
    if name not in CRITIQUE_FORMATS:
        raise BadInput(f"There is no format '{name[:40]}'.", f"Use one of {', '.join(CRITIQUE_FORMATS)}.")
    return CRITIQUE_FORMATS[name]


def written_format(name: str) -> CritiqueFormat:
    """The format of that name, to export.

    Raises:
        BadInput: there is none, or it is only read.
    """
    kind = critique_format(name)
    if kind.write is None:
        raise BadInput(f"The format {name} is only read.", f"Use one of {', '.join(WRITTEN_FORMATS)}.")
    return kind


def file_rows(
    file: CritiqueFile, given_format: str | None, origins: Mapping[str, AnalysisOrigin], notices: list[str]
) -> Iterator[FileRow]:
    """The rows of a file, read at the memory of one row.

    Args:
        file: to read.
        given_format: name of its format; None: from its content and suffix. Objects of JSON are recognized one by one.
        origins: what the workspace's jobs say about analyses.
        notices: receives what a person should know about the file.

    Raises:
        BadInput: the file is not what it seems to be; rows before that place were yielded.
    """
    if given_format is not None:
        critique_format(given_format)
    try:
        encoding = file_encoding(file.path)
    except UnknownEncodingError as error:
        raise BadInput(f"{file.name} can't be read: {error}.", "Save it as UTF-8 and import it again.") from None
    if encoding not in ("utf-8-sig",):
        notices.append(f"{file.name}: read as {encoding.upper()}")
    with file.path.open(encoding=encoding, newline="") as stream:
        kind = given_format or _recognized(stream, file)
        if kind == CSV:
            yield from read_table(stream, file.name, notices)
        elif kind != ANALYSIS:
            by_line = kind == JSON_LINES or Path(file.name).suffix.lower() in CRITIQUE_FORMATS[JSON_LINES].suffixes
            yield from _json_rows(stream, file, by_line=by_line)
    if kind == ANALYSIS:
        yield from read_analysis(file.path, origins)


def _recognized(stream: TextIO, file: CritiqueFile) -> str:
    """The kind of file: `CSV`, `ANALYSIS`, or `JSON` for all that is JSON."""
    start = stream.read(_START_CHARACTERS).lstrip("\ufeff \t\r\n")
    stream.seek(0)
    suffix = Path(file.name).suffix.lower()
    if not start and suffix not in CRITIQUE_FORMATS[JSON_LINES].suffixes:
        raise BadInput(f"{file.name} is empty.", "Export it again from the program that wrote it.")
    if suffix in CRITIQUE_FORMATS[ANALYSIS].suffixes or start.startswith("```"):
        return ANALYSIS
    if not start or start[0] in "[{":
        return JSON
    if suffix in (*CRITIQUE_FORMATS[JSON].suffixes, *CRITIQUE_FORMATS[JSON_LINES].suffixes):
        raise BadInput(f"{file.name} is not valid JSON: it starts with {start[:1]!r}.", "Export it again.")
    if "\0" in start:
        raise BadInput(f"{file.name} is not a text file.", "Import CSV, JSON, JSON Lines or an older analysis.")
    return CSV


def _json_rows(stream: TextIO, file: CritiqueFile, *, by_line: bool) -> Iterator[FileRow]:
    if by_line:
        values, noun = json_lines(stream), "line"
    elif is_json_array(stream):
        values, noun = array_items(stream, file.name), "entry"
    elif (single := _single_value(stream)) is not None:
        values, noun = iter(single), "entry"
    else:
        values, noun = json_lines(stream), "line"
    for item in values:
        place = f"{noun} {item.number}"
        yield FileRow(place, None, item.problem) if item.problem else _row(place, item.value)


def _single_value(stream: TextIO) -> list[StreamedValue] | None:
    """The critiques of a file that is one object over several lines; None for a file with one object in a line."""
    first = stream.readline(MAX_VALUE_CHARACTERS)
    stream.seek(0)
    try:
        value = parse_json_value(first)
    except ValueError:
        text = stream.read(MAX_VALUE_CHARACTERS + 1)
        stream.seek(0)
        try:
            value = parse_json_value(text) if len(text) <= MAX_VALUE_CHARACTERS else None
        except ValueError:
            return None
    else:
        if stream.readline() and stream.readline(2):
            stream.seek(0)
            return None
        stream.seek(0)
    lists = [value[name] for name in _LISTS if isinstance(value, dict) and isinstance(value.get(name), list)]
    found = lists[0] if lists else [value]
    return [StreamedValue(number, each) for number, each in enumerate(found, 1)]


def _row(place: str, value: object) -> FileRow:
    if is_task(value):
        return row_from_task(place, value)  # type: ignore[arg-type]
    if is_argilla_record(value):
        return row_from_argilla(place, value)  # type: ignore[arg-type]
    if isinstance(value, dict):
        return row_from_object(place, value)
    return FileRow(place, None, "it is not a JSON object")
