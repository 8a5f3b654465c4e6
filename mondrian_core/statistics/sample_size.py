"""How many photographs show an effect, and which effect a number of photographs shows: normal theory, paired."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def minimum_detectable_reduction(
    differences: ArrayLike, scale: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The true relative reduction of error that N photographs with this spread would detect.

    Normal theory with Student's t. None below 3 photographs or at scale 0.

    Args:
        differences: (N,) paired differences of error.
        scale: mean error of the arm to beat.
        alpha: one-sided level of the test.
        power: share of evaluations that would detect the reduction.
    """
    from scipy.special import stdtrit

    values = np.asarray(differences, dtype=np.float64)
    n = values.size
    if n < 3 or scale <= 0:
        return None
    quantiles = float(stdtrit(n - 1, 1 - alpha) + stdtrit(n - 1, power))
    return quantiles * float(values.std(ddof=1)) / math.sqrt(n) / scale


def sample_size_for_reduction(
    differences: ArrayLike, scale: float, reduction: float, *, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """About how many photographs would detect a relative `reduction`, by the same theory; None where it isn't known.

    Args:
        differences: (N,) paired differences of error.
        scale: mean error of the arm to beat.
        reduction: to detect, as a share of `scale`.
        alpha: one-sided level of the test.
        power: share of evaluations that would detect the reduction.
    """
    from scipy.special import ndtri

    values = np.asarray(differences, dtype=np.float64)
    if values.size < 3 or scale <= 0 or reduction <= 0:
        return None
    quantiles = float(ndtri(1 - alpha) + ndtri(power))
    return math.ceil((quantiles * float(values.std(ddof=1)) / (reduction * scale)) ** 2) + 2


def detection_power(n: float, reduction: float, spread: float, *, alpha: float = 0.05) -> float:
    """The chance (0-1) that N photographs detect a relative `reduction`, by normal theory.

    Args:
        n: photographs, above 0; an expected number may have a fraction.
        reduction: true reduction of error, as a share of the mean error of the arm to beat.
        spread: standard deviation of the paired differences of error, as a share of the same.
        alpha: one-sided level of the test.
    """
    from scipy.special import ndtr, ndtri

    return float(ndtr(reduction * math.sqrt(n) / spread - ndtri(1 - alpha)))
