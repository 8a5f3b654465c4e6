"""How busy the service is, and the plan that suits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mondrian_core.rollout.observation import SHADOW_KEY
from mondrian_core.rollout.plan import RolloutPlan, default_rollout_plan
from mondrian_core.store import Job, Store

WINDOW_DAYS = 7.0


def requests_per_day(jobs: Iterable[Job], now: datetime, days: float = WINDOW_DAYS) -> float:
    """Users' requests a day over the last `days`, or since the oldest of `jobs` when that is later (at least a day).

    Requests with an explicit mode take no part in a rollout and don't count; answers for comparison alone don't either.
    """
    begin, oldest, count = now - timedelta(days=days), now, 0
    for job in jobs:
        came = parse_job_time(job.created_at)
        if came is None or not begin <= came <= now:
            continue
        oldest = min(oldest, came)
        count += not job.explicit_mode and not (job.details.get("rollout") or {}).get(SHADOW_KEY)
    return count / max(1.0, (now - oldest) / timedelta(days=1))


def parse_job_time(stamp: str | None) -> datetime | None:
    """The moment that a text of the jobs table names, in UTC; None when it names none."""
    try:
        moment = datetime.fromisoformat(stamp or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rollout_plan_for_traffic(
    store: Store, advisor: str, given: Mapping[str, Any] | None = None, now: datetime | None = None
) -> RolloutPlan:
    """The plan for an advisor's traffic, with the keys of `given` over it.

    Raises:
        BadInput: for unknown keys and shares that don't grow.
    """
    moment = now or datetime.now(UTC)
    jobs = store.jobs(advisor, since=moment - timedelta(days=WINDOW_DAYS))
    steps = default_rollout_plan(requests_per_day(jobs, moment)).steps
    return RolloutPlan.from_dict({"steps": steps, **(given or {})})
