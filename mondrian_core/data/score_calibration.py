"""Calibrating draft critiques: the base model's scores and words are moved to the advisor's range and vocabulary.

Rules that a reader can verify; no model is called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pstdev

from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_problems, synonyms
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, round_score

MAX_SLOPE = 2.0  # the noise of a base that hardly varies must not be stretched to the advisor's spread
MIN_SPREAD = 0.25
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*", re.IGNORECASE)


@dataclass(frozen=True)
class LinearCalibration:
    """advisor = advisor_mean + slope * (base - base_mean), for one dimension; scores 0-10."""

    base_mean: float
    advisor_mean: float
    slope: float

    def __call__(self, score: float) -> float:
        """The calibrated score, limited to 0-10."""
        return min(MAX_SCORE, max(MIN_SCORE, self.advisor_mean + self.slope * (score - self.base_mean)))


def fit_score_calibration(
    base: Sequence[Mapping[str, float]], advisor: Sequence[Mapping[str, float]]
) -> dict[str, LinearCalibration]:
    """By dimension, the line that gives the base's scores the advisor's mean and spread on the same photographs.

    Both lists are about the same training photographs, in the same order. So a photograph that is worse than the
    advisor's own stays worse, which matching a batch of unknown photographs to the advisor's distribution would not
    guarantee.

    Raises:
        ValueError: when the lists differ in length or are empty.
    """
    if len(base) != len(advisor) or not base:
        raise ValueError(f"{len(base)} critiques by the base for {len(advisor)} by the advisor")
    calibration = {}
    for name in DIMENSIONS:
        ours, theirs = [scores[name] for scores in base], [scores[name] for scores in advisor]
        slope = min(MAX_SLOPE, pstdev(theirs) / max(MIN_SPREAD, pstdev(ours)))
        calibration[name] = LinearCalibration(fmean(ours), fmean(theirs), slope)
    return calibration


def calibrated_draft_scores(scores: Mapping[str, float], by: Mapping[str, LinearCalibration]) -> dict[str, int]:
    """Whole scores in the advisor's range."""
    return {name: round_score(by[name](scores[name])) for name in DIMENSIONS}


class AdvisorVocabulary:
    """How often the advisor uses each word, by dimension; made from training critiques only."""

    def __init__(self, comments: Iterable[Mapping[str, str]]) -> None:
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in DIMENSIONS}
        for each in comments:
            for name in DIMENSIONS:
                self._counts[name].update(_words(each[name]))

    def with_advisor_synonyms(self, dimension: str, comment: str) -> str:
        """The comment with words replaced by synonyms that the advisor uses more often.

        `paraphrase_problems` checks each replacement, so at least half of the words stay and no fact changes.
        """
        counts, text = self._counts[dimension], comment
        for word, other in synonyms(dimension).items():
            if _rarest_word_count(other, counts) <= counts[word]:
                continue
            candidate = re.sub(
                rf"\b{word}\b",
                partial(_exchanged, other),
                text,
                flags=re.IGNORECASE,
            )
            text = text if paraphrase_problems(comment, candidate) else candidate
        return text

    def covered_word_share(self, comments: Mapping[str, str]) -> float:
        """Share (0-1) of the words of these comments that the advisor uses for the same dimension."""
        words = [(name, word) for name in DIMENSIONS for word in _words(comments[name])]
        return sum(self._counts[name][word] > 0 for name, word in words) / max(1, len(words))


def _exchanged(other: str, match: re.Match[str]) -> str:
    return _cased(match.group(), other)


def _cased(model: str, word: str) -> str:
    return word.capitalize() if model[0].isupper() else word


def _rarest_word_count(expression: str, counts: Counter[str]) -> int:
    """How often the rarest word of an expression was used."""
    return min(counts[word] for word in _words(expression))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
