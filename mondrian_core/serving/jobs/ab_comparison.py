"""Compare the arms of an A/B test from the jobs table, by the arm a photograph was assigned to (intention to treat).

A request that was assigned to the adapter and fell back to another strategy, or failed, counts against the adapter's
arm. A failure that neither arm caused, such as a photograph that no model can answer, is counted as `unanswered` only.
Requests with an explicit mode are excluded. Ratings (1-5) come from users; a critique without one is not a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mondrian_core.rollout import is_external_fault
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics.intervals import (
    Interval,
    median_order_statistic_bounds,
    nearest_rank_quantile,
    student_mean_interval,
    wilson_interval,
)
from mondrian_core.store import COMPLETED, FAILED, Job, Store


def compare_arms(store: Store, days: int, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """One row per arm for the jobs of the last `days` days; empty when there were none in an A/B test."""
    since = (now or datetime.now(UTC)) - timedelta(days=days)
    arms: dict[str, list[Job]] = {"base": [], "fine_tuned": []}
    for job in store.jobs(since=since):
        if job.arm in arms and not job.explicit_mode and job.status in (COMPLETED, FAILED):
            arms[job.arm].append(job)
    return [arm_summary(arm, jobs) for arm, jobs in arms.items()] if any(arms.values()) else []


def arm_summary(arm: str, assigned: Sequence[Job]) -> dict[str, Any]:
    """Counts, rates, means and medians of one arm's jobs; without jobs all but the counts are None, not zero."""
    jobs = [job for job in assigned if not is_external_fault(job)]
    completed = [job for job in jobs if job.status == COMPLETED]
    scores = [mean for job in completed if (mean := job_mean_score(job)) is not None]
    seconds = [float(value) for job in completed if isinstance(value := job.details.get("seconds"), int | float)]
    ratings = [float(value) for job in completed if isinstance(value := job.details.get("rating"), int | float)]
    failed = len(jobs) - len(completed)
    fell_back = sum(1 for job in completed if job.details.get("fell_back"))
    return {
        "arm": arm,
        "n": len(jobs),
        "unanswered": len(assigned) - len(jobs),
        "failed": failed,
        "failure_rate_95": _rounded_interval(wilson_interval(failed, len(jobs)), 4),
        "fell_back": fell_back,
        "fallback_rate_95": _rounded_interval(wilson_interval(fell_back, len(jobs)), 4),
        "mean_score": _rounded(_mean(scores)),
        "mean_score_95": _rounded_interval(student_mean_interval(scores), 3),
        "seconds_median": _rounded(nearest_rank_quantile(seconds, 0.5)),
        "seconds_median_95": _rounded_interval(median_order_statistic_bounds(seconds, 0.025), 3),
        "seconds_p95": _rounded(nearest_rank_quantile(seconds, 0.95)),
        "rated": len(ratings),
        "mean_rating": _rounded(_mean(ratings)),
        "mean_rating_95": _rounded_interval(student_mean_interval(ratings), 3),
    }


def job_mean_score(job: Job) -> float | None:
    """Mean of a completed job's scores (0-10) over all dimensions; None when one is missing."""
    dimensions = (job.answer or {}).get("dimensional_analysis")
    if not isinstance(dimensions, dict):
        return None
    parts = [dimensions.get(name) for name in DIMENSIONS]
    scores = [part.get("score") if isinstance(part, dict) else None for part in parts]
    known = [float(score) for score in scores if isinstance(score, int | float) and math.isfinite(score)]
    return sum(known) / len(known) if len(known) == len(DIMENSIONS) else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rounded_interval(interval: Interval | None, digits: int) -> list[float] | None:
    """Both ends for JSON, which has no infinity: None when too few values bound the interval."""
    return None if interval is None or not math.isfinite(interval[0]) else [round(end, digits) for end in interval]
