"""Confidence intervals of rates, means and medians, and the nearest-rank quantile. Pure functions.

The service and the command line import this module when they start, and scipy.stats alone takes longer to import than
the rest of the service. So SciPy is imported inside the functions, and only scipy.special; tests show that every
interval equals that of scipy.stats. A one-sided bound at confidence c is also an end of the two-sided interval at
2c - 1: two bounds at 0.975 make a 95 % interval.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

Interval = tuple[float, float]


def clopper_pearson_lower(successes: int, n: int, confidence: float = 0.95) -> float:
    """Exact one-sided lower bound of a rate (Clopper and Pearson, Biometrika 26, 1934); 0 when `n` is 0.

    59 of 59 give 0.95, 20 of 20 only 0.861.
    """
    from scipy.special import betaincinv

    if n <= 0 or successes <= 0:
        return 0.0
    return float(betaincinv(successes, n - successes + 1, 1 - confidence))


def clopper_pearson_upper(successes: int, n: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound of a rate; 1 when `n` is 0."""
    from scipy.special import betaincinv

    if n <= 0 or successes >= n:
        return 1.0
    return float(betaincinv(successes + 1, n - successes, confidence))


def perfect_trials_needed(rate: float, confidence: float = 0.95) -> int:
    """Smallest number of trials, all of them successes, whose one-sided lower bound reaches `rate` (0-1).

    29 for 0.90, 59 for 0.95.
    """
    if rate <= 0:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log(rate) - 1e-9) if rate < 1 else 2**31


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval | None:
    """Two-sided score interval of a rate (Wilson, JASA 22, 1927); None when `n` is 0."""
    if n <= 0:
        return None
    rate, z = successes / n, NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def student_mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Two-sided Student interval of the mean of `values` (N,); None below 2 values."""
    from scipy.special import stdtrit

    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        return None
    half = float(stdtrit(sample.size - 1, (1 + confidence) / 2)) * float(sample.std(ddof=1)) / math.sqrt(sample.size)
    return float(sample.mean()) - half, float(sample.mean()) + half


def median_order_statistic_bounds(values: ArrayLike, alpha: float = 0.05) -> Interval:
    """Distribution-free bounds of the median of `values` (N,), each one-sided at `alpha`, from order statistics.

    (-inf, inf) when there are too few values: `alpha` 0.05 needs at least 5, 0.025 at least 6.
    """
    from scipy.special import bdtr

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = ordered.size
    below = -1  # greatest k with P(Binomial(n, 1/2) <= k) <= alpha
    while below + 1 < n and bdtr(below + 1, n, 0.5) <= alpha:
        below += 1
    if below < 0:
        return -math.inf, math.inf
    return float(ordered[below]), float(ordered[n - 1 - below])


def nearest_rank_quantile(values: ArrayLike, share: float) -> float | None:
    """The smallest of `values` (N,) that at least `share` (0-1) of them don't exceed; None when there are none."""
    sample = np.asarray(values, dtype=np.float64)
    return float(np.quantile(sample, share, method="inverted_cdf")) if sample.size else None
