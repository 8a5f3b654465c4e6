"""Rank correlation of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def spearman_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation (-1 to 1) of two (N,) arrays, ties averaged.

    None below 3 values or when one side is constant.
    """
    from scipy.stats import rankdata

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])  # spearmanr also computes a p-value, slowly
