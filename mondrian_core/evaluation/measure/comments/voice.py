"""Whose voice the comments have: this advisor's, or that of the workspace's other advisors.

A naive Bayes classifier of critiques: log-odds of words and word pairs with add-one smoothing. scikit-learn is not
needed for so little, and words are all that a reader can check.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mondrian_core.evaluation.measure.comments.texts import WrittenAnswer

FEWEST_CRITIQUES = 8  # of the advisor, and of the others together


@dataclass(frozen=True, kw_only=True)
class VoiceComparison:
    """Whose voice the classifier hears.

    Attributes:
        critiques: of each side that it learned from.
        recognized: of both sides' critiques, those that it attributes rightly when each is left out in turn.
        candidate: by photograph the mean log-odds (nats per known term) that the advisor wrote the candidate's answer.
        base: the same for the base's answers about the same photographs.
    """

    critiques: int
    recognized: int
    candidate: Mapping[str, float]
    base: Mapping[str, float]

    @property
    def attributed(self) -> int:
        """The candidate's answers that are attributed to the advisor; one without known words is not."""
        return sum(value > 0 for value in self.candidate.values())


def voice_comparison(
    advisor: Sequence[WrittenAnswer],
    others: Sequence[WrittenAnswer],
    candidate: Mapping[str, WrittenAnswer],
    base: Mapping[str, WrittenAnswer],
) -> VoiceComparison | None:
    """Compare voices; None where one side has fewer than `FEWEST_CRITIQUES` critiques or the candidate no answer.

    Both sides learn from the same number of critiques, because smoothing favors the smaller side.
    """
    count = min(len(advisor), len(others))
    if count < FEWEST_CRITIQUES or not candidate:
        return None
    ours = [Counter(answer.terms) for answer in _spread(advisor, count)]
    theirs = [Counter(answer.terms) for answer in _spread(others, count)]
    odds = _LogOdds(_total(ours), _total(theirs))
    right = sum(odds.of(terms, leaving=(terms, Counter())) > 0 for terms in ours)
    right += sum(odds.of(terms, leaving=(Counter(), terms)) < 0 for terms in theirs)
    return VoiceComparison(
        critiques=count,
        recognized=right,
        candidate={name: odds.of(Counter(answer.terms)) for name, answer in candidate.items()},
        base={name: odds.of(Counter(base[name].terms)) for name in candidate if name in base},
    )


def _total(counts: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _spread(answers: Sequence[WrittenAnswer], count: int) -> list[WrittenAnswer]:
    """`count` answers at equal distances, so that each of several advisors has its part."""
    return [answers[k * len(answers) // count] for k in range(count)]


class _LogOdds:
    """Log-odds of terms from their counts in the critiques of both sides."""

    def __init__(self, ours: Counter[str], theirs: Counter[str]) -> None:
        self._ours, self._theirs = ours, theirs
        self._totals = ours.total(), theirs.total()
        self._terms = len(ours.keys() | theirs.keys())

    def of(self, terms: Counter[str], *, leaving: Sequence[Counter[str]] = (Counter(), Counter())) -> float:
        """Mean log-odds of the known terms, 0 without any; `leaving` is left out of the counts of the two sides."""
        odds, count = 0.0, 0
        ours_total, theirs_total = (total - left.total() for total, left in zip(self._totals, leaving, strict=True))
        for term, times in terms.items():
            ours, theirs = self._ours[term] - leaving[0][term], self._theirs[term] - leaving[1][term]
            if ours or theirs:
                more = (ours + 1) / (ours_total + self._terms) * (theirs_total + self._terms) / (theirs + 1)
                odds, count = odds + times * math.log(more), count + times
        return odds / count if count else 0.0
