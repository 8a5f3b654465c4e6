"""The answer to train on for a critique: what fits into an answer, in the spelling that its tokens decode to.

An answer can't hold all that a critique may say. What doesn't fit is left out whole and named; nothing is cut within a
text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_COMMENT_CHARACTERS,
    MAX_PRIORITIES,
    MAX_REGIONS,
    MAX_STRENGTHS,
    REGION_SCALE,
    AnswerForm,
    Assessment,
    Critique,
    Region,
    canonical_answer,
    grade_from_scores,
    has_visible_character,
    is_empty_region,
    round_score,
    without_advice,
)

T = TypeVar("T")


def training_target(critique: Critique, form: AnswerForm = AnswerForm.COMMENTS) -> str:
    """The answer to train on for a critique: whole scores, the matching grade, and texts in NFC.

    Tokenizers normalize text to NFC; the answer must equal its decoded tokens. Of advice it holds what the grammar
    could write (`fitting_advice`).
    """
    kept = without_advice(critique) if form is AnswerForm.COMMENTS else fitting_advice(critique)[0]
    spelled = {
        name: replace(
            each,
            score=round_score(each.score),
            comment=normalized_text(each.comment),
            recommendation=normalized_text(each.recommendation) if each.recommendation else None,
        )
        for name, each in kept.assessments.items()
    }
    whole = replace(
        kept,
        assessments=spelled,
        overall_grade=grade_from_scores({name: spelled[name].score for name in DIMENSIONS}),
        strengths=tuple(map(normalized_text, kept.strengths)),
        priority_improvements=tuple(map(normalized_text, kept.priority_improvements)),
    )
    return canonical_answer(whole, form)


def fitting_advice(
    critique: Critique, says_something: Callable[[str], bool] = has_visible_character
) -> tuple[Critique, tuple[str, ...]]:
    """(The critique with the advice that an answer can hold, what it can't hold, in words for people.)

    Left out are texts that say nothing or are longer than `MAX_COMMENT_CHARACTERS`, regions that point at nothing once
    they are rounded, and what exceeds the most that an answer may hold.

    Args:
        critique: with any advice.
        says_something: whether a text of advice is worth teaching; at least, whether one sees any of it.
    """
    lost: list[str] = []

    def problem_of(text: str) -> str:
        if not says_something(text):
            return "it says nothing"
        length = len(normalized_text(text))
        return f"{length:,} of at most {MAX_COMMENT_CHARACTERS} characters" if length > MAX_COMMENT_CHARACTERS else ""

    def fitting(name: str, assessment: Assessment) -> Assessment:
        if not assessment.recommendation:
            return replace(assessment, recommendation=None, regions=())
        if problem := problem_of(assessment.recommendation):
            lost.append(f"the recommendation on {name} ({problem})")
            return replace(assessment, recommendation=None, regions=())
        shown = [region for region in assessment.regions if not is_empty_region(rounded_region(region))]
        if empty := len(assessment.regions) - len(shown):
            lost.append(f"{empty} of the regions of {name} (too small to point at something)")
        return replace(assessment, regions=_first(f"regions of {name}", shown, MAX_REGIONS, lost))

    def fitting_list(name: str, texts: Sequence[str], most: int) -> tuple[str, ...]:
        problems = [problem_of(text) for text in texts]
        lost.extend(f"one of the {name} ({problem})" for problem in problems if problem)
        return _first(name, [text for text, problem in zip(texts, problems, strict=True) if not problem], most, lost)

    kept = replace(
        critique,
        assessments={name: fitting(name, critique.assessments[name]) for name in DIMENSIONS},
        strengths=fitting_list("strengths", critique.strengths, MAX_STRENGTHS),
        priority_improvements=fitting_list("priority_improvements", critique.priority_improvements, MAX_PRIORITIES),
    )
    return kept, tuple(lost)


def _first(name: str, given: Sequence[T], most: int, lost: list[str]) -> tuple[T, ...]:
    """The first ones, which an advisor names first; `lost` receives how many there are more."""
    if len(given) > most:
        lost.append(f"{len(given) - most} of the {name} (more than {most})")
    return tuple(given[:most])


def rounded_region(region: Region) -> Region:
    """The region as a model writes it, in thousandths, as fractions again."""
    left, top, right, bottom = (round(REGION_SCALE * value) / REGION_SCALE for value in region)
    return left, top, right, bottom


def normalized_text(text: str) -> str:
    r"""The text in NFC, so that it stays the same in JSON: an accent after a control character gets a space before it.

    Otherwise NFC would join it with the letter that ends the escape: a line break and U+0301 would become `\ń`.
    """
    return _ACCENT_AFTER_ESCAPE.sub(r"\1 ", unicodedata.normalize("NFC", text))


def overlong_comments(comments: Mapping[str, str]) -> str:
    """A description of the comments longer than `MAX_COMMENT_CHARACTERS`; empty if there is none."""
    lengths = {name: len(normalized_text(comment)) for name, comment in comments.items()}
    over = [f"{name} {length}" for name, length in lengths.items() if length > MAX_COMMENT_CHARACTERS]
    return f"{', '.join(over)} of at most {MAX_COMMENT_CHARACTERS} characters" if over else ""


# the nonspacing marks of the blocks whose marks compose with Latin letters
_ACCENT_AFTER_ESCAPE = re.compile("([\x00-\x1f\x7f])(?=[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff])")
