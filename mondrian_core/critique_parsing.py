"""Parsing of critiques: a strict parser for the canonical spelling, and a lenient one that repairs and reports."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_SCORE,
    MIN_SCORE,
    Assessment,
    Critique,
    dump_canonical_json,
    has_visible_character,
    mean_score,
)

# People round the grade, and some weight dimensions differently. A grade that differs more than this from the mean of
# its scores contradicts them.
GRADE_TOLERANCE = 1.0


class CritiqueParseError(ValueError):
    """A text that is not a critique. `reason` is one of `PARSE_ERROR_REASONS`; `detail` gives the location."""

    def __init__(self, reason: str, detail: str = "") -> None:
        assert reason in PARSE_ERROR_REASONS, reason
        self.reason, self.detail = reason, detail[:_MAX_DETAIL_CHARACTERS]
        super().__init__(f"{reason}: {self.detail}" if detail else reason)


_MAX_DETAIL_CHARACTERS = 300


PARSE_ERROR_REASONS: tuple[str, ...] = (
    "empty",
    "cut",
    "not_json",
    "not_canonical",
    "wrong_keys",
    "missing_dimensions",
    "bad_score",
    "score_out_of_range",
    "no_comment",
    "bad_grade",
    "grade_inconsistent",
)


@dataclass(frozen=True)
class ParsedCritique:
    """A parsed critique and the repairs that it needed (empty: none)."""

    critique: Critique
    repairs: tuple[str, ...] = field(default=())


def normalize_answer_json(answer: str) -> str:
    """An answer of an older dataset (ASCII escapes) in canonical spelling; text that isn't JSON is unchanged."""
    try:
        return dump_canonical_json(_load_object(answer))
    except CritiqueParseError:
        return answer


_PLAIN_GRADE = re.compile(r"[0-9]{1,2}(\.[0-9]+)?")


def parse_critique_strict(text: str) -> Critique:
    """Parse an answer that is exactly the canonical object.

    Accepts white space around the object, and unnecessary escapes (earlier adapters were trained on them). Rejects a
    fence, a missing or extra key, a key out of order, a score that isn't a number in 0-10, a comment without a visible
    character, and a grade that isn't a plain number ("7.0/10") or differs from the mean by more than `GRADE_TOLERANCE`.

    Raises:
        CritiqueParseError: with the first reason found.
    """
    answer = _load_object(text)
    if list(answer)[:2] != ["dimensional_analysis", "overall_grade"] or set(answer) - _ANSWER_KEYS:
        raise CritiqueParseError("wrong_keys", ", ".join(answer))
    dimensions = answer["dimensional_analysis"]
    if not isinstance(dimensions, dict) or list(dimensions) != list(DIMENSIONS):
        raise CritiqueParseError("missing_dimensions", f"expected all {len(DIMENSIONS)} dimensions in order")
    for name, entry in dimensions.items():
        if not isinstance(entry, dict) or list(entry)[:2] != ["score", "comment"] or set(entry) - _ENTRY_KEYS:
            raise CritiqueParseError("wrong_keys", name)
        if isinstance(entry["score"], str):
            raise CritiqueParseError("bad_score", f"{name}: the score is a string")
    grade = answer["overall_grade"]
    if not isinstance(grade, str) or not _PLAIN_GRADE.fullmatch(grade):
        raise CritiqueParseError("bad_grade", f"{grade!r} is not a number in a string")
    return _validate_critique(dimensions, answer["overall_grade"], answer.get("advisor_notes"), strict=True)


def parse_critique_lenient(text: str) -> ParsedCritique:
    """Parse any text that contains a complete critique, and report the repairs.

    Accepts a ```json fence, prose around the object, trailing commas, numbers as strings, and the legacy form with a
    `dimensions` list. Of several critiques in one text the last one counts. Missing dimensions are never filled in.

    Raises:
        CritiqueParseError: the text contains no complete critique.
    """
    answer, repairs = parse_answer_object(text)
    dimensions, grade, notes = _from_legacy_form(answer, repairs)
    critique = _validate_critique(dimensions, grade, notes, strict=False, repairs=repairs)
    return ParsedCritique(critique, tuple(repairs))


def parse_answer_object(text: str) -> tuple[dict[str, Any], list[str]]:
    """The JSON object of the critique in any text, unchecked, and the repairs that reading it needed.

    Raises:
        CritiqueParseError: the text contains no JSON object.
    """
    repairs: list[str] = []
    body = _extract_object(text, repairs)
    try:
        return _load_object(body), repairs
    except CritiqueParseError as first:
        without = _TRAILING_COMMA.sub(lambda match: match.group("text") or "", body)
        if without == body:
            raise
        try:
            answer = _load_object(without)
        except CritiqueParseError:
            raise first from None
        return answer, [*repairs, "trailing_comma"]


_ANSWER_KEYS = {"dimensional_analysis", "overall_grade", "advisor_notes"}


_ENTRY_KEYS = {"score", "comment", "recommendation"}


# Strings are matched as a whole, so a comma inside a string is never a trailing comma.
_TRAILING_COMMA = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


_BRACE = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}]', re.DOTALL)


# A JSON string has no raw line break, so a match is never inside an object.
_FENCE = re.compile(r"```(?:json)?[ \t]*\r?\n\s*(?=\{)", re.IGNORECASE)


_OBJECT_START = re.compile(r'\{\s*("|$)')


_CRITIQUE_KEYS = ('"dimensional_analysis"', '"dimensions"')


_MAX_DIGITS = 20


def _load_object(text: str) -> dict[str, Any]:
    stripped = text.strip()
    if not stripped:
        raise CritiqueParseError("empty")
    try:
        answer = json.loads(
            stripped,
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_duplicate_keys,
            parse_int=_parse_bounded_int,
        )
        json.dumps(answer, ensure_ascii=False).encode()  # raises for a lone surrogate
    except (json.JSONDecodeError, RecursionError) as error:
        cut = stripped.startswith("{") and _object_end(stripped) is None
        raise CritiqueParseError("cut" if cut else "not_json", str(error)) from None
    except CritiqueParseError:
        raise
    except ValueError as error:
        raise CritiqueParseError("not_json", str(error)) from None
    if not isinstance(answer, dict):
        raise CritiqueParseError("not_json", "the answer is not an object")
    return answer


def _object_end(text: str, start: int = 0, limit: int | None = None) -> int | None:
    """Index after the brace that closes the object at `text[start]`; None when there is none before `limit`."""
    depth = 0
    for token in _BRACE.finditer(text, start, len(text) if limit is None else limit):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return token.end()
    return None


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Reject duplicate keys; `json` would silently keep the last one."""
    values = dict(pairs)
    if len(values) < len(pairs):
        duplicate = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise CritiqueParseError("wrong_keys", f"{duplicate!r} is a duplicate key")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse_bounded_int(digits: str) -> int:
    """Convert to an integer; a number with too many digits becomes a large out-of-range value."""
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -(10**_MAX_DIGITS) if digits.startswith("-") else 10**_MAX_DIGITS


def _extract_object(text: str, repairs: list[str]) -> str:
    """The JSON object of the critique in a text; the last one if there are several."""
    objects = _find_objects(text)
    if not objects:
        return text
    critiques = [item for item in objects if item.is_critique]
    chosen = (critiques or objects)[-1 if critiques else 0]
    if chosen.fenced:
        repairs.append("fence")
    elif chosen.text.strip() != text.strip():
        repairs.append("surrounding_text")
    if len(critiques) > 1:
        repairs.append("last_of_several")
    return chosen.text


@dataclass(frozen=True)
class _JsonObject:
    """Text from a brace to its closing brace, or to the end of the text."""

    text: str
    closed: bool
    fenced: bool

    @property
    def is_critique(self) -> bool:
        """True if it has the keys of a critique, or is an object that the text cuts off."""
        return any(key in self.text for key in _CRITIQUE_KEYS) or (
            not self.closed and bool(_OBJECT_START.match(self.text))
        )


def _find_objects(text: str) -> list[_JsonObject]:
    """The outermost objects of a text, in order; the last one may be unclosed. Takes linear time."""
    fenced = [found.end() for found in _FENCE.finditer(text)]
    objects: list[_JsonObject] = []
    position = 0
    while (start := text.find("{", position)) >= 0:
        index = bisect_right(fenced, start)
        following = fenced[index] if index < len(fenced) else None
        end = _object_end(text, start, following)
        if end is None and following is not None:
            position = following  # a brace in prose: an object never contains a fence
            continue
        position = len(text) if end is None else end
        objects.append(_JsonObject(text[start:position], end is not None, index > 0 and fenced[index - 1] == start))
    return objects


def dimension_from_label(label: str) -> str | None:
    """ "Focus & Sharpness" -> focus_sharpness; None when the label names no dimension."""
    words = [word for word in re.split(r"[^a-z]+", label.lower().replace("colour", "color")) if word and word != "and"]
    name = "_".join(words)
    return name if name in DIMENSIONS else None


def _from_legacy_form(answer: dict[str, Any], repairs: list[str]) -> tuple[dict[str, Any], Any, Any]:
    if "dimensional_analysis" in answer:
        dimensions = answer["dimensional_analysis"]
        if not isinstance(dimensions, dict):
            raise CritiqueParseError("missing_dimensions", "dimensional_analysis is not an object")
        return dimensions, answer.get("overall_grade"), answer.get("advisor_notes")
    if not isinstance(answer.get("dimensions"), list):
        raise CritiqueParseError("missing_dimensions", "neither dimensional_analysis nor dimensions")
    repairs.append("older_form")
    dimensions = {}
    for entry in answer["dimensions"]:
        name = dimension_from_label(str(entry.get("name", ""))) if isinstance(entry, dict) else None
        if name:
            dimensions.setdefault(name, entry)
    return dimensions, answer.get("overall_score"), answer.get("technical_notes") or None


def _validate_critique(
    dimensions: Mapping[str, Any], grade: Any, notes: Any, *, strict: bool, repairs: list[str] | None = None
) -> Critique:
    missing = [name for name in DIMENSIONS if name not in dimensions]
    if missing:
        raise CritiqueParseError("missing_dimensions", ", ".join(missing))
    assessments = {name: _assessment(name, dimensions[name]) for name in DIMENSIONS}
    scores = {name: assessment.score for name, assessment in assessments.items()}
    value = _parse_number(grade)
    if value is None and not strict and repairs is not None:
        repairs.append("grade_computed")
        value = round(mean_score(scores), 1)
    if value is None or not MIN_SCORE <= value <= MAX_SCORE:
        raise CritiqueParseError("bad_grade", repr(grade))
    if strict and abs(value - mean_score(scores)) > GRADE_TOLERANCE:
        raise CritiqueParseError("grade_inconsistent", f"grade {value} but a mean score of {mean_score(scores):.2f}")
    if not isinstance(grade, str) or not _PLAIN_GRADE.fullmatch(grade):
        if isinstance(grade, str) and repairs is not None and _parse_number(grade) is not None:
            repairs.append("grade_spelling")
        grade = f"{value:.1f}"
    return Critique(assessments, grade, notes if isinstance(notes, str) and notes else None)


def _assessment(name: str, entry: Any) -> Assessment:
    if not isinstance(entry, dict):
        raise CritiqueParseError("wrong_keys", name)
    score = _parse_number(entry.get("score"))
    if score is None:
        raise CritiqueParseError("bad_score", f"{name}: {entry.get('score')!r}")
    if not MIN_SCORE <= score <= MAX_SCORE:
        raise CritiqueParseError("score_out_of_range", f"{name}: {score}")
    comment = entry.get("comment")
    if not isinstance(comment, str) or not has_visible_character(comment):
        raise CritiqueParseError("no_comment", name)
    recommendation = entry.get("recommendation")
    return Assessment(score, comment, recommendation if isinstance(recommendation, str) and recommendation else None)


def _parse_number(value: Any) -> float | None:
    """A finite number, or a numeric string ("8", "8.0", "8/10"); None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*10)?\s*", value)
        return float(match.group(1)) if match else None
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def parse_score(value: Any) -> float | None:
    """A score in an answer or a table: 8, "8", "8.0" or "8/10"; None for anything else.

    The result may be outside 0-10.
    """
    return _parse_number(value)
