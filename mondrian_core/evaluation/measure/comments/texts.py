"""The words of answers: comments and recommendations by dimension, and how a text is cut into words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.rubric import DIMENSIONS, Critique

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class WrittenAnswer:
    """What one critique says about one photograph.

    Attributes:
        photograph: its name.
        scores: as written, 0-10, by dimension.
        comments: by dimension.
        recommendations: by dimension, for those that have one.
    """

    photograph: str
    scores: Mapping[str, float]
    comments: Mapping[str, str]
    recommendations: Mapping[str, str]

    @property
    def texts(self) -> tuple[str, ...]:
        """All comments, then all recommendations."""
        return (*self.comments.values(), *self.recommendations.values())

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """Words and pairs of adjacent words of all texts."""
        return tuple(term for text in self.texts for term in terms_of(text))


@lru_cache(maxsize=65536)
def words_of(text: str) -> tuple[str, ...]:
    """The words in lower case; a letter of a script without case is a word, since many such scripts write no spaces."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        found += [word] if word.upper() != word or word.isdigit() else list(word)
    return tuple(found)


def terms_of(text: str) -> tuple[str, ...]:
    """The words, and the pairs of adjacent words."""
    words = words_of(text)
    return (*words, *(f"{first} {second}" for first, second in pairwise(words)))


@lru_cache(maxsize=4096)
def read_answer(photograph: str, text: str) -> WrittenAnswer | None:
    """What an answer says; None when it can't be read."""
    try:
        critique = parse_critique_lenient(text).critique
    except CritiqueParseError:
        return None
    return _written(photograph, critique)


def _written(photograph: str, critique: Critique) -> WrittenAnswer:
    comments = {name: critique.assessments[name].comment for name in DIMENSIONS}
    return WrittenAnswer(photograph, critique.scores, comments, critique.recommendations)


def read_answers(texts: Iterable[tuple[str, str]]) -> dict[str, WrittenAnswer]:
    """The readable ones of (photograph, answer), by photograph."""
    found = (read_answer(photograph, text) for photograph, text in texts)
    return {answer.photograph: answer for answer in found if answer is not None}


def answers_by_photograph(outcomes: Iterable[EvaluationOutcome], arm: str) -> dict[str, WrittenAnswer]:
    """An arm's readable answers."""
    return read_answers((each.photograph, each.text) for each in outcomes if each.arm == arm and each.ran)
