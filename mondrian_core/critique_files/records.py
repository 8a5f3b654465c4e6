"""A critique as a file states it, and the one validation that every format shares.

A reader turns each row into plain values by column (`composition_score`, `created_at`, ...; see `columns`), whatever
its format; `record_from_values` makes a `CritiqueRecord` of them or says what is wrong with the row.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeGuard

from mondrian_core.critique_parsing import parse_score
from mondrian_core.critique_regions import is_list_of_regions, regions_as_lists, regions_from_value
from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_SCORE,
    MIN_SCORE,
    grade_from_scores,
    has_visible_character,
    int_if_whole,
)
from mondrian_core.store import DimensionalProfile
from mondrian_core.store.cells import normalized_timestamp
from mondrian_core.store.records import LIST_DETAILS, REGIONS

HUMAN, MODEL, INDEX = "human", "model", "index"
ORIGINS = {"human": HUMAN, "person": HUMAN, "": HUMAN, "model": MODEL}
TEXT_DETAILS = ("advisor_notes", "image_description")
MAX_TEXT_CHARACTERS = 20_000  # of one comment; no comment that people wrote comes near
MAX_LABEL_CHARACTERS = 1000  # of a path, an id, a grade
_DECIMAL_COMMA = re.compile(r"\s*\d{1,2},\d{1,6}\s*(?:/\s*10)?\s*")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_GERMAN_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:,?\s+(\d{1,2}):(\d\d)(?::(\d\d))?)?")


class RowProblem(ValueError):
    """A row that is not a critique; the text says why and what to change."""


@dataclass(frozen=True, kw_only=True)
class CritiqueRecord:
    """A complete critique as a file states it.

    Attributes:
        photograph: path or file name; "" when only the hash names it.
        sha256: of the photograph's bytes; "" when the file doesn't say.
        advisor: id; "" when the file doesn't say.
        id: of the critique; "" when the file doesn't say.
        origin: "human" or "model".
        created_at: as `utc_timestamp` spells it; "" when the file leaves it open, None when it has no such field.
        scores: by dimension, 0-10.
        comments: by dimension.
        recommendations: by dimension, for those that have one.
        overall_grade: text.
        details: what the critique says besides its dimensions.
        notice: what a person should know about how the row was read; "" for nothing.
    """

    photograph: str
    sha256: str
    advisor: str
    id: str
    origin: str
    created_at: str | None
    scores: Mapping[str, float]
    comments: Mapping[str, str]
    recommendations: Mapping[str, str]
    overall_grade: str
    details: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""

    @property
    def digest(self) -> str:
        """Equal for critiques that say the same, whenever and of whatever photograph they were written."""
        return content_digest(self.scores, self.comments, self.recommendations, self.overall_grade, self.details)


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file: its place for people ("row 7"), and the critique, or why there is none.

    `skipped` is true for a row that holds no critique yet, such as a task that nobody has annotated; `photograph` is
    what a row without a critique names.
    """

    place: str
    record: CritiqueRecord | None
    problem: str = ""
    skipped: bool = False
    photograph: str = ""


def content_digest(
    scores: Mapping[str, float],
    comments: Mapping[str, str],
    recommendations: Mapping[str, str],
    overall_grade: str,
    details: Mapping[str, Any],
) -> str:
    """SHA-256 over what a critique says.

    Args:
        scores: by dimension, 0-10.
        comments: by dimension.
        recommendations: by dimension.
        overall_grade: normalized.
        details: JSON values.
    """
    dimensions = [[float(scores[name]), comments[name], recommendations.get(name, "")] for name in DIMENSIONS]
    return hashlib.sha256(json.dumps([dimensions, overall_grade, dict(details)], sort_keys=True).encode()).hexdigest()


def row_from_values(place: str, values: Mapping[str, Any], notice: str = "") -> FileRow:
    """The row with its critique, or with its problem."""
    try:
        return FileRow(place, record_from_values(values, notice))
    except RowProblem as problem:
        named = values.get("photograph")
        return FileRow(place, None, str(problem), photograph=named[:200] if isinstance(named, str) else "")


def record_from_values(values: Mapping[str, Any], notice: str = "") -> CritiqueRecord:
    """The critique that values by column state.

    Raises:
        RowProblem: naming everything that is missing or wrong.
    """
    problems: list[str] = []
    scores = _scores(values, problems)
    comments = _comments(values, problems)
    labels = {name: _label(values, name, problems) for name in ("photograph", "sha256", "advisor", "id", "origin")}
    created_at = _created_at(values, problems)
    origin = ORIGINS.get(labels["origin"].strip().lower())
    if origin is None:
        problems.append(f"the origin '{labels['origin'][:40]}' is neither human nor model")
    if not labels["photograph"] and not labels["sha256"]:
        problems.append("it names no photograph (columns `photograph` and `sha256`)")
    recommendations = {
        name: text for name in DIMENSIONS if (text := _text(values.get(f"{name}_recommendation"), name, problems))
    }
    details = _details(values, problems)
    grade = _label(values, "overall_grade", problems)
    if problems:
        raise RowProblem("; ".join(problems))
    assert origin is not None
    return CritiqueRecord(
        photograph=labels["photograph"],
        sha256=labels["sha256"].strip().lower(),
        advisor=labels["advisor"].strip(),
        id=labels["id"],
        origin=origin,
        created_at=created_at,
        scores=scores,
        comments=comments,
        recommendations=recommendations,
        overall_grade=normalized_grade(grade, scores),
        details=details,
        notice=notice,
    )


def record_from_profile(profile: DimensionalProfile) -> CritiqueRecord | None:
    """A stored critique in the form of a file; None when a score or a comment is missing or can't be read."""
    scores: dict[str, Any] = {name: profile.scores.get(name) for name in DIMENSIONS}
    comments = {name: profile.comments.get(name) or "" for name in DIMENSIONS}
    read = {name: float(score) for name, score in scores.items() if _is_score(score)}
    if len(read) < len(DIMENSIONS) or not all(map(has_visible_character, comments.values())):
        return None
    return CritiqueRecord(
        photograph=profile.image_path,
        sha256="",
        advisor=profile.advisor,
        id=profile.id,
        origin=HUMAN if profile.origin == HUMAN else MODEL,
        created_at=profile.created_at or "",
        scores={name: read[name] + 0.0 for name in DIMENSIONS},
        comments=comments,
        recommendations={name: text for name, text in profile.recommendations.items() if text.strip()},
        overall_grade=normalized_grade(profile.overall_grade or "", read),
        details=dict(profile.details),
    )


def values_from_record(record: CritiqueRecord) -> dict[str, Any]:
    """The values by column that `record_from_values` reads; a column without a value is left out."""
    values: dict[str, Any] = {
        "advisor": record.advisor,
        "photograph": record.photograph,
        "sha256": record.sha256,
        "id": record.id,
        "origin": record.origin,
        "created_at": record.created_at or "",
    }
    for name in DIMENSIONS:
        values[f"{name}_score"] = int_if_whole(record.scores[name])
        values[f"{name}_comment"] = record.comments[name]
        if name in record.recommendations:
            values[f"{name}_recommendation"] = record.recommendations[name]
        if regions := record_regions(record.details).get(name):
            values[f"{name}_regions"] = regions
    named, rest = split_details(record.details)
    return {**values, "overall_grade": record.overall_grade, **named, **({"details": rest} if rest else {})}


def split_details(details: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Details that have a column of their own and the type of that column, all others.)"""
    named: dict[str, Any] = {}
    for name in TEXT_DETAILS:
        if isinstance(value := details.get(name), str) and value.strip() and len(value) <= MAX_TEXT_CHARACTERS:
            named[name] = value
    for name in LIST_DETAILS:
        if is_list_of_texts(texts := details.get(name)):
            named[name] = list(texts)
    rest = {name: value for name, value in details.items() if name not in named}
    if read := record_regions(details):
        rest.pop(REGIONS)
        if others := {name: value for name, value in details[REGIONS].items() if name not in read}:
            rest[REGIONS] = others
    return named, rest


def record_regions(details: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """Boxes by dimension that columns of their own can hold; what isn't a list of boxes in fractions stays a detail."""
    given = details.get(REGIONS)
    if not isinstance(given, Mapping):
        return {}
    read = regions_as_lists({name: regions_from_value(given.get(name)) for name in DIMENSIONS})
    return {name: boxes for name, boxes in read.items() if boxes and boxes == given[name]}


def is_list_of_texts(value: Any) -> TypeGuard[list[str]]:
    """True for a list with at least one text, and with nothing but texts that are not blank."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) and each.strip() for each in value)


def read_score(value: Any) -> float | None:
    """A score from 0 to 10: a number, or text such as `7.5`, `7,5`, `8/10`; None for anything else."""
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    score = parse_score(value)
    return score + 0.0 if score is not None and MIN_SCORE <= score <= MAX_SCORE else None


def normalized_grade(grade: str, scores: Mapping[str, float]) -> str:
    """The grade as text: a point for a decimal comma, and the mean of the scores where there is none."""
    text = grade.strip()
    if not text:
        return grade_from_scores(scores)
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text


def _is_score(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and MIN_SCORE <= value <= MAX_SCORE


def _scores(values: Mapping[str, Any], problems: list[str]) -> dict[str, float]:
    scores, missing = {}, []
    for name in DIMENSIONS:
        given = values.get(f"{name}_score")
        score = read_score(given)
        if given is None or (isinstance(given, str) and not given.strip()):
            missing.append(name)
        elif score is None:
            problems.append(f"{name}: {_shortened(given)} is not a score from {MIN_SCORE} to {MAX_SCORE}")
        else:
            scores[name] = score
    if missing:
        problems.append(f"no score for {_listed(missing)}")
    return scores


def _comments(values: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    comments = {name: _text(values.get(f"{name}_comment"), name, problems) for name in DIMENSIONS}
    if missing := [name for name, comment in comments.items() if not has_visible_character(comment)]:
        problems.append(f"no comment on {_listed(missing)}")
    return comments


def _listed(names: Sequence[str]) -> str:
    return "any dimension" if len(names) == len(DIMENSIONS) else ", ".join(names)


def _text(value: Any, name: str, problems: list[str]) -> str:
    """A text that the database can store; "" for none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if value is None:
        problems.append(f"{name}: expected text")
    elif len(value) > MAX_TEXT_CHARACTERS:
        problems.append(f"{name}: {len(value):,} characters, more than {MAX_TEXT_CHARACTERS:,}")
    elif not is_storable(value):
        problems.append(f"{name}: characters that are not text (a null or half of a surrogate pair)")
    else:
        return value if value.strip() else ""
    return ""


def is_storable(text: str) -> bool:
    """False for a text with a null character or a lone surrogate, which the database can't hold as text."""
    return not _NOT_TEXT.search(text)


def _label(values: Mapping[str, Any], name: str, problems: list[str]) -> str:
    text = _text(values.get(name), name, problems)
    if len(text) > MAX_LABEL_CHARACTERS:
        problems.append(f"{name}: longer than {MAX_LABEL_CHARACTERS:,} characters")
        return ""
    return text


def _created_at(values: Mapping[str, Any], problems: list[str]) -> str | None:
    if "created_at" not in values:
        return None
    value = values["created_at"]
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    moment = normalized_timestamp(_german_date(value) if isinstance(value, str) else value)
    if moment is None:
        problems.append(f"created_at: {_shortened(value)} is not a date; write it as 2026-01-31 18:30")
    return moment


def _german_date(text: str) -> str:
    found = _GERMAN_DATE.fullmatch(text.strip())
    if not found:
        return text
    day, month, year, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return datetime(year, month, day, hour, minute, second).isoformat()  # noqa: DTZ001  without an offset it is read as UTC
    except ValueError:
        return text


def _details(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    details = values.get("details") or {}
    if not isinstance(details, Mapping):
        problems.append("details: expected a JSON object")
        details = {}
    found = dict(details)
    for name in TEXT_DETAILS:
        if text := _text(values.get(name), name, problems):
            found[name] = text
    for name in LIST_DETAILS:
        if (given := values.get(name)) is not None:
            texts = [given] if isinstance(given, str) else given
            if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
                problems.append(f"{name}: expected a list of texts")
            elif kept := [text for each in texts if (text := _text(each, name, problems))]:
                found[name] = kept
    if regions := _regions(values, problems):
        others = found.get(REGIONS)
        found[REGIONS] = {**(others if isinstance(others, Mapping) else {}), **regions}
    try:
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError):
        problems.append("details: values that JSON can't hold")
    return found


def _regions(values: Mapping[str, Any], problems: list[str]) -> dict[str, list[list[float]]]:
    found = {}
    for name in DIMENSIONS:
        if (given := values.get(f"{name}_regions")) is None:
            continue
        if is_list_of_regions(given):
            found[name] = regions_from_value(given)
        else:
            problems.append(
                f"{name}_regions: {_shortened(given)} is not a list of boxes [left, top, right, bottom] from 0 to 1"
            )
    return regions_as_lists(found)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
