"""The service's requests per day, and the rollout plan for that traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mondrian_core.rollout.observation import SHADOW_KEY
from mondrian_core.rollout.plan import RolloutPlan, default_rollout_plan
from mondrian_core.store import Job, Store

WINDOW_DAYS = 7.0


def requests_per_day(jobs: Iterable[Job], now: datetime, days: float = WINDOW_DAYS) -> float:
    """Users' requests per day over the last `days`, or since the oldest of `jobs` when that is later (at least a day).

    Requests with an explicit mode, which take no part in a rollout, and shadow answers don't count.
    """
    start, oldest, count = now - timedelta(days=days), now, 0
    for job in jobs:
        created = parse_job_time(job.created_at)
        if created is None or not start <= created <= now:
            continue
        oldest = min(oldest, created)
        count += not job.explicit_mode and not (job.details.get("rollout") or {}).get(SHADOW_KEY)
    return count / max(1.0, (now - oldest) / timedelta(days=1))


def parse_job_time(stamp: str | None) -> datetime | None:
    """A time from the jobs table, in UTC when it has no zone; None when it isn't a time."""
    try:
        moment = datetime.fromisoformat(stamp or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rollout_plan_for_traffic(
    store: Store, advisor: str, given: Mapping[str, Any] | None = None, now: datetime | None = None
) -> RolloutPlan:
    """The plan for an advisor's traffic.

    Args:
        store: with the jobs.
        advisor: whose jobs are counted.
        given: keys of a plan that replace the defaults.
        now: for tests; by default the current time.

    Raises:
        BadInput: for unknown keys and shares that don't grow.
    """
    moment = now or datetime.now(UTC)
    jobs = store.jobs(advisor, since=moment - timedelta(days=WINDOW_DAYS))
    steps = default_rollout_plan(requests_per_day(jobs, moment)).steps
    return RolloutPlan.from_dict({"steps": steps, **(given or {})})
