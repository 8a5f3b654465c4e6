"""The rubric: eight dimensions, a critique, its canonical spelling and its readers.

This is the bottom floor of the house. It knows nothing of models, files or databases, so training, evaluation and
serving can meet in it without importing one another.

The canonical spelling is what `json.dumps(..., ensure_ascii=False)` writes (separators ", " and ": ", raw UTF-8) in the
order of `DIMENSIONS`. Constrained decoding emits exactly that spelling, so it is also what the model is trained on. Its
grammar allows escapes for quotes, backslashes and control characters alone, so `spelled` escapes those and no others.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIMENSIONS: tuple[str, ...] = (
    "composition",
    "lighting",
    "focus_sharpness",
    "color_harmony",
    "subject_isolation",
    "depth_perspective",
    "visual_balance",
    "emotional_impact",
)
MIN_SCORE, MAX_SCORE = 0, 10

# The length of an answer, for what is taught and for every model that is asked: datasets, validation, evaluation, the
# service and its grammar take it from here. Eight comments of that many characters fit into the tokens in any language
# that is written with an alphabet; for others the tokens alone decide.
MAX_ANSWER_TOKENS = 2048
MAX_COMMENT_CHARACTERS = 600

# People round the grade, and some weigh one dimension more than another. A grade further from the mean of its own
# scores than this contradicts them.
GRADE_TOLERANCE = 1.0

DIMENSION_TITLES: dict[str, str] = {
    "composition": "Composition",
    "lighting": "Lighting",
    "focus_sharpness": "Focus & Sharpness",
    "color_harmony": "Color Harmony",
    "subject_isolation": "Subject Isolation",
    "depth_perspective": "Depth & Perspective",
    "visual_balance": "Visual Balance",
    "emotional_impact": "Emotional Impact",
}


class CritiqueParseError(ValueError):
    """A text that is no critique. `reason` is one of `REASONS`; `detail` says where."""

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
class Assessment:
    """One dimension of a critique: a score (0-10) and what was said about it."""

    score: float
    comment: str
    recommendation: str | None = None


@dataclass(frozen=True)
class Critique:
    """Eight assessments in the order of `DIMENSIONS` and an overall grade such as "8.1"."""

    assessments: Mapping[str, Assessment]
    overall_grade: str
    advisor_notes: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """The eight scores, 0-10, by dimension."""
        return {name: self.assessments[name].score for name in DIMENSIONS}

    @property
    def mean(self) -> float:
        """Mean of the eight scores, 0-10."""
        return mean_score(self.scores)

    def as_dict(self) -> dict[str, Any]:
        """The canonical answer as plain values, keys in canonical order."""
        dimensions = {}
        for name in DIMENSIONS:
            assessment = self.assessments[name]
            entry: dict[str, Any] = {"score": int_if_whole(assessment.score), "comment": assessment.comment}
            if assessment.recommendation:
                entry["recommendation"] = assessment.recommendation
            dimensions[name] = entry
        answer: dict[str, Any] = {"dimensional_analysis": dimensions, "overall_grade": self.overall_grade}
        if self.advisor_notes:
            answer["advisor_notes"] = self.advisor_notes
        return answer


@dataclass(frozen=True)
class ParsedCritique:
    """What `read_lenient` made of a text: the critique and the repairs that were needed (empty: none)."""

    critique: Critique
    repairs: tuple[str, ...] = field(default=())


def int_if_whole(score: float) -> int | float:
    """8.0 -> 8, 7.5 -> 7.5: a whole score is spelled without a decimal point."""
    return int(score) if float(score).is_integer() else float(score)


def round_score(score: float) -> int:
    """Round half up and clip to 0-10: the scores that the model is taught are whole."""
    return min(MAX_SCORE, max(MIN_SCORE, math.floor(score + 0.5)))


def mean_score(scores: Mapping[str, float]) -> float:
    """Mean of the eight scores, 0-10."""
    return sum(scores[name] for name in DIMENSIONS) / len(DIMENSIONS)


def grade_from_scores(scores: Mapping[str, float]) -> str:
    """The overall grade that belongs to eight scores: their mean with one decimal, halves rounded up."""
    return f"{math.floor(mean_score(scores) * 10 + 0.5) / 10:.1f}"


def make_critique(scores: Mapping[str, float], comments: Mapping[str, str], grade: str | None = None) -> Critique:
    """A critique from scores (0-10) and comments by dimension; the grade is the mean unless it is given."""
    assessments = {name: Assessment(scores[name], comments[name]) for name in DIMENSIONS}
    return Critique(assessments, grade or grade_from_scores(scores))


def canonical_answer(critique: Critique) -> str:
    """The one spelling of an answer that training, constrained decoding and the strict reader share."""
    return dump_canonical_json(critique.as_dict())


@dataclass(frozen=True)
class AnswerSpans:
    """Where a canonical answer states its numbers, as (start, end) character offsets in its text.

    Attributes:
        scores: offsets of each dimension's score.
        grade: offsets of the overall grade, without its quotes; None if there is none.
    """

    scores: Mapping[str, tuple[int, int]]
    grade: tuple[int, int] | None


def answer_spans(answer: str) -> AnswerSpans:
    """Where the text of `canonical_answer` states its scores and its grade; what isn't in that spelling is left out.

    The keys that are looked for contain quotes, which a comment can hold only as escapes, so no comment can match.
    """
    scores = {name: _number_span(answer, f'"{name}": {{"score": ') for name in DIMENSIONS}
    return AnswerSpans(
        {name: span for name, span in scores.items() if span is not None},
        _number_span(answer, '"overall_grade": "'),
    )


def _number_span(text: str, key: str) -> tuple[int, int] | None:
    """Offsets of the number that follows the key."""
    place = text.find(key)
    number = _DIGITS.match(text, place + len(key)) if place >= 0 else None
    return number.span() if number else None


def dump_canonical_json(value: Any) -> str:
    """JSON in raw UTF-8; what may stand in it only as an escape (also DEL, for the grammar) is escaped.

    A lone surrogate stays an escape, so that the text can always be written; the readers refuse it.
    """
    return _MUST_BE_ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value, ensure_ascii=False))


def normalize_answer_json(answer: str) -> str:
    """An answer of an older dataset (ASCII escapes) in the canonical spelling; a text that is not JSON as it is."""
    try:
        return dump_canonical_json(_load_object(answer))
    except CritiqueParseError:
        return answer


def training_target(critique: Critique) -> str:
    """The answer that a critique is taught as: whole scores, the grade that belongs to them, comments in NFC.

    Tokenizers bring text to NFC by themselves; the answer should be what its tokens say.
    """
    comments = {name: unicodedata.normalize("NFC", critique.assessments[name].comment) for name in DIMENSIONS}
    return canonical_answer(make_critique({name: round_score(critique.scores[name]) for name in DIMENSIONS}, comments))


def overlong_comments(comments: Mapping[str, str]) -> str:
    """Which comments exceed `MAX_COMMENT_CHARACTERS`, in words; empty when none does."""
    lengths = {name: len(unicodedata.normalize("NFC", comment)) for name, comment in comments.items()}
    over = [f"{name} {length}" for name, length in lengths.items() if length > MAX_COMMENT_CHARACTERS]
    return f"{', '.join(over)} of at most {MAX_COMMENT_CHARACTERS} characters" if over else ""


def critique_json_schema() -> dict[str, Any]:
    """JSON schema of the canonical answer (scores are integers 0-10), for constrained decoding and the API."""
    assessment = {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "minimum": MIN_SCORE, "maximum": MAX_SCORE},
            "comment": {"type": "string", "pattern": _NOT_BLANK, "minLength": 1, "maxLength": MAX_COMMENT_CHARACTERS},
        },
        "required": ["score", "comment"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "dimensional_analysis": {
                "type": "object",
                "properties": dict.fromkeys(DIMENSIONS, assessment),
                "required": list(DIMENSIONS),
                "additionalProperties": False,
            },
            "overall_grade": {"type": "string", "pattern": r"^(10\.0|[0-9]\.[0-9])$"},
        },
        "required": ["dimensional_analysis", "overall_grade"],
        "additionalProperties": False,
    }


# The readers refuse a comment of white space, as Python knows it, so the grammar must not write one.
_NOT_BLANK = "[^" + "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "]"
_MUST_BE_ESCAPED = re.compile("[\x7f\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]+(\.[0-9]+)?")
_PLAIN_GRADE = re.compile(r"[0-9]{1,2}(\.[0-9]+)?")


def parse_critique_strict(text: str) -> Critique:
    """Read an answer that is exactly the canonical object, nothing before or after it.

    White space around the object is forgiven, and so are escapes where raw characters would do (adapters of before were
    taught them). A fence, a missing or extra key, a key out of order, a score that is no number in 0-10, an empty
    comment, a grade that is no plain number ("7.0/10") or more than `GRADE_TOLERANCE` from the mean is not.

    Raises:
        Unparsable: with the first reason found.
    """
    answer = _load_object(text)
    if list(answer)[:2] != ["dimensional_analysis", "overall_grade"] or set(answer) - _ANSWER_KEYS:
        raise CritiqueParseError("wrong_keys", ", ".join(answer))
    dimensions = answer["dimensional_analysis"]
    if not isinstance(dimensions, dict) or list(dimensions) != list(DIMENSIONS):
        raise CritiqueParseError("missing_dimensions", "expected the eight dimensions in order")
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
    """Read whatever can honestly be read as a critique, and say which repairs it took.

    Accepts a ```json fence, prose around the object, trailing commas, numbers written as strings, and the older form
    with a `dimensions` list. Of several critiques in one text the last one counts: it is the second thought. Nothing is
    invented: a missing dimension stays missing and raises.

    Raises:
        Unparsable: when no complete critique is there.
    """
    repairs: list[str] = []
    body = _extract_object(text, repairs)
    try:
        answer = _load_object(body)
    except CritiqueParseError as first:
        without = _TRAILING_COMMA.sub(lambda match: match.group("text") or "", body)
        if without == body:
            raise
        try:
            answer = _load_object(without)
        except CritiqueParseError:
            raise first from None
        repairs.append("trailing_comma")
    dimensions, grade, notes = _from_legacy_form(answer, repairs)
    critique = _validate_critique(dimensions, grade, notes, strict=False, repairs=repairs)
    return ParsedCritique(critique, tuple(repairs))


_ANSWER_KEYS = {"dimensional_analysis", "overall_grade", "advisor_notes"}
_ENTRY_KEYS = {"score", "comment", "recommendation"}
# A string is matched whole, so that a comma inside one is never taken for a trailing comma.
_TRAILING_COMMA = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_BRACE = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}]', re.DOTALL)
# JSON has no raw line break in a string, so what this finds never stands inside an object.
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
        json.dumps(answer, ensure_ascii=False).encode()  # a lone surrogate can be escaped, but is no text
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
    """`json` keeps the last of two equal keys in silence; which one was meant, nobody knows."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise CritiqueParseError("wrong_keys", f"{twice!r} is given twice")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse_bounded_int(digits: str) -> int:
    """An integer. One of hundreds of digits, which Python may refuse to convert, stays out of every range."""
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -(10**_MAX_DIGITS) if digits.startswith("-") else 10**_MAX_DIGITS


def _extract_object(text: str, repairs: list[str]) -> str:
    """The critique's object in a text: the last one, where there are several."""
    found = _find_objects(text)
    if not found:
        return text
    critiques = [each for each in found if each.is_critique]
    chosen = (critiques or found)[-1 if critiques else 0]
    if chosen.fenced:
        repairs.append("fence")
    elif chosen.text.strip() != text.strip():
        repairs.append("surrounding_text")
    if len(critiques) > 1:
        repairs.append("last_of_several")
    return chosen.text


@dataclass(frozen=True)
class _JsonObject:
    """Text from a brace to the one that closes it, or to the end of the whole text where none does."""

    text: str
    closed: bool
    fenced: bool

    @property
    def is_critique(self) -> bool:
        """Whether a critique was meant: by its keys, or because an object was begun when the text broke off."""
        return any(key in self.text for key in _CRITIQUE_KEYS) or (
            not self.closed and bool(_OBJECT_START.match(self.text))
        )


def _find_objects(text: str) -> list[_JsonObject]:
    """The outermost objects of a text, in order; the last one may be open. Linear in the length of the text."""
    fenced = [found.end() for found in _FENCE.finditer(text)]
    objects: list[_JsonObject] = []
    place = 0
    while (start := text.find("{", place)) >= 0:
        index = bisect_right(fenced, start)
        following = fenced[index] if index < len(fenced) else None
        end = _object_end(text, start, following)
        if end is None and following is not None:
            place = following  # a brace of the prose: what a fence opens is no part of an object
            continue
        place = len(text) if end is None else end
        objects.append(_JsonObject(text[start:place], end is not None, index > 0 and fenced[index - 1] == start))
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
        raise CritiqueParseError("grade_inconsistent", f"grade {value} beside a mean of {mean_score(scores):.2f}")
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
    if not isinstance(comment, str) or not comment.strip():
        raise CritiqueParseError("no_comment", name)
    recommendation = entry.get("recommendation")
    return Assessment(score, comment, recommendation if isinstance(recommendation, str) and recommendation else None)


def _parse_number(value: Any) -> float | None:
    """A finite number, or a string that is one ("8", "8.0", "8/10"); anything else is None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*10)?\s*", value)
        return float(match.group(1)) if match else None
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def parse_score(value: Any) -> float | None:
    """A score as it may be written, in an answer or in a table: 8, "8", "8.0", "8/10"; None when it is none of these.

    It may lie outside 0-10.
    """
    return _parse_number(value)
