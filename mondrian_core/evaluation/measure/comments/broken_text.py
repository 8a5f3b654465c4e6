"""Answers whose comments say nothing: empty, repetitive, the same for every photograph, or without known words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mondrian_core.evaluation.measure.comments.texts import WrittenAnswer, words_of
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.text_quality import is_placeholder_comment, text_problem

MOST = 0.5  # an answer is broken when more than this share of its comments, or of its words, is
_FEWEST_WORDS = 2  # of a comment that says something
EMPTY, REPEATED, SAME, UNKNOWN = "empty", "repetitive", "the same for most photographs", "of unknown words"


@dataclass(frozen=True)
class BrokenText:
    """Broken answers.

    Attributes:
        n: readable answers of the candidate.
        broken: by photograph why its answer is broken, such as "empty".
        advisor_n, advisor_broken: numbers of the advisor's critiques, and of those that the same checks call broken.
    """

    n: int
    broken: Mapping[str, str]
    advisor_n: int
    advisor_broken: int


def broken_text(
    candidate: Sequence[WrittenAnswer], advisor: Sequence[WrittenAnswer], others: Sequence[WrittenAnswer]
) -> BrokenText:
    """The candidate's broken answers, and the advisor's critiques by the same checks.

    Args:
        candidate: its answers.
        advisor: critiques by the advisor: the candidate may do what they do.
        others: more answers whose words are known, such as the base's.
    """
    words = frozenset(word for answer in (*advisor, *others) for text in answer.texts for word in words_of(text))
    return BrokenText(
        n=len(candidate),
        broken=_problems(candidate, words),
        advisor_n=len(advisor),
        advisor_broken=len(_problems(advisor, words)),
    )


def _problems(answers: Sequence[WrittenAnswer], known_words: frozenset[str]) -> dict[str, str]:
    repeated = _frequent_comments(answers)
    found = {answer.photograph: _problem(answer, repeated, known_words) for answer in answers}
    return {name: problem for name, problem in found.items() if problem}


def _frequent_comments(answers: Sequence[WrittenAnswer]) -> frozenset[tuple[str, str]]:
    """(dimension, comment) of comments that more than `MOST` of the answers give; none of fewer than 3 answers."""
    if len(answers) < 3:
        return frozenset()
    counts = Counter((name, answer.comments[name]) for answer in answers for name in DIMENSIONS)
    return frozenset(key for key, count in counts.items() if count > MOST * len(answers))


def _problem(answer: WrittenAnswer, repeated: frozenset[tuple[str, str]], known_words: frozenset[str]) -> str:
    texts, words = answer.texts, [word for text in answer.texts for word in words_of(text)]

    def most(flags: list[bool]) -> bool:
        return sum(flags) > MOST * len(flags)

    if most([is_placeholder_comment(text) or len(words_of(text)) < _FEWEST_WORDS for text in texts]):
        return EMPTY
    if any(text_problem(text) for text in texts):
        return REPEATED
    if most([(name, answer.comments[name]) in repeated for name in DIMENSIONS]):
        return SAME
    return UNKNOWN if known_words and most([word not in known_words for word in words]) else ""
