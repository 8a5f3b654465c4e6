"""The evidence of a year of looks: this candidate's photographs, averaged with those of the year's earlier candidates.

The candidates of a year are draws of one retraining, so their average differs from the base's error by what the
retraining achieves, with less noise than one candidate. Each photograph counts once, with the mean over the candidates
that were tested on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mondrian_core.registry.looks import PHOTOGRAPH_ID_LENGTH
from mondrian_core.statistics import permutation_tests


@dataclass(frozen=True, kw_only=True)
class LookEvidence:
    """A look at a candidate, and what the year's looks show together.

    Attributes:
        number: of the look in its year; None for an adapter that no registry counts looks of.
        level: one-sided p (0-1) at which this look may pass.
        spent: part of `yearly_level` that is spent, this look included.
        yearly_level: chance (0-1) that a worthless candidate passes at least once in a year of looks.
        photographs: how many decide about scores.
        fresh: how many of them no earlier look has used.
        candidates: how many candidates the evidence averages, this one included.
        p_value: one-sided p of "the candidates of this year are not better than the base".
    """

    number: int | None
    level: float
    spent: float
    yearly_level: float
    photographs: int
    fresh: int
    candidates: int
    p_value: float

    @property
    def passes(self) -> bool:
        """The evidence reaches the level of this look."""
        return self.p_value <= self.level

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the report."""
        return asdict(self)


def mean_differences(candidates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By shortened photograph ID: the mean over the candidates that were tested on it (points squared)."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for candidate in candidates:
        for name, value in candidate.items():
            values[name[:PHOTOGRAPH_ID_LENGTH]].append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def look_evidence(
    look: Mapping[str, Any] | None, own: Mapping[str, float], *, first_level: float, yearly_level: float, seed: int
) -> LookEvidence:
    """The evidence at a look.

    Args:
        look: the look's values and, under "earlier", the differences of the year's earlier candidates; None when no
            registry counts the looks, which gives the level of a first look.
        own: base's error minus the candidate's by photograph, in points squared.
        first_level: level of a first look, where no registry counts.
        yearly_level: of the recipe, where no registry counts.
        seed: of the random draws of the test.
    """
    earlier = (look or {}).get("earlier", ())
    pooled = mean_differences([*earlier, own])
    return LookEvidence(
        number=look["number"] if look else None,
        level=look["level"] if look else first_level,
        spent=look["spent"] if look else first_level,
        yearly_level=look["yearly_level"] if look else yearly_level,
        photographs=len(own),
        fresh=look["fresh"] if look else len(own),
        candidates=len(earlier) + 1,
        p_value=permutation_tests.sign_flip_p_value([pooled[name] for name in sorted(pooled)], seed=seed),
    )
