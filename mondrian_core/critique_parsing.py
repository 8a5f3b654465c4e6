"""Parsing of critiques: a strict parser for the canonical spelling, and a lenient one that repairs and reports."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mondrian_core.answer_entries import OLDER_KEYS, entries_of_answer
from mondrian_core.critique_regions import region_from_value
from mondrian_core.json_objects import JsonObject, find_json_objects, object_end
from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_PRIORITIES,
    MAX_REGIONS,
    MAX_SCORE,
    MAX_STRENGTHS,
    MIN_SCORE,
    Assessment,
    Critique,
    Region,
    dump_canonical_json,
    has_visible_character,
    is_empty_region,
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
    "bad_recommendation",
    "bad_regions",
    "bad_list",
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
    """Parse an answer that is exactly the canonical object, in either form.

    Accepts white space around the object, and unnecessary escapes (earlier adapters were trained on them). Rejects a
    fence, a missing or extra key, a key out of order, a score that isn't a number in 0-10, a comment without a visible
    character, and a grade that isn't a plain number ("7.0/10") or differs from the mean by more than `GRADE_TOLERANCE`.
    Of advice it rejects a recommendation, strength or priority without a visible character, regions without a
    recommendation, and more regions, strengths or priorities than the form allows. A region without an area is left
    out, because the grammar can't keep a model from writing one.

    Raises:
        CritiqueParseError: with the first reason found.
    """
    answer = _load_object(text)
    if not _has_keys(answer, _ANSWER_KEYS, ("dimensional_analysis", "overall_grade")):
        raise CritiqueParseError("wrong_keys", ", ".join(answer))
    dimensions = answer["dimensional_analysis"]
    if not isinstance(dimensions, dict) or list(dimensions) != list(DIMENSIONS):
        raise CritiqueParseError("missing_dimensions", f"expected all {len(DIMENSIONS)} dimensions in order")
    for name, entry in dimensions.items():
        if not isinstance(entry, dict) or not _has_keys(entry, _ENTRY_KEYS, ("score", "comment")):
            raise CritiqueParseError("wrong_keys", name)
        _require_strict_advice(name, entry)
        if isinstance(entry["score"], str):
            raise CritiqueParseError("bad_score", f"{name}: the score is a string")
    for key, most in _LIST_LIMITS.items():
        _require_strict_texts(key, answer.get(key, []), most)
    grade = answer["overall_grade"]
    if not isinstance(grade, str) or not _PLAIN_GRADE.fullmatch(grade):
        raise CritiqueParseError("bad_grade", f"{grade!r} is not a number in a string")
    return _validate_critique(answer, [], strict=True)


def parse_critique_lenient(text: str) -> ParsedCritique:
    """Parse any text that contains a complete critique, and report the repairs.

    Accepts a ```json fence, prose around the object, trailing commas, numbers as strings, and the legacy form with a
    `dimensions` list. Of several critiques in one text the last one counts. Missing dimensions are never filled in.
    Recommendations, regions, strengths and priorities that can't be read are left out.

    Raises:
        CritiqueParseError: the text contains no complete critique.
    """
    answer, repairs = parse_answer_object(text)
    critique = _validate_critique(_from_legacy_form(answer, repairs), repairs, strict=False)
    return ParsedCritique(critique, tuple(dict.fromkeys(repairs)))


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


# In canonical order.
_ANSWER_KEYS = ("dimensional_analysis", "strengths", "priority_improvements", "overall_grade", "advisor_notes")
_ENTRY_KEYS = ("score", "comment", "recommendation", "regions")
_LIST_LIMITS = {"strengths": MAX_STRENGTHS, "priority_improvements": MAX_PRIORITIES}

# Strings are matched as a whole, so a comma inside a string is never a trailing comma.
_TRAILING_COMMA = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
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
        cut = stripped.startswith("{") and object_end(stripped) is None
        raise CritiqueParseError("cut" if cut else "not_json", str(error)) from None
    except CritiqueParseError:
        raise
    except ValueError as error:
        raise CritiqueParseError("not_json", str(error)) from None
    if not isinstance(answer, dict):
        raise CritiqueParseError("not_json", "the answer is not an object")
    return answer


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
    objects = find_json_objects(text)
    if not objects:
        return text
    critiques = [item for item in objects if _is_critique(item)]
    chosen = (critiques or objects)[-1 if critiques else 0]
    if chosen.fenced:
        repairs.append("fence")
    elif chosen.text.strip() != text.strip():
        repairs.append("surrounding_text")
    if len(critiques) > 1:
        repairs.append("last_of_several")
    return chosen.text


def _is_critique(found: JsonObject) -> bool:
    """True if it has the keys of a critique, or is an object that the text cuts off."""
    return any(key in found.text for key in _CRITIQUE_KEYS) or (
        not found.closed and bool(_OBJECT_START.match(found.text))
    )


def _from_legacy_form(answer: dict[str, Any], repairs: list[str]) -> dict[str, Any]:
    """The answer with the keys of the canonical form, their values unchecked."""
    if "dimensional_analysis" in answer:
        if not isinstance(answer["dimensional_analysis"], dict):
            raise CritiqueParseError("missing_dimensions", "dimensional_analysis is not an object")
        return answer
    if not isinstance(answer.get("dimensions"), list):
        raise CritiqueParseError("missing_dimensions", "neither dimensional_analysis nor dimensions")
    repairs.append("older_form")
    named = {name: answer.get(older) for name, older in OLDER_KEYS.items()}
    return {"dimensional_analysis": entries_of_answer(answer), **named}


def _has_keys(found: Mapping[str, Any], known: Sequence[str], required: Sequence[str]) -> bool:
    """True if the keys are known ones in their order, with all of the required ones."""
    return list(found) == [key for key in known if key in found] and all(key in found for key in required)


def _require_strict_advice(name: str, entry: Mapping[str, Any]) -> None:
    """Check what only advice has in one dimension.

    Raises:
        CritiqueParseError: the strict reader doesn't accept it.
    """
    if "recommendation" in entry and not _is_readable_text(entry["recommendation"]):
        raise CritiqueParseError("bad_recommendation", name)
    if "regions" not in entry:
        return
    regions = entry["regions"]
    if "recommendation" not in entry or not isinstance(regions, list) or not 1 <= len(regions) <= MAX_REGIONS:
        raise CritiqueParseError("bad_regions", f"{name}: 1 to {MAX_REGIONS} after a recommendation")
    if any(region_from_value(each) is None for each in regions):
        raise CritiqueParseError("bad_regions", f"{name}: {regions!r}")


def _require_strict_texts(key: str, texts: Any, most: int) -> None:
    if not isinstance(texts, list) or len(texts) > most or not all(map(_is_readable_text, texts)):
        raise CritiqueParseError("bad_list", f"{key}: at most {most} texts")


def _is_readable_text(value: Any) -> bool:
    return isinstance(value, str) and has_visible_character(value)


def _validate_critique(answer: Mapping[str, Any], repairs: list[str], *, strict: bool) -> Critique:
    dimensions, grade, notes = answer["dimensional_analysis"], answer.get("overall_grade"), answer.get("advisor_notes")
    missing = [name for name in DIMENSIONS if name not in dimensions]
    if missing:
        raise CritiqueParseError("missing_dimensions", ", ".join(missing))
    assessments = {name: _assessment(name, dimensions[name], repairs) for name in DIMENSIONS}
    scores = {name: assessment.score for name, assessment in assessments.items()}
    return Critique(
        assessments,
        _validate_grade(grade, mean_score(scores), repairs, strict=strict),
        notes if isinstance(notes, str) and notes else None,
        strengths=_texts(answer.get("strengths"), "strengths_left_out", repairs),
        priority_improvements=_texts(answer.get("priority_improvements"), "priorities_left_out", repairs),
    )


def _validate_grade(grade: Any, mean: float, repairs: list[str], *, strict: bool) -> str:
    """The grade as a plain number.

    Args:
        grade: as the answer states it.
        mean: the mean score, 0-10.
        repairs: receives what the lenient reader changed.
        strict: refuse a grade that is missing or contradicts the mean.
    """
    value = _parse_number(grade)
    if value is None and not strict:
        repairs.append("grade_computed")
        value = round(mean, 1)
    if value is None or not MIN_SCORE <= value <= MAX_SCORE:
        raise CritiqueParseError("bad_grade", repr(grade))
    if strict and abs(value - mean) > GRADE_TOLERANCE:
        raise CritiqueParseError("grade_inconsistent", f"grade {value} but a mean score of {mean:.2f}")
    if isinstance(grade, str) and _PLAIN_GRADE.fullmatch(grade):
        return grade
    if isinstance(grade, str) and _parse_number(grade) is not None:
        repairs.append("grade_spelling")
    return f"{value:.1f}"


def _assessment(name: str, entry: Any, repairs: list[str]) -> Assessment:
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
    if not _is_readable_text(recommendation):
        return Assessment(score, comment)
    return Assessment(score, comment, recommendation, _regions(entry.get("regions"), repairs))


def _texts(value: Any, repair: str, repairs: list[str]) -> tuple[str, ...]:
    """The texts with a visible character; what else the value holds is a repair."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    texts = tuple(text for text in given if _is_readable_text(text))
    if len(texts) < len(given):
        repairs.append(repair)
    return texts


def _regions(value: Any, repairs: list[str]) -> tuple[Region, ...]:
    """The regions that point at something; what else the value holds is a repair."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    found = [region_from_value(each) for each in given]
    regions = tuple(region for region in found if region is not None and not is_empty_region(region))
    if len(regions) < len(given):
        repairs.append("region_left_out")
    return regions


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
