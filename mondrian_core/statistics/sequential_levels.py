"""Significance levels of repeated looks at one question, whose evidence accumulates from look to look.

A group-sequential test (Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials"). If the evidence of
k looks is summed, and each look adds an independent part, the standardized sum is a random walk. The chance that it
ever crosses its limits is computed by the recursion of Armitage, McPherson and Rowe (1969). Looks that share part of
their noise, such as those at the same photographs, cross less often, because they repeat each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

LEVEL_GROWTH = 2.0  # the level of look k grows with k^2: early looks spend little, so later ones keep their power
LEAST_SHARE = 1 / 250  # of the budget; a smaller level could not be reached by 20,000 random sign flips
_STEP, _REACH = 0.05, 9.0  # grid of the walk, in standard deviations of one look
_NEVER = 38.0  # standard deviations; a level of 0 is never reached


def _normal_density(values: np.ndarray) -> np.ndarray:
    """Density of the standard normal distribution, of the shape of `values`."""
    return np.asarray(np.exp(-0.5 * values**2) / (2.0 * np.pi) ** 0.5)


def crossing_probability(levels: Sequence[float]) -> float:
    """Chance (0-1) that a walk with independent steps ever reaches the one-sided `levels` (each 0-1, one per look)."""
    return _crossing(tuple(levels)) if levels else 0.0


@lru_cache(maxsize=1024)  # a year's looks ask for the same beginnings again and again
def _crossing(levels: tuple[float, ...]) -> float:
    from scipy.special import ndtri

    count = len(levels)
    limits = [min(-float(ndtri(level)), _NEVER) * k**0.5 for k, level in enumerate(levels, 1)]
    top = min(max(limits), _REACH * count**0.5)
    grid = np.arange(-_REACH * count**0.5, top + _REACH, _STEP)
    kernel = _normal_density(np.arange(-_REACH, _REACH + _STEP / 2, _STEP)) * _STEP
    alive = _normal_density(grid) * _STEP
    for k, limit in enumerate(limits):
        if k:
            alive = np.convolve(alive, kernel, mode="same")
        alive = alive * np.clip((limit - grid) / _STEP + 0.5, 0.0, 1.0)
    return float(min(max(1.0 - alive.sum(), 0.0), 1.0))


@lru_cache(maxsize=32)
def look_levels(budget: float, first: float, looks: int) -> tuple[float, ...]:
    """One-sided levels of `looks` looks that together err with probability `budget` at most.

    The first look has the level `first`, since all its evidence is new. Look k has c (k / looks)^LEVEL_GROWTH, but at
    least LEAST_SHARE of the budget, with the largest c that keeps to the budget.

    Raises:
        ValueError: the first look alone would spend the budget, or there is no look.
    """
    if looks < 1 or not 0.0 < first <= budget < 1.0:
        raise ValueError("look_levels needs at least one look, and 0 < first <= budget < 1")
    shape = (np.arange(1, looks + 1) / looks) ** LEVEL_GROWTH

    def schedule(scale: float) -> tuple[float, ...]:
        return (first, *(max(float(scale * part), LEAST_SHARE * budget) for part in shape[1:]))

    low, high = 0.0, budget
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing_probability(schedule(middle)) <= budget else (low, middle)
    return schedule(low)
