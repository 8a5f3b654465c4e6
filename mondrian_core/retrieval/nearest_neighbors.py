"""Nearest-neighbor retrieval in an advisor's portfolio, by scores and optionally by image embeddings.

A score profile is the scores (0-10) of one photograph, one per dimension of the rubric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from mondrian_core.prompts import PortfolioComparison, PortfolioNeighbour
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE
from mondrian_core.store import DimensionalProfile
from mondrian_core.store.corrections import is_correction
from mondrian_core.store.photographs import path_below_source as path_below_source

NEIGHBORS = 3
MIN_DEVIATION = 0.5  # a dimension on which the advisor hardly varies must not dominate
PROFILE_WEIGHT = 0.5  # in a hybrid similarity; the embeddings have the rest
MAX_EXCERPT_LENGTH = 160

Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ReferencePhotograph:
    """A critiqued photograph of the portfolio.

    Attributes:
        path: as the database has it.
        scores: by dimension, 0-10.
        comments: by dimension.
        grade: the overall grade.
        file: a key that is equal for equal files; empty means the path.
    """

    path: str
    scores: Scores
    comments: Mapping[str, str]
    grade: str | None = None
    file: str = ""

    @property
    def name(self) -> str:
        """The file's name without folders, whichever system wrote the path."""
        return PureWindowsPath(self.path).name if "\\" in self.path else PurePosixPath(self.path).name


@dataclass(frozen=True)
class ScoreSpread:
    """How the portfolio scores one dimension: mean, standard deviation, lowest and highest (0-10)."""

    mean: float
    deviation: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Portfolio:
    """The references of one advisor, one per photograph."""

    references: tuple[ReferencePhotograph, ...] = ()

    @property
    def spreads(self) -> dict[str, ScoreSpread]:
        """Spread by dimension; empty for an empty portfolio."""
        return {
            name: _score_spread([each.scores[name] for each in self.references])
            for name in DIMENSIONS
            if self.references
        }


def portfolio_from_profiles(
    profiles: Iterable[DimensionalProfile],
    locate: Callable[[str], str | None] = path_below_source,
    digest: Callable[[str], str] = lambda file: file,
) -> Portfolio:
    """The portfolio: profiles by a person with a usable score in every dimension, the newest per photograph.

    The newest is decided by `created_at` where both rows have one, otherwise by row order. Corrections are left out:
    their photographs are a user's, not the advisor's.

    Args:
        profiles: of one advisor.
        locate: path of the database -> key of the file; None leaves the profile out (temporary and missing files).
        digest: key of a file -> digest of its content; called only for files with equal names, to find copies.
    """
    references: dict[str, ReferencePhotograph] = {}
    written: dict[str, str] = {}  # file -> created_at, "" where the row has none
    for profile in sorted(profiles, key=lambda each: each.order):
        scores = {name: score for name in DIMENSIONS if (score := _usable_score(profile.scores.get(name))) is not None}
        own = profile.origin == "human" and not is_correction(profile)
        if len(scores) == len(DIMENSIONS) and own and (file := locate(profile.image_path)) is not None:
            at, before = profile.created_at or "", written.get(file, "")
            if at and before and at < before:
                continue
            written[file] = at
            comments = {name: profile.comments.get(name) or "" for name in DIMENSIONS}
            references.pop(file, None)
            references[file] = ReferencePhotograph(
                path=profile.image_path, scores=scores, comments=comments, grade=profile.overall_grade, file=file
            )
    return Portfolio(_without_copies(references.values(), digest))


def _without_copies(
    references: Iterable[ReferencePhotograph], digest: Callable[[str], str]
) -> tuple[ReferencePhotograph, ...]:
    """The references without copies; of copies with equal names the last one is kept."""
    by_name: dict[str, list[ReferencePhotograph]] = {}
    for reference in references:
        by_name.setdefault(reference.name.casefold(), []).append(reference)
    kept: list[ReferencePhotograph] = []
    for group in by_name.values():
        kept += {digest(each.file): each for each in group}.values() if len(group) > 1 else group
    return tuple(kept)


def nearest_references(
    scores: Scores,
    portfolio: Portfolio,
    count: int = NEIGHBORS,
    *,
    embedding: Sequence[float] | None = None,
    embeddings: Mapping[str, Sequence[float]] | None = None,
    same: Callable[[ReferencePhotograph], bool] = lambda reference: False,
) -> list[tuple[ReferencePhotograph, float]]:
    """The `count` most similar references and their similarity (0-1), most similar first; ties by name.

    Args:
        scores: of the photograph.
        portfolio: the references.
        count: how many to return.
        embedding: of the photograph, shape (D,); with `embeddings` the similarity is hybrid.
        embeddings: file of a reference -> vector, shape (D,).
        same: true for a reference that is the photograph itself, which is skipped.
    """
    spreads = portfolio.spreads

    def similarity(reference: ReferencePhotograph) -> float:
        close = profile_similarity(scores, reference.scores, spreads)
        other = (embeddings or {}).get(reference.file or reference.path)
        if embedding is None or other is None or len(other) != len(embedding):
            return close
        return PROFILE_WEIGHT * close + (1 - PROFILE_WEIGHT) * max(0.0, cosine_similarity(embedding, other))

    ranked = sorted(
        ((similarity(each), each) for each in portfolio.references),
        key=lambda pair: (-pair[0], pair[1].name, pair[1].path),
    )
    chosen: list[tuple[ReferencePhotograph, float]] = []
    for value, reference in ranked:
        if len(chosen) == count:
            break
        if not same(reference):
            chosen.append((reference, value))
    return chosen


def profile_similarity(first: Scores, second: Scores, spreads: Mapping[str, ScoreSpread]) -> float:
    """exp(-d^2 / 2) of the root-mean-square distance d in standard deviations of each dimension; 1 is equal."""
    squares = [((first[name] - second[name]) / max(MIN_DEVIATION, spreads[name].deviation)) ** 2 for name in DIMENSIONS]
    return math.exp(-sum(squares) / len(squares) / 2)


def cosine_similarity(first: Sequence[float], second: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 when one of them is zero."""
    lengths = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0


def comparison_from_neighbors(
    scores: Scores, portfolio: Portfolio, neighbours: Sequence[tuple[ReferencePhotograph, float]]
) -> PortfolioComparison:
    """The input of the second pass: the first pass's scores, the neighbors, and the portfolio's score spread."""
    spreads = {name: (spread.mean, spread.lowest, spread.highest) for name, spread in portfolio.spreads.items()}
    shown = tuple(_neighbor_with_gaps(scores, reference) for reference, _ in neighbours)
    return PortfolioComparison(dict(scores), shown, spreads, len(portfolio.references))


def _neighbor_with_gaps(scores: Scores, reference: ReferencePhotograph) -> PortfolioNeighbour:
    """A neighbor with its comments on the two dimensions where the photograph falls short of it the most."""
    gaps = sorted(DIMENSIONS, key=lambda name: scores[name] - reference.scores[name])
    comments = {name: _excerpt(reference.comments[name]) for name in gaps[:2] if reference.comments.get(name)}
    return PortfolioNeighbour(reference.name, dict(reference.scores), comments)


def _excerpt(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MAX_EXCERPT_LENGTH else plain[: MAX_EXCERPT_LENGTH - 3].rsplit(" ", 1)[0] + "..."


def _score_spread(values: Sequence[float]) -> ScoreSpread:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return ScoreSpread(mean, deviation, min(values), max(values))


def _usable_score(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if MIN_SCORE <= value <= MAX_SCORE else None
