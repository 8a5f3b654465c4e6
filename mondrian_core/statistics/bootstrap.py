"""Bootstrap intervals over photographs, drawn with a seed, so that a report can be reproduced to the last digit.

Legend: `N` photographs (or timed pairs), `draws` bootstrap samples. The same seed draws the same photographs, so that
two arms are resampled in pairs; scipy.stats.bootstrap can't share its draws, and a test shows that both agree.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mondrian_core.statistics.intervals import Interval
from mondrian_core.statistics.permutation_tests import exchangeable_mask

Vector = NDArray[np.float64]


def bca_reduction_interval(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, seed: int = 0, draws: int = 4000
) -> Interval | None:
    """Two-sided BCa interval (Efron, JASA 82, 1987) of 1 - mean(ours) / mean(theirs), photographs resampled in pairs.

    Args:
        ours: (N,) errors of the arm under test.
        theirs: (N,) errors of the other arm on the same photographs.
        confidence: of the interval, 0-1.
        seed: of the bootstrap samples.
        draws: number of bootstrap samples.

    Returns:
        Lower and upper end; None when there are fewer than 3 pairs or all errors of `theirs` are zero.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    n = a.size
    if n < 3 or b.sum() <= 0:
        return None
    counts = bootstrap_counts(n, seed, draws)
    weight = counts @ b
    drawn = 1 - (counts @ a)[weight > 0] / weight[weight > 0]
    observed = 1 - a.sum() / b.sum()
    if np.ptp(drawn) < 1e-12:
        return float(observed), float(observed)
    left_out = b.sum() - b
    if np.any(left_out <= 0):
        return _quantiles(drawn, (1 - confidence) / 2)
    return _bca(drawn, float(observed), 1 - (a.sum() - a) / left_out, confidence)


def bca_mean_interval(
    values: ArrayLike, *, confidence: float = 0.95, seed: int = 0, draws: int = 4000
) -> Interval | None:
    """Two-sided BCa interval of the mean of `values` (N,), with the samples of `bca_reduction_interval`.

    Args:
        values: (N,).
        confidence: of the interval, 0-1.
        seed: of the bootstrap samples.
        draws: number of bootstrap samples.

    Returns:
        Lower and upper end; None for fewer than 3 values.
    """
    sample = np.asarray(values, dtype=np.float64)
    found = bca_reduction_interval(sample, np.ones_like(sample), confidence=confidence, seed=seed, draws=draws)
    return None if found is None else (1 - found[1], 1 - found[0])


def _bca(drawn: Vector, observed: float, jackknife: Vector, confidence: float) -> Interval:
    """BCa interval from the statistic of the samples (draws,), of the data, and without each photograph (N,)."""
    from scipy.special import ndtr, ndtri

    share = (np.count_nonzero(drawn < observed) + 0.5 * np.count_nonzero(drawn == observed)) / drawn.size
    if not 0 < share < 1:
        return _quantiles(drawn, (1 - confidence) / 2)
    bias = ndtri(share)
    centred = jackknife.mean() - jackknife
    spread = (centred**2).sum()
    acceleration = (centred**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + ndtri(tail)
        ends.append(float(ndtr(bias + shifted / (1 - acceleration * shifted))))
    low, high = np.quantile(drawn, ends)
    return float(low), float(high)


def _quantiles(drawn: Vector, tail: float) -> Interval:
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def pairing_error_reduction(
    errors: ArrayLike, seed: int = 0, draws: int = 2000, *, groups: ArrayLike | None = None
) -> tuple[float, Vector]:
    """How much smaller the error is with the right photograph than with another one: 1 - mean(own) / mean(exchanged).

    1 means that the answers depend on the photograph entirely, 0 that they don't depend on it.

    Args:
        errors: (N, N), error of the answer to photograph j against the labels of photograph i; N >= 2.
        seed: of the bootstrap samples; the same seed draws the same photographs, so two arms are compared in pairs.
        draws: number of bootstrap samples.
        groups: (N,), only photographs of one group are exchanged; None: all are.

    Returns:
        The reduction, and (draws,) that of each bootstrap sample: NaN where it has no two different photographs.
    """
    table = np.asarray(errors, dtype=np.float64)
    own, pairs = np.diag(table), exchangeable_mask(len(table), groups).astype(np.float64)

    def reduction(weights: Vector) -> Vector:
        right = weights @ own / weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            exchanged = ((weights @ (table * pairs)) * weights).sum(axis=1) / ((weights @ pairs) * weights).sum(axis=1)
            return np.asarray(1 - right / exchanged)

    whole = float(reduction(np.ones((1, len(table))))[0])
    return whole, reduction(bootstrap_counts(len(table), seed, draws).astype(np.float64))


@lru_cache(maxsize=4)
def bootstrap_counts(n: int, seed: int, draws: int) -> NDArray[np.float32]:
    """(draws, n) of float32: how often each bootstrap sample contains each photograph."""
    index = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    counts = np.zeros((draws, n), dtype=np.float32)
    np.add.at(counts, (np.arange(draws)[:, None], index), 1.0)
    return counts


def median_interval(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0, draws: int = 10_000) -> Interval:
    """Two-sided percentile bootstrap interval of the median of `values` (N,), for benchmarks; N >= 1."""
    sample = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(sample, size=(draws, sample.size))
    return _quantiles(np.median(drawn, axis=1), (1 - confidence) / 2)
