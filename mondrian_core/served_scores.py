"""Served scores: the whole score nearest to the model's expected value, in place of the digit that it wrote.

The expected value over the score tokens is closer to the advisor than the written digit, which is only its likeliest
one. Rounded, it is a score like any other: the schema, the readers and a person's corrections need no change. The
service shows these scores and the evaluation measures them; both call `with_served_scores`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from mondrian_core.rubric import DIMENSIONS, Assessment, Critique, grade_from_scores, int_if_whole, round_score

_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def with_served_scores(critique: Critique, expected: Mapping[str, float]) -> Critique:
    """The critique with each written score replaced by the rounded expected one, and the grade that fits.

    A written score stays where the expected one is missing or not finite, and where the comment states it: the comment
    would contradict another score. The grade changes only when a score does.

    Args:
        critique: as the model wrote it.
        expected: expected scores (0-10) by dimension.
    """
    served = {name: _served_score(critique.assessments[name], expected.get(name, math.nan)) for name in DIMENSIONS}
    if served == critique.scores:
        return critique
    assessments = {name: replace(entry, score=served[name]) for name, entry in critique.assessments.items()}
    return replace(critique, assessments=assessments, overall_grade=grade_from_scores(served))


def _served_score(written: Assessment, expected: float) -> float:
    if not math.isfinite(expected) or states_score(written.comment, written.score):
        return written.score
    return round_score(expected)


def states_score(comment: str, score: float) -> bool:
    """True when a comment contains this score as a number, or as a word with "out of": "8/10", "eight out of ten"."""
    text = re.escape(f"{int_if_whole(score)}")
    if re.search(rf"(?<![\d.,]){text}(?![\d]|[.,]\d)", comment):
        return True
    if not float(score).is_integer():
        return False
    return re.search(rf"\b{_NUMBER_WORDS[int(score)]}\s+out\s+of\b", comment, re.IGNORECASE) is not None
