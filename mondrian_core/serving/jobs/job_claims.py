"""Claims on jobs: a job that is running belongs to a process, and is queued again only when that process is gone.

The service, `mondrian analyze`, `mondrian watch` and the MCP server write to one jobs table. A claim is a lock file
next to the database: a service that starts leaves the running jobs of living processes alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mondrian_core.process_locks import (
    hold_process_lock,
    is_process_lock_held,
    release_process_lock,
    try_process_lock,
)
from mondrian_core.store import RUNNING, Job, Store


@contextmanager
def claim_queued_job(store: Store, job_id: str) -> Iterator[Job | None]:
    """Hold the claim on a queued job in the block; None when another process has it or it isn't queued any more."""
    path = _claim_path(store, job_id)
    handle = try_process_lock(path)
    if handle is None:
        yield None
        return
    try:
        yield store.claim_job(job_id)
    finally:
        release_process_lock(path, handle)


@contextmanager
def claim_new_job(store: Store, advisor: str, filename: str, **columns: Any) -> Iterator[Job]:
    """Add a job that this process runs in the block; no service can take it in between.

    Args:
        store: with the jobs table.
        advisor: id.
        filename: of the photograph.
        columns: other columns, as in `Store.add_job`.
    """
    job_id = str(uuid.uuid4())
    path = _claim_path(store, job_id)
    handle = hold_process_lock(path)
    try:
        job, _ = store.add_job(advisor, filename, job_id=job_id, **columns)
        yield store.claim_job(job_id) or job
    finally:
        release_process_lock(path, handle)


def requeue_abandoned_jobs(store: Store) -> int:
    """Put running jobs back into the queue whose process is gone; returns their number."""
    abandoned = [job.id for job in store.jobs(status=RUNNING) if not is_process_lock_held(_claim_path(store, job.id))]
    return store.requeue_running(abandoned)


def _claim_path(store: Store, job_id: str) -> Path:
    # an ID of another program may hold anything: its bytes as hexadecimal digits are a file name everywhere
    return store.path.with_name(f"{store.path.name}.claims") / f"{job_id.encode().hex()[-200:]}.lock"
