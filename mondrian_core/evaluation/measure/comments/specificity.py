"""Whether comments fit their own photograph better than other photographs.

An answer's words are compared with the advisor's critiques of the same photograph and of others: cosine of word counts,
weighted by how rare a word is (tf-idf). No model judges. Legend: `N` photographs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.comments.texts import WrittenAnswer, words_of

CHOICES = 8  # photographs among which the right one must be found

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class TextSpecificity:
    """How an arm's answers fit the advisor's critiques.

    Attributes:
        photographs: the N names.
        excess: (N,) similarity (0-1) to the critique of the same photograph - mean similarity to the other critiques.
        found: how often the critique of the same photograph is the most similar one among `choices`.
        choices: `CHOICES`, or fewer where there are fewer photographs.
    """

    photographs: tuple[str, ...]
    excess: Vector
    found: int
    choices: int


def text_specificity(
    answers: Mapping[str, WrittenAnswer], advisor: Mapping[str, WrittenAnswer]
) -> TextSpecificity | None:
    """Specificity of answers; None for fewer than 2 photographs that the advisor wrote about too."""
    names = [name for name in advisor if name in answers]
    if len(names) < 2:
        return None
    weights = _rarity([advisor[name] for name in names])
    critiques = [_vector(advisor[name], weights) for name in names]
    written = [_vector(answers[name], weights) for name in names]
    table = np.array([[_cosine(own, critique) for critique in critiques] for own in written])
    n, choices = len(names), min(CHOICES, len(names))
    own = np.diag(table)
    found = sum(own[k] > max(table[k, other] for other in neighbors(k, n, choices)) for k in range(n))
    return TextSpecificity(tuple(names), own - (table.sum(axis=1) - own) / (n - 1), int(found), choices)


def neighbors(place: int, n: int, choices: int) -> list[int]:
    """The `choices` - 1 photographs that photograph `place` of `n` is compared with: those that follow it."""
    return [(place + step) % n for step in range(1, choices)]


def _rarity(critiques: Sequence[WrittenAnswer]) -> dict[str, float]:
    """Inverse document frequency (1 or more) of the words of these critiques."""
    counts = Counter(word for each in critiques for word in {word for text in each.texts for word in words_of(text)})
    return {word: math.log((1 + len(critiques)) / (1 + count)) + 1 for word, count in counts.items()}


def _vector(answer: WrittenAnswer, weights: Mapping[str, float]) -> dict[str, float]:
    """Weighted word counts of unit length; words that no critique holds get the weight of the rarest ones."""
    rarest = max(weights.values(), default=1.0)
    counts = Counter(word for text in answer.texts for word in words_of(text))
    weighted = {word: count * weights.get(word, rarest) for word, count in counts.items()}
    length = math.sqrt(sum(value**2 for value in weighted.values()))
    return {word: value / length for word, value in weighted.items()} if length else {}


def _cosine(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    return sum(value * second[word] for word, value in first.items() if word in second)
