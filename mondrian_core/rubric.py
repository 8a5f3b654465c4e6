"""The rubric: its dimensions, the critique type and the canonical JSON spelling of an answer.

The lowest module of the core: it knows nothing of models, files or databases, so training, evaluation and serving share
it without importing one another. `critique_parsing` has the parsers.

The canonical spelling is what `json.dumps(..., ensure_ascii=False)` writes (separators ", " and ": ", raw UTF-8) in the
order of `DIMENSIONS`. Constrained decoding emits exactly this spelling, so the model is also trained on it. The grammar
allows escapes only for quotes, backslashes and control characters, so `canonical_answer` escapes nothing else.

An answer has one of two forms. Comments: a score and a comment for each dimension, then the grade. Advice: the same,
and where they are known recommendations with regions, strengths and priority improvements. Inside a model a region is
written in whole thousandths of width and height (Qwen-VL's grounding convention), everywhere else in fractions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
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

# Maximum length of an answer. Datasets, validation, evaluation, the service and its grammar all use these limits. In
# languages with an alphabet, comments of this length for all dimensions fit into the tokens; in others the token limit
# applies first.
MAX_ANSWER_TOKENS = 2048
MAX_COMMENT_CHARACTERS = 600  # of a recommendation, a strength and a priority too
MAX_REGIONS = 3  # of one recommendation
MAX_STRENGTHS = 8
MAX_PRIORITIES = 3
REGION_SCALE = 1000  # a region in a model's answer is written in thousandths of width and height


class AnswerForm(StrEnum):
    """What an answer holds: scores and comments, or advice as well. An adapter's manifest names its form."""

    COMMENTS = "comments"
    ADVICE = "advice"


# A comment needs one character outside of this class: neither white space, nor a control character, nor one that
# Unicode displays as nothing (Default_Ignorable_Code_Point of the basic plane, and the empty Braille pattern). The
# grammar and every reader of comments use this one pattern, so neither accepts what the other refuses.
_INVISIBLE_RANGES = (
    "\x00- \x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
VISIBLE_CHARACTER = f"[^{_INVISIBLE_RANGES}]"


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


Region = tuple[float, float, float, float]  # left, top, right, bottom: fractions (0-1) of width and height


@dataclass(frozen=True)
class Assessment:
    """One dimension of a critique: a score (0-10), a comment and an optional recommendation with its regions."""

    score: float
    comment: str
    recommendation: str | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Critique:
    """An assessment of each dimension, in the order of `DIMENSIONS`, and an overall grade such as "8.1".

    `strengths` and `priority_improvements` are empty where the advisor's material has none.
    """

    assessments: Mapping[str, Assessment]
    overall_grade: str
    advisor_notes: str | None = None
    strengths: tuple[str, ...] = field(default=(), kw_only=True)
    priority_improvements: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def scores(self) -> dict[str, float]:
        """The scores, 0-10, by dimension."""
        return {name: self.assessments[name].score for name in DIMENSIONS}

    @property
    def recommendations(self) -> dict[str, str]:
        """What to do next time, by dimension, for those that have a recommendation."""
        given = {name: self.assessments[name].recommendation for name in DIMENSIONS}
        return {name: text for name, text in given.items() if text}

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that a model is taught or copies: comments, recommendations, strengths and priorities."""
        comments = (self.assessments[name].comment for name in DIMENSIONS)
        return (*comments, *self.recommendations.values(), *self.strengths, *self.priority_improvements)

    @property
    def mean(self) -> float:
        """Mean of all scores, 0-10."""
        return mean_score(self.scores)

    @property
    def regions(self) -> dict[str, tuple[Region, ...]]:
        """What the recommendations point at, by dimension, for those that point at something."""
        return {name: regions for name in DIMENSIONS if (regions := self.assessments[name].regions)}

    def as_dict(self) -> dict[str, Any]:
        """All that the critique says as plain values, keys in canonical order, regions in fractions (0-1)."""
        return self._as_dict(lambda value: value)

    def _as_dict(self, spelled: Callable[[float], float]) -> dict[str, Any]:
        """The plain values; `spelled` turns each fraction of a region into the number that is written."""
        dimensions = {}
        for name in DIMENSIONS:
            assessment = self.assessments[name]
            entry: dict[str, Any] = {"score": int_if_whole(assessment.score), "comment": assessment.comment}
            if assessment.recommendation:
                entry["recommendation"] = assessment.recommendation
                if assessment.regions:
                    entry["regions"] = [[spelled(value) for value in region] for region in assessment.regions]
            dimensions[name] = entry
        answer: dict[str, Any] = {"dimensional_analysis": dimensions}
        if self.strengths:
            answer["strengths"] = list(self.strengths)
        if self.priority_improvements:
            answer["priority_improvements"] = list(self.priority_improvements)
        answer["overall_grade"] = self.overall_grade
        if self.advisor_notes:
            answer["advisor_notes"] = self.advisor_notes
        return answer


def int_if_whole(score: float) -> int | float:
    """8.0 -> 8, 7.5 -> 7.5: a whole score is written without a decimal point."""
    return int(score) if float(score).is_integer() else float(score)


def has_visible_character(text: str) -> bool:
    """False for a text that a person sees nothing of: spaces, control characters, zero-width characters."""
    return _VISIBLE.search(text) is not None


def round_score(score: float) -> int:
    """Round half up and clip to 0-10; training targets have whole scores."""
    return min(MAX_SCORE, max(MIN_SCORE, math.floor(score + 0.5)))


def mean_score(scores: Mapping[str, float]) -> float:
    """Mean of all scores, 0-10."""
    return sum(scores[name] for name in DIMENSIONS) / len(DIMENSIONS)


def grade_from_scores(scores: Mapping[str, float]) -> str:
    """The overall grade for scores by dimension: their mean with one decimal, halves rounded up."""
    return f"{math.floor(mean_score(scores) * 10 + 0.5) / 10:.1f}"


def make_critique(scores: Mapping[str, float], comments: Mapping[str, str], grade: str | None = None) -> Critique:
    """A critique from scores (0-10) and comments by dimension; the default grade is the mean score."""
    assessments = {name: Assessment(scores[name], comments[name]) for name in DIMENSIONS}
    return Critique(assessments, grade or grade_from_scores(scores))


def canonical_answer(critique: Critique, form: AnswerForm | None = None) -> str:
    """The canonical spelling, shared by training, constrained decoding and the strict parser.

    Args:
        critique: what is written.
        form: the form in which a model answers; None: everything that the critique says, as it is stored, with regions
            in fractions.
    """
    if form is None:
        return dump_canonical_json(critique.as_dict())
    kept = without_advice(critique) if form is AnswerForm.COMMENTS else replace(critique, advisor_notes=None)
    return dump_canonical_json(kept._as_dict(lambda value: round(REGION_SCALE * value)))


def without_advice(critique: Critique) -> Critique:
    """Scores, comments and grade alone."""
    plain = {name: Assessment(each.score, each.comment) for name, each in critique.assessments.items()}
    return Critique(plain, critique.overall_grade)


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

    The keys that are looked for contain quotes and the colon after them. A comment or a strength holds quotes only as
    escapes, and no colon follows it, so none can match.
    """
    scores = {name: _number_span(answer, f'"{name}": {{"score": ') for name in DIMENSIONS}
    return AnswerSpans(
        {name: span for name, span in scores.items() if span is not None},
        _number_span(answer, '"overall_grade": "'),
    )


def text_spans(answer: str) -> list[tuple[int, int]]:
    """(start, end) character offsets of the comments and recommendations of `canonical_answer`, without their quotes.

    A key can't occur inside a text, where its quotes would be escaped.
    """
    return [found.span(1) for found in _TEXT_VALUE.finditer(answer)]


def _number_span(text: str, key: str) -> tuple[int, int] | None:
    """Offsets of the number that follows the key."""
    place = text.find(key)
    number = _DIGITS.match(text, place + len(key)) if place >= 0 else None
    return number.span() if number else None


def grade_of_unfinished_answer(answer: str) -> str | None:
    """The grade that an answer must end with, as soon as it states all scores; None before.

    Args:
        answer: the beginning of an answer in the spelling of `canonical_answer`.
    """
    spans = answer_spans(answer).scores
    if len(spans) < len(DIMENSIONS) or any(end == len(answer) for _, end in spans.values()):
        return None  # a number at the end may go on: "1" becomes "10"
    return grade_from_scores({name: float(answer[start:end]) for name, (start, end) in spans.items()})


def dump_canonical_json(value: Any) -> str:
    """JSON in raw UTF-8, with escapes only where needed (and for DEL, which the grammar forbids).

    A lone surrogate stays an escape, so the text can always be encoded; the parsers reject it.
    """
    return _MUST_BE_ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value, ensure_ascii=False))


def is_empty_region(region: Region) -> bool:
    """True for a box without width or height, or with its sides exchanged: it points at nothing."""
    left, top, right, bottom = region
    return left >= right or top >= bottom


def critique_json_schema(form: AnswerForm = AnswerForm.COMMENTS, grade: str | None = None) -> dict[str, Any]:
    """JSON schema of a model's answer (scores are integers 0-10), for constrained decoding and the API.

    Args:
        form: the answer's form. Of advice, everything but scores, comments and grade may be left out.
        grade: the only overall grade that is allowed; None: any from 0.0 to 10.0.
    """
    advice = form is AnswerForm.ADVICE
    plain = {"score": _SCORE_SCHEMA, "comment": _TEXT_SCHEMA}
    advised = {**plain, "recommendation": _TEXT_SCHEMA}
    forms = [plain, advised, {**advised, "regions": _REGIONS_SCHEMA}] if advice else [plain]
    assessments = [_object_schema(properties) for properties in forms]
    assessment = {"anyOf": assessments} if advice else assessments[0]
    lists = {"strengths": _list_schema(MAX_STRENGTHS), "priority_improvements": _list_schema(MAX_PRIORITIES)}
    return _object_schema(
        {
            "dimensional_analysis": _object_schema(dict.fromkeys(DIMENSIONS, assessment)),
            **(lists if advice else {}),
            "overall_grade": {"type": "string", **({"pattern": _GRADE} if grade is None else {"const": grade})},
        },
        optional=tuple(lists),
    )


def scores_json_schema() -> dict[str, Any]:
    """JSON schema of an answer with scores alone, spelled like the beginning of each dimension of a critique."""
    scored = _object_schema({"score": _SCORE_SCHEMA})
    return _object_schema({"dimensional_analysis": _object_schema(dict.fromkeys(DIMENSIONS, scored))})


def form_of_schema(schema: Mapping[str, Any] | None) -> AnswerForm | None:
    """The form whose schema this is (None: the first form's); None for a caller's own schema."""
    if schema is None:
        return AnswerForm.COMMENTS
    return next((form for form in AnswerForm if schema == critique_json_schema(form)), None)


def _object_schema(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list_schema(most: int) -> dict[str, Any]:
    return {"type": "array", "items": _TEXT_SCHEMA, "minItems": 0, "maxItems": most}


_SCORE_SCHEMA: dict[str, Any] = {"type": "integer", "minimum": MIN_SCORE, "maximum": MAX_SCORE}
_TEXT_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": VISIBLE_CHARACTER,
    "minLength": 1,
    "maxLength": MAX_COMMENT_CHARACTERS,
}
_REGIONS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": REGION_SCALE},
        "minItems": 4,
        "maxItems": 4,
    },
    "minItems": 1,
    "maxItems": MAX_REGIONS,
}
_DIGITS = re.compile(r"[0-9]+(\.[0-9]+)?")
_TEXT_VALUE = re.compile(r'"(?:comment|recommendation)": "((?:[^"\\]|\\.)*)"')
_GRADE = r"^(10\.0|[0-9]\.[0-9])$"
_VISIBLE = re.compile(VISIBLE_CHARACTER)
_MUST_BE_ESCAPED = re.compile("[\x7f\ud800-\udfff]")
