"""E-processes: sequential evidence for the guardrails of a rollout that may be checked at any time.

An e-process is a nonnegative martingale under "the candidate is not worse", starting at 1. By Ville's inequality it
ever reaches 1/alpha with probability at most alpha, however often it is checked, so a scheduled check every few minutes
costs no error rate (Ramdas, Gruenwald, Vovk, Shafer 2023, "Game-theoretic statistics and safe anytime-valid
inference"). Each one is a likelihood ratio averaged over a few alternatives and depends on counts alone. All functions
return natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

# Alternatives: the candidate fails this many times as often. They share the starting capital evenly.
FAILURE_RATE_RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
# Alternatives: the chance that the candidate is the worse one of a pair.
SIGN_TEST_PROBABILITIES = (0.55, 0.6, 0.7, 0.8, 0.9, 0.97)


def log_mean_exp(values: Sequence[float]) -> float:
    """log(mean(exp(values))), without overflow."""
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values) / len(values))


def log_e_failure_rate(strata: Iterable[tuple[float, int, int]]) -> float:
    """log e-value of "the candidate fails more often than the control".

    A request goes to the candidate with probability `share`, so a failure comes from the candidate with that chance
    when both fail equally often, and with less when the candidate is better, whatever the rate is and however it
    drifts (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data", conditioned on failures). If it
    fails m times as often, the chance is share*m / (share*m + 1 - share). At share 0 or 1 there is nothing to compare.

    Args:
        strata: (share, failures of the candidate, failures of the control) for each share that was in force.
    """
    counted = [stratum for stratum in strata if 0.0 < stratum[0] < 1.0]
    logs = []
    for times in FAILURE_RATE_RATIOS:
        total = 0.0
        for share, candidate, control in counted:
            chance = share * times / (share * times + 1.0 - share)
            total += candidate * math.log(chance / share) + control * math.log((1.0 - chance) / (1.0 - share))
        logs.append(total)
    return log_mean_exp(logs)


def log_e_sign_test(worse: int, better: int) -> float:
    """log e-value of "the candidate tends to be the worse one of a pair", from independent pairs.

    Ties don't count. As in a sign test, nothing is assumed about the distribution.
    """
    return log_mean_exp([_binomial(worse, better, chance, 0.5) for chance in SIGN_TEST_PROBABILITIES])


def log_e_rate_above(
    hits: int, misses: int, limit: float, parts: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.95)
) -> float:
    """log e-value of "the rate is above `limit`", from independent trials.

    Args:
        hits: trials that count.
        misses: trials that don't.
        limit: the tolerated rate (0 < limit < 1).
        parts: the alternatives, as shares (0-1) of the way from the limit to 1; small ones for a rare event.
    """
    return log_mean_exp([_binomial(hits, misses, limit + (1.0 - limit) * part, limit) for part in parts])


def log_e_sample_ratio(strata: Iterable[tuple[float, int, int]]) -> float:
    """log e-value of "the arms don't receive requests in the configured shares", in either direction.

    Args:
        strata: (share, requests of the candidate, requests of the control).
    """
    counted = [stratum for stratum in strata if 0.0 < stratum[0] < 1.0]
    logs = []
    for odds in (0.5, 0.8, 0.9, 1.1, 1.25, 2.0):
        total = 0.0
        for share, candidate, control in counted:
            chance = share * odds / (share * odds + 1.0 - share)
            total += _binomial(candidate, control, chance, share)
        logs.append(total)
    return log_mean_exp(logs)


def _binomial(hits: int, misses: int, chance: float, under_null: float) -> float:
    """Log likelihood ratio of `chance` to `under_null`."""
    return hits * math.log(chance / under_null) + misses * math.log((1.0 - chance) / (1.0 - under_null))
