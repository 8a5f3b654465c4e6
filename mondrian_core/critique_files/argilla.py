"""Argilla's JSON: records with fields, suggestions and responses, as `Record.to_dict` writes and reads them.

A critique by a person is a response to each question, one by a model a suggestion. Ratings of Argilla are whole
numbers, so `metadata` keeps the exact scores, with what else a response can't hold.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mondrian_core.critique_files.columns import recognized_column
from mondrian_core.critique_files.json_forms import array_lines
from mondrian_core.critique_files.label_studio import photograph_from_address
from mondrian_core.critique_files.records import (
    HUMAN,
    MODEL,
    CritiqueRecord,
    FileRow,
    row_from_values,
    split_details,
    values_from_record,
)
from mondrian_core.rubric import DIMENSIONS, round_score
from mondrian_core.store.cells import parse_json_value
from mondrian_core.store.records import LIST_DETAILS

_QUESTIONS_BESIDES = ("overall_grade", "advisor_notes")
_REGION_COLUMNS = tuple(f"{name}_regions" for name in DIMENSIONS)  # in the metadata: Argilla has no question for boxes
_UNSUBMITTED = ("draft", "discarded")


def write_records(records: Iterable[CritiqueRecord]) -> Iterator[str]:
    """A JSON array of records, one in a line."""
    yield from array_lines(argilla_record(record) for record in records)


def argilla_record(record: CritiqueRecord) -> dict[str, Any]:
    """The record of a critique: questions are named like the columns, a list of texts is one text with a line each."""
    values = values_from_record(record)
    named, rest = split_details(record.details)
    answers: dict[str, Any] = {f"{name}_score": round_score(record.scores[name]) for name in DIMENSIONS}
    for name, value in values.items():
        if name.endswith(("_comment", "_recommendation")) or name in _QUESTIONS_BESIDES:
            answers[name] = value
        elif name in LIST_DETAILS:
            answers[name] = "\n".join(value)
    exact = {name: score for name, score in record.scores.items() if score != round_score(score)}
    lists = {name: named[name] for name in LIST_DETAILS if name in named and answers[name].split("\n") != named[name]}
    kept = rest | {name: value for name, value in named.items() if name not in answers}
    metadata: dict[str, Any] = {
        "advisor": record.advisor,
        "sha256": record.sha256,
        "critique_id": record.id,
        "origin": record.origin,
        "created_at": record.created_at or "",
        "digest": record.digest,
        **{f"exact_{name}_score": value for name, value in exact.items()},
        **{f"exact_{name}": json.dumps(value, ensure_ascii=False) for name, value in lists.items()},
        **{name: json.dumps(value) for name, value in values.items() if name.endswith("_regions")},
        **({"details": json.dumps(kept, ensure_ascii=False)} if kept else {}),
    }
    user = str(uuid.uuid5(uuid.NAMESPACE_URL, f"mondrian:advisor:{record.advisor}"))
    by_person = record.origin == HUMAN
    responses = {name: [{"value": value, "user_id": user}] for name, value in answers.items()} if by_person else {}
    suggestions = {name: {"value": value, "score": None, "agent": "mondrian"} for name, value in answers.items()}
    return {
        "id": record.id or None,
        "fields": {"image": record.photograph, "photograph": record.photograph},
        "metadata": metadata,
        "suggestions": {} if by_person else suggestions,
        "responses": responses,
        "vectors": {},
    }


def is_argilla_record(value: Any) -> bool:
    """True for an object that is a record of Argilla."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("fields"), Mapping)
        and ("responses" in value or "suggestions" in value)
    )


def row_from_argilla(place: str, value: Mapping[str, Any]) -> FileRow:
    """The critique of a record: the responses of one person, else the suggestions that Mondrian wrote.

    Argilla's records carry no times: of several people the one who answered last in the file counts.
    """
    fields, metadata = value["fields"], _mapping(value.get("metadata"))
    by_user = _answers_by_user(_mapping(value.get("responses")))
    suggested = _mapping(value.get("suggestions")) if metadata.get("origin") == MODEL else {}
    if not by_user and not suggested:
        return FileRow(place, None, "nobody has answered this record yet", skipped=True)
    if by_user:
        user, answers = list(by_user.items())[-1]
    else:
        user, answers = "", {name: _mapping(given).get("value") for name, given in suggested.items()}
    notice = f"{len(by_user)} people answered; the last one, {user[:80]}, counts" if len(by_user) > 1 else ""
    values = {**_photograph(fields, metadata), **_values_from_answers(answers, metadata)}
    for name, text in metadata.items():
        if (name == "details" or name in _REGION_COLUMNS) and isinstance(text, str):
            try:
                values[name] = parse_json_value(text)
            except ValueError:
                return FileRow(place, None, f"the metadata `{name}` is not valid JSON")
    written = {"id": metadata.get("critique_id"), "origin": metadata.get("origin")}
    unedited = row_from_values(place, {**values, **written, "created_at": metadata.get("created_at")}, notice)
    if unedited.record is None or unedited.record.digest == metadata.get("digest"):
        return unedited
    identity = {"id": metadata.get("critique_id")} if metadata.get("origin") == HUMAN else {}
    # an edited record has no date of its own: it is at least as new as the one that it was made from
    dates = {"created_at": metadata["created_at"]} if metadata.get("created_at") else {}
    return row_from_values(place, {**values, **identity, **dates, "origin": HUMAN}, notice)


def _answers_by_user(responses: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for question, given in responses.items():
        for response in given if isinstance(given, list) else []:
            if isinstance(response, Mapping) and response.get("status") not in _UNSUBMITTED:
                found.setdefault(str(response.get("user_id")), {})[question] = response.get("value")
    return found


def _values_from_answers(answers: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for question, answer in answers.items():
        name = recognized_column(question)
        if name is None:
            continue
        exact = metadata.get(f"exact_{name}")
        if name in LIST_DETAILS:
            lines = answer.split("\n") if isinstance(answer, str) else answer
            values[name] = _unchanged_list(exact, answer) or lines
        elif isinstance(exact, int | float) and isinstance(answer, int | float) and round_score(exact) == answer:
            values[name] = exact
        else:
            values[name] = answer
    return values


def _unchanged_list(exact: Any, answer: Any) -> list[str] | None:
    try:
        texts = parse_json_value(exact) if isinstance(exact, str) else None
    except ValueError:
        return None
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        return None
    return texts if "\n".join(texts) == answer else None


def _photograph(fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: metadata[name] for name in ("advisor", "sha256") if metadata.get(name)}
    if isinstance(fields.get("photograph"), str):
        return {**values, "photograph": fields["photograph"]}
    for key, given in fields.items():
        if recognized_column(key) == "photograph" and isinstance(given, str):
            values["photograph"] = photograph_from_address(given)
    return values


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
