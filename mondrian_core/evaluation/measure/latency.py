"""Latency overhead of the adapter, from interleaved pairs of answers of equal length.

Pairs are measured until the interval decides, but only at interim looks that are fixed in advance (1, 2 and 4 times the
recipe's number of pairs). Each look gets a third of the allowed error (Bonferroni), so further measurements while the
result is open can't raise the chance of a false pass above 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mondrian_core.statistics import intervals

INTERIM_LOOKS = (1, 2, 4)
LATENCY_ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class LatencyPair:
    """Seconds of both arms on one photograph, one right after the other, with equally long answers."""

    base_prefill: float
    base_decode: float
    candidate_prefill: float
    candidate_decode: float
    switch: float | None = None  # seconds to switch to the adapter

    @property
    def ratio(self) -> float:
        """Total time of the candidate divided by that of the base."""
        return (self.candidate_prefill + self.candidate_decode) / (self.base_prefill + self.base_decode)


@dataclass(frozen=True, kw_only=True)
class LatencyOverhead:
    """Overhead estimated from timed pairs.

    Attributes:
        n: pairs up to the look that decided.
        median: of the time ratios candidate / base.
        low: one-sided lower bound of the median, at 95 % over all looks together.
        high: upper bound, likewise.
        decision: "pass" (high < threshold), "fail" (low >= threshold) or "open".
        prefill: median ratio of the prefill alone.
        decode: median ratio of the decoding alone.
        base_seconds: median time of the base's answers.
        candidate_seconds: median time of the candidate's answers.
        prefill_bounds: low and high for `prefill`.
        decode_bounds: low and high for `decode`.
        switch_seconds: median time of a switch to the adapter.
    """

    n: int
    median: float | None
    low: float
    high: float
    decision: Literal["pass", "fail", "open"]
    prefill: float | None = None
    decode: float | None = None
    base_seconds: float | None = None
    candidate_seconds: float | None = None
    prefill_bounds: tuple[float, float] | None = None
    decode_bounds: tuple[float, float] | None = None
    switch_seconds: float | None = None


def interim_looks(pairs: int) -> tuple[int, ...]:
    """Numbers of pairs at which a decision is allowed."""
    return tuple(pairs * factor for factor in INTERIM_LOOKS)


def overhead_from_pairs(pairs: Sequence[LatencyPair], wanted: int, threshold: float) -> LatencyOverhead:
    """The overhead at the first interim look that decides, or at the last one that `pairs` reach.

    Args:
        pairs: in the order measured.
        wanted: pairs of the first look (recipe).
        threshold: the ratio that the candidate must stay below.
    """
    looks = interim_looks(wanted)
    overhead = _overhead_at_look(pairs[: min(len(pairs), looks[-1])], threshold, allowed=False)
    for look in looks:
        if look > len(pairs):
            break
        overhead = _overhead_at_look(pairs[:look], threshold, allowed=True)
        if overhead.decision != "open":
            break
    return overhead


def enough_latency_pairs(pairs: Sequence[LatencyPair], wanted: int, threshold: float) -> bool:
    """True when no more pairs are needed."""
    looks = interim_looks(wanted)
    return len(pairs) >= looks[-1] or (
        len(pairs) in looks and overhead_from_pairs(pairs, wanted, threshold).decision != "open"
    )


def _overhead_at_look(pairs: Sequence[LatencyPair], threshold: float, *, allowed: bool) -> LatencyOverhead:
    """The overhead of these pairs; without `allowed` the decision stays open."""
    if not pairs:
        return LatencyOverhead(n=0, median=None, low=-np.inf, high=np.inf, decision="open")
    ratios = np.array([pair.ratio for pair in pairs])
    low, high = intervals.median_order_statistic_bounds(ratios, LATENCY_ALPHA / len(INTERIM_LOOKS))
    prefill = np.array([pair.candidate_prefill / pair.base_prefill for pair in pairs])
    decode = np.array([pair.candidate_decode / pair.base_decode for pair in pairs])
    switches = [pair.switch for pair in pairs if pair.switch is not None]
    decision: Literal["pass", "fail", "open"] = "open"
    if allowed and high < threshold:
        decision = "pass"
    elif allowed and low >= threshold:
        decision = "fail"
    return LatencyOverhead(
        n=len(pairs),
        median=float(np.median(ratios)),
        low=low,
        high=high,
        decision=decision,
        prefill=float(np.median(prefill)),
        decode=float(np.median(decode)),
        base_seconds=float(np.median([pair.base_prefill + pair.base_decode for pair in pairs])),
        candidate_seconds=float(np.median([pair.candidate_prefill + pair.candidate_decode for pair in pairs])),
        prefill_bounds=intervals.median_order_statistic_bounds(prefill, LATENCY_ALPHA / len(INTERIM_LOOKS)),
        decode_bounds=intervals.median_order_statistic_bounds(decode, LATENCY_ALPHA / len(INTERIM_LOOKS)),
        switch_seconds=float(np.median(switches)) if switches else None,
    )


def latency_pair_from_record(record: dict[str, Any]) -> LatencyPair:
    """The pair that a record of `samples.jsonl` holds."""
    names = ("base_prefill", "base_decode", "candidate_prefill", "candidate_decode")
    prefill, decode, other_prefill, other_decode = (float(record[name]) for name in names)
    return LatencyPair(
        base_prefill=prefill,
        base_decode=decode,
        candidate_prefill=other_prefill,
        candidate_decode=other_decode,
        switch=record.get("switch"),
    )
