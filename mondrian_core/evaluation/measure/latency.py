"""Overhead of the adapter: interleaved pairs at equal output length, looked at a fixed number of times.

Pairs are measured until the interval decides, but only at looks that are fixed beforehand (1, 2 and 4 times the
recipe's number of pairs), and each look gets a third of the allowed error (Bonferroni). So measuring on while it is
undecided can't raise the chance of a false pass above 5 %.
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
    """One photograph answered by both arms right after one another, with equally many tokens; seconds."""

    base_prefill: float
    base_decode: float
    candidate_prefill: float
    candidate_decode: float
    switch: float | None = None  # seconds to put the adapter in use

    @property
    def ratio(self) -> float:
        """Time of the candidate over the base's, whole answers."""
        return (self.candidate_prefill + self.candidate_decode) / (self.base_prefill + self.base_decode)


@dataclass(frozen=True, kw_only=True)
class LatencyOverhead:
    """What the pairs say.

    Attributes:
        n: pairs up to the look that decided.
        median: of the ratios; low, high: one-sided bounds of it that hold at 95 % over all looks together.
        decision: "pass" (high < threshold), "fail" (low >= threshold) or "open".
        prefill, decode: medians of the ratios apart, prefill_bounds and decode_bounds as low and high.
        base_seconds, candidate_seconds, switch_seconds: medians.
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
    """Numbers of pairs at which it may be decided."""
    return tuple(pairs * factor for factor in INTERIM_LOOKS)


def overhead_from_pairs(pairs: Sequence[LatencyPair], wanted: int, threshold: float) -> LatencyOverhead:
    """Go through the looks that `pairs` cover; the first that decides counts, else the last.

    Args:
        wanted: pairs of the first look (recipe).
        threshold: highest ratio that is allowed.
    """
    looks = interim_looks(wanted)
    verdict = _overhead_at_look(pairs[: min(len(pairs), looks[-1])], threshold, allowed=False)
    for look in looks:
        if look > len(pairs):
            break
        verdict = _overhead_at_look(pairs[:look], threshold, allowed=True)
        if verdict.decision != "open":
            break
    return verdict


def enough_latency_pairs(pairs: Sequence[LatencyPair], wanted: int, threshold: float) -> bool:
    """True when no more pairs are to be measured."""
    looks = interim_looks(wanted)
    return len(pairs) >= looks[-1] or (
        len(pairs) in looks and overhead_from_pairs(pairs, wanted, threshold).decision != "open"
    )


def _overhead_at_look(pairs: Sequence[LatencyPair], threshold: float, *, allowed: bool) -> LatencyOverhead:
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
    """The pair in a record of `samples.jsonl`."""
    names = ("base_prefill", "base_decode", "candidate_prefill", "candidate_decode")
    prefill, decode, other_prefill, other_decode = (float(record[name]) for name in names)
    return LatencyPair(
        base_prefill=prefill,
        base_decode=decode,
        candidate_prefill=other_prefill,
        candidate_decode=other_decode,
        switch=record.get("switch"),
    )
