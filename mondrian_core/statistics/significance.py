"""The statistics of the gates: exact where that is possible, over photographs, never over cells.

All functions are pure. `N` is the number of photographs (or of timed pairs). Randomness comes from a seed that the
caller gives, so a report can be computed again to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv, ndtr, ndtri, stdtrit

Vector = NDArray[np.float64]

EXACT_SIGNS = 16  # 2^16 sign patterns take a few milliseconds; above that they are drawn
EXACT_ORDERS = 7  # 7! = 5,040 orders
DRAWS = 20_000


def clopper_pearson_lower(successes: int, n: int, confidence: float = 0.95) -> float:
    """Exact one-sided lower bound of a rate (Clopper and Pearson, Biometrika 26, 1934); 0 when `n` is 0.

    59 of 59 give 0.95, 20 of 20 only 0.861.
    """
    if n <= 0 or successes <= 0:
        return 0.0
    return float(betaincinv(successes, n - successes + 1, 1 - confidence))


def clopper_pearson_upper(successes: int, n: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound of a rate; 1 when `n` is 0."""
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


def sign_flip_p_value(differences: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> float:
    """One-sided p of "the mean of `differences` (N,) is not above 0" by flipping signs (Fisher's paired randomization).

    Exact for N <= 16; above that `draws` seeded patterns, with the observed one counted among them, so it is never 0.
    No differences, or none that isn't zero: 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0 or not np.any(values):
        return 1.0
    observed = values.sum()
    tolerance = 1e-12 * float(np.abs(values).sum())
    if values.size <= EXACT_SIGNS:
        sums = _signed_sums(values)
        return float(np.mean(sums >= observed - tolerance))
    drawn = _signs(values.size, seed, draws) @ values.astype(np.float32)
    tolerance = 1e-5 * float(np.abs(values).sum())
    return float((1 + np.count_nonzero(drawn >= observed - tolerance)) / (1 + draws))


@lru_cache(maxsize=4)
def _signs(n: int, seed: int, draws: int) -> NDArray[np.float32]:
    """(draws, n) of -1 and 1; the same for every comparison of one evaluation, so they are drawn once."""
    signs = np.random.default_rng(seed).integers(0, 2, size=(draws, n), dtype=np.int8)
    return (2 * signs - 1).astype(np.float32)


@lru_cache(maxsize=4)
def _resamples(n: int, seed: int, draws: int) -> NDArray[np.float32]:
    """(draws, n): how often each photograph is in a bootstrap sample."""
    index = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    counts = np.zeros((draws, n), dtype=np.float32)
    np.add.at(counts, (np.arange(draws)[:, None], index), 1.0)
    return counts


def _signed_sums(values: Vector) -> Vector:
    """The 2^N sums of `values` under all patterns of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def smallest_sign_flip_p_value(n: int) -> float:
    """The smallest p that `n` photographs can reach in `sign_flip_p`."""
    return 1.0 if n <= 0 else float(0.5**n)


def pairing_permutation_p_value(
    errors: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0, draws: int = DRAWS
) -> float:
    """One-sided p of "answers fit their own photograph no better than another's" by permuting the answers.

    Args:
        errors: (N, N), error of the answer to photograph j against the labels of photograph i.
        groups: (N,), answers are exchanged inside a group only; None: all are one group.
    """
    table = np.asarray(errors, dtype=np.float64)
    inside = np.zeros(len(table)) if groups is None else np.asarray(groups)
    places = [np.flatnonzero(inside == group) for group in np.unique(inside)]
    blocks = [table[np.ix_(place, place)] for place in places if len(place) > 1]
    observed = sum(float(np.trace(block)) for block in blocks)
    tolerance = 1e-12 * sum(float(np.abs(block).sum()) for block in blocks)
    if math.prod(math.factorial(len(block)) for block in blocks) <= math.factorial(EXACT_ORDERS):
        return float(np.mean(_all_exchanges(blocks) <= observed + tolerance))
    rng, drawn = np.random.default_rng(seed), np.zeros(draws)
    for block in blocks:
        rows = np.arange(len(block))
        drawn += block[rows, rng.permuted(np.tile(rows, (draws, 1)), axis=1)].sum(axis=1)
    return float((1 + np.count_nonzero(drawn <= observed + tolerance)) / (1 + draws))


def _all_exchanges(blocks: Sequence[Vector]) -> Vector:
    """The sums that all orders inside the blocks give; without a block the one sum 0, so that nothing is shown."""
    sums = np.zeros(1)
    for block in blocks:
        found = block[np.arange(len(block)), _orders(len(block))].sum(axis=1)
        sums = (sums[:, None] + found[None, :]).ravel()
    return sums


def pairing_error_reduction(
    errors: ArrayLike, seed: int = 0, draws: int = 2000, *, groups: ArrayLike | None = None
) -> tuple[float, Vector]:
    """Share of the error with exchanged photographs that the right ones take away: 1 sees perfectly, 0 doesn't look.

    Args:
        errors: (N, N), error of the answer to photograph j against the labels of photograph i; N >= 2.
        groups: (N,), only photographs of one group are exchanged; None: all are.

    Returns:
        1 - mean(own) / mean(exchanged), and the same of `draws` bootstrap samples of photographs. The same seed draws
        the same photographs, so two arms can be compared in pairs. NaN where a sample has no two different photographs.
    """
    table = np.asarray(errors, dtype=np.float64)
    own, pairs = np.diag(table), exchangeable_mask(len(table), groups).astype(np.float64)

    def share(weights: Vector) -> Vector:
        right = weights @ own / weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            exchanged = ((weights @ (table * pairs)) * weights).sum(axis=1) / ((weights @ pairs) * weights).sum(axis=1)
            return np.asarray(1 - right / exchanged)

    whole = float(share(np.ones((1, len(table))))[0])
    return whole, share(_resamples(len(table), seed, draws).astype(np.float64))


def exchangeable_mask(n: int, groups: ArrayLike | None = None) -> NDArray[np.bool_]:
    """(n, n) True for two different photographs of one group; without groups for any two."""
    inside = np.zeros(n) if groups is None else np.asarray(groups)
    return np.asarray((inside[:, None] == inside[None, :]) & ~np.eye(n, dtype=np.bool_))


def _orders(n: int) -> NDArray[np.intp]:
    from itertools import permutations

    return np.array(list(permutations(range(n))), dtype=np.intp)


def median_order_statistic_bounds(values: ArrayLike, alpha: float = 0.05) -> tuple[float, float]:
    """Distribution-free bounds of the median, each one-sided at `alpha`, from order statistics.

    (-inf, inf) when there are too few values: at `alpha` 0.05 at least 5 are needed.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = ordered.size
    below = -1  # greatest k with P(Binomial(n, 1/2) <= k) <= alpha
    while below + 1 < n and bdtr(below + 1, n, 0.5) <= alpha:
        below += 1
    if below < 0:
        return -math.inf, math.inf
    return float(ordered[below]), float(ordered[n - 1 - below])


def bca_reduction_interval(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, seed: int = 0, draws: int = 4000
) -> tuple[float, float] | None:
    """Two-sided BCa interval (Efron, JASA 82, 1987) of 1 - mean(ours) / mean(theirs), photographs resampled in pairs.

    None when there are fewer than 3 pairs or their errors are all zero.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    n = a.size
    if n < 3 or b.sum() <= 0:
        return None
    counts = _resamples(n, seed, draws)
    weight = counts @ b
    drawn = 1 - (counts @ a)[weight > 0] / weight[weight > 0]
    observed = 1 - a.sum() / b.sum()
    if np.ptp(drawn) < 1e-12:
        return float(observed), float(observed)
    left_out = b.sum() - b
    if np.any(left_out <= 0):
        return _quantiles(drawn, (1 - confidence) / 2)
    return _bca(drawn, float(observed), 1 - (a.sum() - a) / left_out, confidence)


def _bca(drawn: Vector, observed: float, jackknife: Vector, confidence: float) -> tuple[float, float]:
    share = (np.count_nonzero(drawn < observed) + 0.5 * np.count_nonzero(drawn == observed)) / drawn.size
    if not 0 < share < 1:
        return _quantiles(drawn, (1 - confidence) / 2)
    bias = ndtri(share)
    centred = jackknife.mean() - jackknife
    spread = (centred**2).sum()
    acceleration = (centred**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    edges = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + ndtri(tail)
        edges.append(float(ndtr(bias + shifted / (1 - acceleration * shifted))))
    low, high = np.quantile(drawn, edges)
    return float(low), float(high)


def _quantiles(drawn: Vector, tail: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def minimum_detectable_reduction(
    differences: ArrayLike, scale: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The relative reduction that N photographs with this spread would show at `alpha` one-sided in `power` of runs.

    Args:
        differences: (N,) paired differences of error.
        scale: mean error of the arm that is to be beaten.

    Normal theory with Student's t; None below 3 photographs or at scale 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = values.size
    if n < 3 or scale <= 0:
        return None
    quantiles = float(stdtrit(n - 1, 1 - alpha) + stdtrit(n - 1, power))
    return quantiles * float(values.std(ddof=1)) / math.sqrt(n) / scale


def sample_size_for_reduction(
    differences: ArrayLike, scale: float, reduction: float, *, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """About how many photographs would show a relative `reduction`, by the same theory; None where it isn't known."""
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 3 or scale <= 0 or reduction <= 0:
        return None
    quantiles = float(ndtri(1 - alpha) + ndtri(power))
    return math.ceil((quantiles * float(values.std(ddof=1)) / (reduction * scale)) ** 2) + 2


def student_mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """Two-sided Student interval of a mean; None below 2 values."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        return None
    half = float(stdtrit(sample.size - 1, (1 + confidence) / 2)) * float(sample.std(ddof=1)) / math.sqrt(sample.size)
    return float(sample.mean()) - half, float(sample.mean()) + half


def holm_adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that keep the chance of any false alarm at the level (Holm, 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def spearman_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation with ties averaged; None below 3 values or when one side is constant."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Vector) -> Vector:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], dtype=np.float64)
