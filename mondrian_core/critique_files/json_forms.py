"""Critiques as JSON objects: the form that Mondrian writes, answers of models, and flat objects with column names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mondrian_core.answer_entries import dimension_from_label, entries_of_answer
from mondrian_core.critique_files.columns import recognized_column
from mondrian_core.critique_files.records import (
    CritiqueRecord,
    FileRow,
    is_list_of_texts,
    row_from_values,
    values_from_record,
)
from mondrian_core.critique_regions import is_list_of_regions
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store.records import LIST_DETAILS

_PARTS = ("score", "comment", "recommendation", "regions")


def write_json_array(records: Iterable[CritiqueRecord]) -> Iterator[str]:
    """A JSON array with one critique in a line."""
    yield from array_lines(object_from_record(record) for record in records)


def write_json_lines(records: Iterable[CritiqueRecord]) -> Iterator[str]:
    """One critique in a line."""
    for record in records:
        yield f"{_dump(object_from_record(record))}\n"


def array_lines(values: Iterable[Any]) -> Iterator[str]:
    """The text of a JSON array with one item in a line."""
    before = "[\n"
    for value in values:
        yield f"{before}{_dump(value)}"
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def object_from_record(record: CritiqueRecord) -> dict[str, Any]:
    """The critique's values, those of the dimensions below `dimensional_analysis`, as in an answer of the service."""
    values = values_from_record(record)
    values["created_at"] = values["created_at"] or None
    dimensions = {}
    for name in DIMENSIONS:
        parts = {part: values.pop(f"{name}_{part}", None) for part in _PARTS}
        dimensions[name] = {part: value for part, value in parts.items() if value is not None}
    grade = values.pop("overall_grade")
    head = {name: values.pop(name) for name in ("advisor", "photograph", "sha256", "id", "origin", "created_at")}
    return {**head, "dimensional_analysis": dimensions, "overall_grade": grade, **values}


def row_from_object(place: str, value: Mapping[str, Any]) -> FileRow:
    """The critique in an object of any of the forms; what no column takes of a nested one is kept in its details."""
    return row_from_values(place, values_from_object(value))


def values_from_object(value: Mapping[str, Any]) -> dict[str, Any]:
    """Values by column of an object: an answer with `dimensional_analysis` or `dimensions`, or flat column names."""
    entries = entries_of_answer(value)
    values: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, given in value.items():
        name = recognized_column(key)
        if key in ("dimensional_analysis", "dimensions") and entries is not None:
            continue
        if name is None or name in values:
            rest[key] = given
        elif name in LIST_DETAILS and (isinstance(given, str) or is_list_of_texts(given)):
            values[name] = given
        elif name in LIST_DETAILS:
            rest |= {key: given} if given else {}
        elif name != "details" and isinstance(given, list | dict):
            values[name] = _text_of_answer(given)
        else:
            values[name] = given
    if entries is None:
        return values
    parts, unread = _dimension_values(entries)
    details = {**(_mapping(values.get("details"))), **rest, **({"dimensional_analysis": unread} if unread else {})}
    return {**values, **parts, **({"details": details} if details else {})}


def _dimension_values(entries: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Values by column, what the entries hold besides: other dimensions, regions that can't be read.)"""
    values: dict[str, Any] = {}
    unread: dict[str, Any] = {}
    for label, entry in entries.items():
        name = dimension_from_label(label)
        if name is None:
            unread[label] = dict(entry)
            continue
        read = [part for part in _PARTS if part in entry and (part != "regions" or is_list_of_regions(entry[part]))]
        values |= {f"{name}_{part}": entry[part] for part in read}
        if more := {key: part for key, part in entry.items() if key not in read}:
            unread[name] = more
    return values, unread


def _text_of_answer(given: Any) -> Any:
    """The one value in what annotation tools write around it: `["text"]`, `{"text": ["text"]}`, `[{"rating": 8}]`."""
    while isinstance(given, list | dict) and len(given) == 1:
        given = next(iter(given.values())) if isinstance(given, dict) else given[0]
    return "\n".join(given) if is_list_of_texts(given) else given


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
