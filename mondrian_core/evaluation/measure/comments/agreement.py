"""Whether comments say what the scores say: a probe that predicts the advisor's score from the advisor's comment.

The probe is a kernel ridge regression on counts of words and word pairs. Its kernel is the cosine of two comments, and
twice that for comments on one dimension, so that a word may mean something else there.
Legend: `M` comments of training, `N` photographs, `D` dimensions in the order of `rubric.DIMENSIONS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.comments.texts import WrittenAnswer, terms_of
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics import bootstrap

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FEWEST_CRITIQUES = 8  # to learn from
_MOST_CRITIQUES = 250  # 2,000 comments: more make the probe slow and hardly better
_RIDGE = 1.0
_DRAWS = 2000

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreAgreement:
    """Rank correlation of predicted and written scores, within dimensions.

    Attributes:
        n: photographs.
        correlation: -1 to 1.
        drawn: (draws,) that of each bootstrap sample of photographs.
    """

    n: int
    correlation: float
    drawn: Vector

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided percentile interval."""
        low, high = np.quantile(self.drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


class ScoreProbe:
    """Predicts scores from comments."""

    def __init__(self, critiques: Sequence[WrittenAnswer]) -> None:
        """Learn from the advisor's critiques, at most `_MOST_CRITIQUES` of them at equal distances.

        Raises:
            ValueError: no critique is given.
        """
        count = min(len(critiques), _MOST_CRITIQUES)
        if not count:
            raise ValueError("a probe needs critiques")
        kept = [critiques[k * len(critiques) // count] for k in range(count)]
        self._terms = {
            term: place
            for place, term in enumerate(
                dict.fromkeys(term for each in kept for text in each.comments.values() for term in terms_of(text))
            )
        }
        scores = _written_scores(kept)
        self._means = scores.mean(axis=0)
        self._known = self._rows(kept)
        kernel = self._kernel(self._known, len(kept))
        self._weights = np.linalg.solve(kernel + _RIDGE * np.eye(len(kernel)), (scores - self._means).ravel())

    def predict(self, answers: Sequence[WrittenAnswer]) -> Vector:
        """(N, D) predicted scores."""
        found = self._kernel(self._rows(answers), len(answers)) @ self._weights
        return np.asarray(found.reshape(len(answers), len(DIMENSIONS)) + self._means)

    def _rows(self, answers: Sequence[WrittenAnswer]) -> csr_matrix:
        """(N * D, terms) of unit length, one row for each comment."""
        from scipy.sparse import csr_matrix

        places: list[tuple[int, int]] = []
        values: list[float] = []
        comments = [each.comments[name] for each in answers for name in DIMENSIONS]
        for row, comment in enumerate(comments):
            counts = Counter(self._terms[term] for term in terms_of(comment) if term in self._terms)
            length = float(np.sqrt(sum(count**2 for count in counts.values())))
            places += [(row, place) for place in counts]
            values += [count / length for count in counts.values()]
        index: Any = tuple(np.array(places, dtype=np.int64).reshape(-1, 2).T)
        return csr_matrix((values, index), shape=(len(comments), len(self._terms)))

    def _kernel(self, rows: csr_matrix, answers: int) -> Vector:
        """(rows, M) similarity of comments to those of training."""
        cosine = np.asarray((rows @ self._known.T).todense())
        dimension = np.arange(len(DIMENSIONS))
        same = np.tile(dimension, answers)[:, None] == np.tile(dimension, self._known.shape[0] // len(DIMENSIONS))
        return np.asarray(cosine * (1.0 + same))


def _written_scores(answers: Sequence[WrittenAnswer]) -> Vector:
    """(N, D) of the answers."""
    return np.array([[each.scores[name] for name in DIMENSIONS] for each in answers], dtype=np.float64)


def score_agreement(predicted: Vector, written: Vector, seed: int = 0) -> ScoreAgreement | None:
    """Agreement of predicted and written scores (N, D); None for fewer than 3 photographs or constant scores.

    Both are centred within dimensions and ranked together. Photographs are drawn as a whole, since the scores of one
    aren't independent.
    """
    from scipy.stats import rankdata

    n = len(written)
    if n < 3:
        return None
    centred = [values - values.mean(axis=0) for values in (predicted, written)]
    if any(np.ptp(values) < 1e-9 for values in centred):
        return None
    x, y = (rankdata(values.round(9)).reshape(values.shape) for values in centred)
    sums = np.stack([part.sum(axis=1) for part in (x, y, x * x, y * y, x * y)])  # (5, N)
    counts = np.vstack([np.ones(n), bootstrap.bootstrap_counts(n, seed, _DRAWS)]).astype(np.float64)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (counts @ sums.T).T / (n * len(DIMENSIONS))
    spread = np.sqrt(np.maximum((mean_xx - mean_x**2) * (mean_yy - mean_y**2), 1e-12))
    correlations = (mean_xy - mean_x * mean_y) / spread
    return ScoreAgreement(n, float(correlations[0]), correlations[1:])


@dataclass(frozen=True)
class CommentAgreement:
    """How well comments agree with scores, by the same probe: the advisor's held-out ones, the candidate's, the base's.

    The advisor's is what the probe can find at best; negative, where critiques of training contradict held-out ones.
    """

    advisor: ScoreAgreement
    candidate: ScoreAgreement
    base: ScoreAgreement | None


def comment_agreement(
    training: Mapping[int, Sequence[WrittenAnswer]],
    answers: Mapping[str, Mapping[str, WrittenAnswer]],
    fold_of: Mapping[str, int],
    seed: int = 0,
) -> CommentAgreement | None:
    """Agreement of every side in `answers` ("advisor", "candidate", "base"); None where the first two can't be had.

    Args:
        training: by fold the critiques that its probe learns from; fold 0 alone without cross-validation.
        answers: by side and photograph.
        fold_of: the fold of each photograph; 0 for one that isn't in it.
        seed: of the bootstrap samples.
    """
    probes = {fold: ScoreProbe(critiques) for fold, critiques in training.items() if len(critiques) >= FEWEST_CRITIQUES}
    found = {}
    for side, by_photograph in answers.items():
        inside = {
            fold: [each for name, each in by_photograph.items() if fold_of.get(name, 0) == fold] for fold in probes
        }
        parts = [(probes[fold].predict(kept), _written_scores(kept)) for fold, kept in inside.items() if kept]
        if parts:
            predicted, written = (np.vstack(rows) for rows in zip(*parts, strict=True))
            found[side] = score_agreement(predicted, written, seed)
    advisor, candidate = found.get("advisor"), found.get("candidate")
    return CommentAgreement(advisor, candidate, found.get("base")) if advisor and candidate else None
