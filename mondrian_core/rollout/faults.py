"""Whose fault a failed job is. A failure that the adapter did not cause counts for neither arm.

Every chain of strategies ends with the base, so a job that failed was answered by nobody. Three photographs that no
model can answer must not roll back a sound adapter, nor spoil the figures of an A/B test.
"""

from __future__ import annotations

from typing import Literal, get_args

from mondrian_core.store import FAILED, Job

Fault = Literal["request", "shared", "service"]  # the photograph's; the base failed too; disk, database, base model
FAULT_KEY = "fault"  # key of a failed job's details
_FAULTS = frozenset(get_args(Fault))


def job_fault(job: Job) -> str | None:
    """Whose fault a failed job is, a word of `Fault`; None when it may be its arm's, or when it did not fail."""
    fault = job.details.get(FAULT_KEY) if job.status == FAILED else None
    return fault if isinstance(fault, str) and fault in _FAULTS else None


def is_external_fault(job: Job) -> bool:
    """True for a failure that says nothing about the model that was to answer."""
    return job_fault(job) is not None
