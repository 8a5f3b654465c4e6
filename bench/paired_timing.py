"""Paired, interleaved timing: both sides run under the same conditions of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mondrian_core.statistics.bootstrap import median_interval

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class PairedTiming:
    """Seconds of both sides over `pairs` pairs; `ratio` is ours/rival, median over pairs with a 95 % interval."""

    ours: float
    rival: float
    ratio: float
    low: float
    high: float
    pairs: int

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def speedup_interval(ours: Sequence[float], rival: Sequence[float]) -> dict[str, float]:
    """Median of rival/ours over the rounds, its bootstrapped 95 % interval, and the range of the ratios.

    Args:
        ours: seconds of our side, one for each round.
        rival: seconds of the other side in the same rounds.
    """
    ratios = np.array(rival) / np.array(ours)
    low, high = median_interval(ratios, draws=RESAMPLES)
    return {
        "median": float(np.median(ratios)),
        "low": low,
        "high": high,
        "least": float(ratios.min()),
        "most": float(ratios.max()),
    }


def time_in_pairs(
    ours: Callable[[], object],
    rival: Callable[[], object],
    *,
    pairs: int = 10,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> PairedTiming:
    """Time both sides in the order A-B-B-A, so a drift of the machine affects both, after one warm-up round.

    The interval is a percentile bootstrap of the median ratio over pairs.

    Args:
        ours: one measurement of our side.
        rival: one measurement of the other side.
        pairs: number of pairs, at least 2.
        seed: seed of the bootstrap.
        clock: returns seconds.

    Raises:
        ValueError: fewer than two pairs.
    """
    if pairs < 2:
        raise ValueError(f"{pairs} pairs are too few for an interval")
    ours()
    rival()
    first: list[float] = []
    second: list[float] = []
    for ours_first in _alternating_order(pairs):
        for work, times in ((ours, first), (rival, second)) if ours_first else ((rival, second), (ours, first)):
            start = clock()
            work()
            times.append(clock() - start)
    ratios = np.array(first) / np.array(second)
    low, high = median_interval(ratios, seed=seed, draws=RESAMPLES)
    return PairedTiming(
        ours=statistics.median(first),
        rival=statistics.median(second),
        ratio=float(np.median(ratios)),
        low=low,
        high=high,
        pairs=pairs,
    )


def _alternating_order(pairs: int) -> Iterator[bool]:
    """True where our side runs first: A-B, B-A, A-B, ..."""
    return (index % 2 == 0 for index in range(pairs))
