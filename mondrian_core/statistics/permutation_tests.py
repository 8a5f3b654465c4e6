"""Permutation tests over photographs: sign flips of paired differences, and exchanged answers.

Legend: `N` photographs. Every p value is one-sided and counts the observed arrangement, so it is never 0. All
arrangements are enumerated where they are few; otherwise `draws` of them are drawn with the caller's seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

EXACT_SIGNS = 16  # 2^16 sign patterns take a few milliseconds; above that they are drawn
EXACT_ORDERS = 7  # 7! = 5,040 orders
DRAWS = 20_000


def sign_flip_p_value(differences: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> float:
    """One-sided p of "the mean of `differences` (N,) is not above 0" by flipping signs (Fisher's paired randomization).

    Exact for N <= 16, where the smallest possible p is 0.5^N. 1 without differences, or when all of them are zero.
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


def fewest_pairs_for_p_value(level: float) -> int | None:
    """The smallest N whose `sign_flip_p_value` can reach `level` (0-1), when every difference has the same sign.

    0.5^N where all sign patterns are enumerated, 1 / (1 + DRAWS) where they are drawn. None below that.
    """
    if level <= 0:
        return None
    n = max(1, math.ceil(-math.log2(level) - 1e-9)) if level < 1 else 1
    if n <= EXACT_SIGNS:
        return n
    return EXACT_SIGNS + 1 if level >= 1 / (1 + DRAWS) else None


@lru_cache(maxsize=4)
def _signs(n: int, seed: int, draws: int) -> NDArray[np.float32]:
    """(draws, n) of -1 and 1; all comparisons of one evaluation use the same ones, so they are drawn once."""
    signs = np.random.default_rng(seed).integers(0, 2, size=(draws, n), dtype=np.int8)
    return (2 * signs - 1).astype(np.float32)


def _signed_sums(values: Vector) -> Vector:
    """(2^N,) sums of `values` (N,) under all patterns of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def pairing_permutation_p_value(
    errors: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0, draws: int = DRAWS
) -> float:
    """One-sided p of "answers fit their own photograph no better than another's", by permuting the answers.

    Args:
        errors: (N, N), error of the answer to photograph j against the labels of photograph i.
        groups: (N,), answers are exchanged inside a group only; None: all are one group.
        seed: of the drawn permutations.
        draws: how many are drawn where there are more than 7! of them.
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
    """The error sums of all orders inside the blocks; a single 0 without blocks, so that p is 1."""
    sums = np.zeros(1)
    for block in blocks:
        block_sums = block[np.arange(len(block)), _orders(len(block))].sum(axis=1)
        sums = (sums[:, None] + block_sums[None, :]).ravel()
    return sums


def _orders(n: int) -> NDArray[np.intp]:
    """(n!, n) all orders of n items."""
    return np.array(list(permutations(range(n))), dtype=np.intp)


def exchangeable_mask(n: int, groups: ArrayLike | None = None) -> NDArray[np.bool_]:
    """(n, n) True for two different photographs of one group; without groups for any two."""
    inside = np.zeros(n) if groups is None else np.asarray(groups)
    return np.asarray((inside[:, None] == inside[None, :]) & ~np.eye(n, dtype=np.bool_))
