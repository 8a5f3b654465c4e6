"""The advisor's portfolio as something to compare with: its photographs' scores, their spread, and the nearest ones.

Legend: a profile is the eight scores (0-10) of one photograph; D = 8 dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from mondrian_core.prompts import Comparison, Neighbour
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE
from mondrian_core.serving.feedback import is_correction
from mondrian_core.store import Profile

NEIGHBOURS = 3
SMALLEST_SPREAD = 0.5  # a dimension on which the advisor hardly varies must not outweigh all others
PROFILE_WEIGHT = 0.5  # of a hybrid similarity; the embeddings have the rest
MOST_COMMENT = 160

Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Reference:
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
class Spread:
    """How the portfolio scores one dimension: mean, standard deviation, lowest and highest (0-10)."""

    mean: float
    deviation: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Portfolio:
    """The references of one advisor, one per photograph."""

    references: tuple[Reference, ...] = ()

    @property
    def spreads(self) -> dict[str, Spread]:
        """Spread by dimension; empty for an empty portfolio."""
        return {
            name: _spread([each.scores[name] for each in self.references]) for name in DIMENSIONS if self.references
        }


def inside_source(path: str) -> str:
    """A path of the database, perhaps another machine's, below source/ with "/"."""
    return path.replace("\\", "/").rpartition("source/")[2]


def portfolio_of(
    profiles: Iterable[Profile],
    locate: Callable[[str], str | None] = inside_source,
    digest: Callable[[str], str] = lambda file: file,
) -> Portfolio:
    """What can be compared with: profiles by a person with eight usable scores; the newest of each photograph
    (by the moment they were written where both rows have one, else by the order of the rows).

    What a person corrected is a photograph of their own, not of the advisor's, and is left out.

    Args:
        locate: the file that a path of the database means, as a key; None leaves out temporary files and lost ones.
        digest: of a file's content; asked only for files of one name, which are one photograph or several.
    """
    found: dict[str, Reference] = {}
    written: dict[str, str] = {}  # when, by file; "" where the row doesn't say
    for profile in sorted(profiles, key=lambda each: each.order):
        scores = {name: score for name in DIMENSIONS if (score := _usable(profile.scores.get(name))) is not None}
        own = profile.origin == "human" and not is_correction(profile)
        if len(scores) == len(DIMENSIONS) and own and (file := locate(profile.image_path)) is not None:
            at, before = profile.created_at or "", written.get(file, "")
            if at and before and at < before:
                continue
            written[file] = at
            comments = {name: profile.comments.get(name) or "" for name in DIMENSIONS}
            found.pop(file, None)
            found[file] = Reference(
                path=profile.image_path, scores=scores, comments=comments, grade=profile.overall_grade, file=file
            )
    return Portfolio(_without_copies(found.values(), digest))


def _without_copies(references: Iterable[Reference], digest: Callable[[str], str]) -> tuple[Reference, ...]:
    """The references, of copies with one name the last."""
    by_name: dict[str, list[Reference]] = {}
    for reference in references:
        by_name.setdefault(reference.name.casefold(), []).append(reference)
    kept: list[Reference] = []
    for group in by_name.values():
        kept += {digest(each.file): each for each in group}.values() if len(group) > 1 else group
    return tuple(kept)


def nearest(
    scores: Scores,
    portfolio: Portfolio,
    count: int = NEIGHBOURS,
    *,
    embedding: Sequence[float] | None = None,
    embeddings: Mapping[str, Sequence[float]] | None = None,
    same: Callable[[Reference], bool] = lambda reference: False,
) -> list[tuple[Reference, float]]:
    """The `count` most similar references and their similarity (0-1), most similar first; ties by name.

    Args:
        embedding: of the photograph; with `embeddings` (by reference's file) the similarity is hybrid.
        same: true for the photograph itself, which is no comparison.
    """
    spreads = portfolio.spreads

    def similarity(reference: Reference) -> float:
        close = profile_similarity(scores, reference.scores, spreads)
        other = (embeddings or {}).get(reference.file or reference.path)
        if embedding is None or other is None or len(other) != len(embedding):
            return close
        return PROFILE_WEIGHT * close + (1 - PROFILE_WEIGHT) * max(0.0, cosine(embedding, other))

    ranked = sorted(
        ((similarity(each), each) for each in portfolio.references),
        key=lambda pair: (-pair[0], pair[1].name, pair[1].path),
    )
    chosen: list[tuple[Reference, float]] = []
    for value, reference in ranked:
        if len(chosen) == count:
            break
        if not same(reference):
            chosen.append((reference, value))
    return chosen


def profile_similarity(first: Scores, second: Scores, spreads: Mapping[str, Spread]) -> float:
    """exp(-d^2 / 2) of the root-mean-square distance d in standard deviations of each dimension; 1 is equal."""
    squares = [
        ((first[name] - second[name]) / max(SMALLEST_SPREAD, spreads[name].deviation)) ** 2 for name in DIMENSIONS
    ]
    return math.exp(-sum(squares) / len(squares) / 2)


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 when one of them is zero."""
    lengths = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0


def comparison(scores: Scores, portfolio: Portfolio, neighbours: Sequence[tuple[Reference, float]]) -> Comparison:
    """What the second pass is told: the first pass's scores, the neighbours, the portfolio's spread."""
    spreads = {name: (spread.mean, spread.lowest, spread.highest) for name, spread in portfolio.spreads.items()}
    told = tuple(_neighbour(scores, reference) for reference, _ in neighbours)
    return Comparison(dict(scores), told, spreads, len(portfolio.references))


def _neighbour(scores: Scores, reference: Reference) -> Neighbour:
    """A neighbour with what was said about the two dimensions on which the photograph falls short of it the most."""
    gaps = sorted(DIMENSIONS, key=lambda name: scores[name] - reference.scores[name])
    said = {name: _short(reference.comments[name]) for name in gaps[:2] if reference.comments.get(name)}
    return Neighbour(reference.name, dict(reference.scores), said)


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MOST_COMMENT else plain[: MOST_COMMENT - 3].rsplit(" ", 1)[0] + "..."


def _spread(values: Sequence[float]) -> Spread:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return Spread(mean, deviation, min(values), max(values))


def _usable(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if MIN_SCORE <= value <= MAX_SCORE else None
