"""The A/B table from the jobs table, by the arm a photograph was assigned to (intention to treat).

A request that was assigned to the adapter and fell back to another strategy, or failed, counts against the adapter's
arm. A failure that is of neither arm, such as a photograph that no model can answer, is in no figure but its own
(`unanswered`). Requests that named a mode themselves are left out. Ratings (1-5) are those that people gave to the
critiques; one that was not rated has none, not a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mondrian_core.rollout import is_external_fault
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import COMPLETED, FAILED, Job, Store

Z95 = 1.959964


def compare_arms(store: Store, days: int, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """One row per arm for the jobs of the last `days` days; empty when there were none in an A/B test."""
    since = (now or datetime.now(UTC)) - timedelta(days=days)
    arms: dict[str, list[Job]] = {"base": [], "fine_tuned": []}
    for job in store.jobs(since=since):
        if job.arm in arms and not job.explicit_mode and job.status in (COMPLETED, FAILED):
            arms[job.arm].append(job)
    return [arm_summary(arm, jobs) for arm, jobs in arms.items()] if any(arms.values()) else []


def arm_summary(arm: str, assigned: Sequence[Job]) -> dict[str, Any]:
    """The figures of one arm. No jobs is None in every figure, not zero."""
    jobs = [job for job in assigned if not is_external_fault(job)]
    completed = [job for job in jobs if job.status == COMPLETED]
    scores = [mean for job in completed if (mean := job_mean_score(job)) is not None]
    seconds = sorted(value for job in completed if isinstance(value := job.details.get("seconds"), int | float))
    ratings = [float(value) for job in completed if isinstance(value := job.details.get("rating"), int | float)]
    failed = len(jobs) - len(completed)
    fell_back = sum(1 for job in completed if job.details.get("fell_back"))
    return {
        "arm": arm,
        "n": len(jobs),
        "unanswered": len(assigned) - len(jobs),
        "failed": failed,
        "failure_rate_95": wilson_interval(failed, len(jobs)),
        "fell_back": fell_back,
        "fallback_rate_95": wilson_interval(fell_back, len(jobs)),
        "mean_score": _rounded(_mean(scores)),
        "mean_score_95": student_t_mean_interval(scores),
        "seconds_median": _rounded(quantile(seconds, 0.5)),
        "seconds_median_95": median_interval(seconds),
        "seconds_p95": _rounded(quantile(seconds, 0.95)),
        "rated": len(ratings),
        "mean_rating": _rounded(_mean(ratings)),
        "mean_rating_95": student_t_mean_interval(ratings),
    }


def job_mean_score(job: Job) -> float | None:
    """Mean of a completed job's eight scores (0-10); None when they are not all there."""
    dimensions = (job.answer or {}).get("dimensional_analysis")
    if not isinstance(dimensions, dict):
        return None
    parts = [dimensions.get(name) for name in DIMENSIONS]
    scores = [part.get("score") if isinstance(part, dict) else None for part in parts]
    known = [float(score) for score in scores if isinstance(score, int | float) and math.isfinite(score)]
    return sum(known) / len(known) if len(known) == len(DIMENSIONS) else None


def wilson_interval(hits: int, n: int) -> list[float] | None:
    """Wilson's 95 % interval of a rate; None when n is 0."""
    if n == 0:
        return None
    rate, z = hits / n, Z95
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def student_t_mean_interval(values: Sequence[float]) -> list[float] | None:
    """95 % interval of a mean (Student's t); None below two values."""
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # scipy.stats takes seconds to import

    middle = sum(values) / n
    spread = math.sqrt(sum((value - middle) ** 2 for value in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.975)) * spread
    return [round(middle - half, 3), round(middle + half, 3)]


def median_interval(ordered: Sequence[float]) -> list[float] | None:
    """95 % interval of a median from the order alone: the ranks n/2 -+ z sqrt(n)/2; None below six values."""
    n = len(ordered)
    if n < 6:
        return None
    half = Z95 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half) - 1)
    return [round(ordered[low], 3), round(ordered[high], 3)]


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the ordered values lie (nearest rank); None when there are none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
