"""The advisor's portfolio as something to compare with: its photographs' scores, their spread, and the nearest ones.

Legend: a profile is the eight scores (0-10) of one photograph; D = 8 dimensions.
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

NEIGHBORS = 3
MIN_DEVIATION = 0.5  # a dimension on which the advisor hardly varies must not outweigh all others
PROFILE_WEIGHT = 0.5  # of a hybrid similarity; the embeddings have the rest
MAX_EXCERPT_LENGTH = 160

Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ReferencePhotograph:
    """A critiqued photograph of the portfolio; `path` as the database has it, `file` which file that is (any key that
    is the same for the same file; empty: the path)."""

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


def path_below_source(path: str) -> str:
    """A path of the database, perhaps another machine's, below source/ with "/"."""
    return path.replace("\\", "/").rpartition("source/")[2]


def portfolio_from_profiles(
    profiles: Iterable[DimensionalProfile],
    locate: Callable[[str], str | None] = path_below_source,
    digest: Callable[[str], str] = lambda file: file,
) -> Portfolio:
    """What can be compared with: profiles by a person with eight usable scores; the newest of each photograph
    (by the moment they were written where both rows have one, else by the order of the rows).

    What a person corrected is a photograph of their own, not of the advisor's, and is left out.

    Args:
        locate: the file that a path of the database means, as a key; None leaves out temporary files and lost ones.
        digest: of a file's content; asked only for files of one name, which are one photograph or several.
    """
    found: dict[str, ReferencePhotograph] = {}
    written: dict[str, str] = {}  # when, by file; "" where the row doesn't say
    for profile in sorted(profiles, key=lambda each: each.order):
        scores = {name: score for name in DIMENSIONS if (score := _usable_score(profile.scores.get(name))) is not None}
        own = profile.origin == "human" and not is_correction(profile)
        if len(scores) == len(DIMENSIONS) and own and (file := locate(profile.image_path)) is not None:
            at, before = profile.created_at or "", written.get(file, "")
            if at and before and at < before:
                continue
            written[file] = at
            comments = {name: profile.comments.get(name) or "" for name in DIMENSIONS}
            found.pop(file, None)
            found[file] = ReferencePhotograph(
                path=profile.image_path, scores=scores, comments=comments, grade=profile.overall_grade, file=file
            )
    return Portfolio(_without_copies(found.values(), digest))


def _without_copies(
    references: Iterable[ReferencePhotograph], digest: Callable[[str], str]
) -> tuple[ReferencePhotograph, ...]:
    """The references, of copies with one name the last."""
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
        embedding: of the photograph; with `embeddings` (by reference's file) the similarity is hybrid.
        same: true for the photograph itself, which is no comparison.
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
    """What the second pass is told: the first pass's scores, the neighbours, the portfolio's spread."""
    spreads = {name: (spread.mean, spread.lowest, spread.highest) for name, spread in portfolio.spreads.items()}
    told = tuple(_neighbor_with_gaps(scores, reference) for reference, _ in neighbours)
    return PortfolioComparison(dict(scores), told, spreads, len(portfolio.references))


def _neighbor_with_gaps(scores: Scores, reference: ReferencePhotograph) -> PortfolioNeighbour:
    """A neighbour with what was said about the two dimensions on which the photograph falls short of it the most."""
    gaps = sorted(DIMENSIONS, key=lambda name: scores[name] - reference.scores[name])
    said = {name: _excerpt(reference.comments[name]) for name in gaps[:2] if reference.comments.get(name)}
    return PortfolioNeighbour(reference.name, dict(reference.scores), said)


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
