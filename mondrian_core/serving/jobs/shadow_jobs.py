"""Answers for comparison alone, made while nobody waits: a rollout that is in the shadow asks for them.

Each is a job like any other, so that none is lost; its mark says which version it is for, and it counts for no A/B
test, shows on no page and in no latency.
"""

from __future__ import annotations

from datetime import timedelta

from mondrian_core.rollout.shadow import due_shadow_requests
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.store import Job, Store

LOOKBACK = timedelta(days=30)  # photographs from before the rollout that may be compared


def add_next_shadow_job(store: Store, adapters: ActiveAdapters) -> Job | None:
    """The row of the next answer that a rollout lacks; None when none is in the shadow, or it has enough."""
    for advisor in adapters.advisors():
        rollout = adapters.rollout(advisor)
        if rollout is None or not rollout.in_shadow:
            continue
        jobs = store.jobs(advisor, since=rollout.started - LOOKBACK)
        for each in due_shadow_requests(rollout, jobs, limit=1):
            details, sha256 = {"rollout": each.mark}, each.photograph_sha256
            job, _ = store.add_job(
                advisor, each.filename, requested_mode=each.mode, photograph_sha256=sha256, details=details
            )
            return job
    return None


def is_shadow_job(job: Job) -> bool:
    """True for an answer that was made for comparison alone."""
    return bool((job.details.get("rollout") or {}).get("shadow"))
