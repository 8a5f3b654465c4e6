"""Why a photograph of the portfolio is worth a comparison: what the scores of both say, and nothing else.

A difference counts only where it exceeds its noise. The advisor's score is exact to half a point (a whole number stands
for half a point on either side, a deviation of 1 / sqrt(12)); the model's score has the deviation of its own
distribution over the scores 0 to 10. Where that distribution is unknown, no dimension is called better or worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mondrian_core.retrieval.nearest_neighbors import ReferencePhotograph
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, int_if_whole

CLOSE_POINTS = 0.5  # at most this far apart, two scores are the same whole score, or on the border between two
_ROUNDING_VARIANCE = 1 / 12
_ONE_SIDED_95 = 1.645  # standard normal quantile
_MOST_NAMED = 2  # close, better or worse dimensions in a sentence


@dataclass(frozen=True)
class DimensionGap:
    """A dimension's scores (0-10): of the photograph, as the model expects it, and of the reference, by the advisor."""

    dimension: str
    here: float
    there: float

    @property
    def title(self) -> str:
        """The dimension and both scores: "Lighting (5.2 here, 8 there)"."""
        return f"{DIMENSION_TITLES[self.dimension]} ({_points(self.here)} here, {_points(self.there)} there)"


@dataclass(frozen=True, kw_only=True)
class ComparisonReason:
    """Why a reference is compared with a photograph.

    Attributes:
        close: dimensions with nearly equal scores, the closest first.
        better: dimensions in which the reference is better by more than the noise, the clearest first.
        worse: dimensions in which it is worse by more than the noise, the clearest first.
        comment: what the advisor wrote about the dimension that the reference shows; "" when nothing.
    """

    close: tuple[DimensionGap, ...] = ()
    better: tuple[DimensionGap, ...] = ()
    worse: tuple[DimensionGap, ...] = ()
    comment: str = ""

    @property
    def dimension(self) -> str | None:
        """The dimension that the reference shows how to do better; None where none is clearly better."""
        return self.better[0].dimension if self.better else None

    @property
    def sentence(self) -> str:
        """The reason for people."""
        parts = [f"similar in {_named(self.close)}"] if self.close else []
        parts += [f"stronger in {_named(self.better)}"] if self.better else []
        if not self.better:
            parts += [f"weaker in {_named(self.worse)}"] if self.worse else ["no dimension is clearly stronger"]
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}."

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "reason": self.sentence,
            "dimension": self.dimension,
            "comment": self.comment or None,
            "close": [each.dimension for each in self.close],
            "better": [each.dimension for each in self.better],
            "worse": [each.dimension for each in self.worse],
        }


def comparison_reason(
    scores: Mapping[str, float], deviations: Mapping[str, float], reference: ReferencePhotograph
) -> ComparisonReason:
    """The reason to compare a photograph with a reference.

    Args:
        scores: of the photograph, 0-10, by dimension; the expected ones where they are known.
        deviations: standard deviations of the model's distribution of each score, by dimension; missing: unknown.
        reference: the photograph of the portfolio, with the advisor's scores.
    """
    gaps = [DimensionGap(name, scores[name], reference.scores[name]) for name in DIMENSIONS]
    close = [gap for gap in gaps if abs(gap.there - gap.here) <= CLOSE_POINTS]
    clear = [
        (size, gap)
        for gap in gaps
        if gap not in close and abs(size := _gap_in_noise(gap, deviations.get(gap.dimension))) > _ONE_SIDED_95
    ]
    better = [gap for size, gap in sorted(clear, key=lambda each: -each[0]) if size > 0]
    worse = [gap for size, gap in sorted(clear, key=lambda each: each[0]) if size < 0]
    return ComparisonReason(
        close=tuple(sorted(close, key=lambda gap: abs(gap.there - gap.here))),
        better=tuple(better),
        worse=tuple(worse),
        comment=" ".join(reference.comments.get(better[0].dimension, "").split()) if better else "",
    )


def _gap_in_noise(gap: DimensionGap, deviation: float | None) -> float:
    """How much better the reference is, in standard deviations of the difference; 0 where the noise is unknown."""
    return 0.0 if deviation is None else (gap.there - gap.here) / math.sqrt(deviation**2 + _ROUNDING_VARIANCE)


def _named(gaps: tuple[DimensionGap, ...]) -> str:
    return " and ".join(gap.title for gap in gaps[:_MOST_NAMED])


def _points(score: float) -> str:
    return f"{int_if_whole(round(score, 1))}"
