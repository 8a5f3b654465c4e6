"""Shadow jobs: answers that only a rollout in shadow mode compares, made while the worker is idle.

Each is a row of the jobs table, so none is lost. Its details name the version. It counts in no A/B test, page or
latency.
"""

from __future__ import annotations

from datetime import timedelta

from mondrian_core.rollout.shadow import due_shadow_requests
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.store import Job, Store

LOOKBACK = timedelta(days=30)  # photographs from before the rollout that may be compared too


def add_next_shadow_job(store: Store, adapters: ActiveAdapters) -> Job | None:
    """Add the next shadow job; None when no rollout is in shadow mode or it has enough answers."""
    for advisor in adapters.known_advisors():  # once a second: no request to a store
        rollout = adapters.rollout(advisor)
        if rollout is None or not rollout.in_shadow:
            continue
        jobs = store.jobs(advisor, since=rollout.started - LOOKBACK)
        for due in due_shadow_requests(rollout, jobs, limit=1):
            details, sha256 = {"rollout": due.mark}, due.photograph_sha256
            job, _ = store.add_job(
                advisor, due.filename, requested_mode=due.mode, photograph_sha256=sha256, details=details
            )
            return job
    return None


def is_shadow_job(job: Job) -> bool:
    """True for an answer made only for a rollout's comparison."""
    return bool((job.details.get("rollout") or {}).get("shadow"))
