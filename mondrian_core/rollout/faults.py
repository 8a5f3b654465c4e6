"""Who caused a failed job. A failure that the adapter did not cause counts for neither arm.

Every chain of strategies ends with the base model, so no strategy answered a failed job. Three photographs that no
model can answer must not roll back a sound adapter or distort an A/B test.
"""

from __future__ import annotations

from typing import Literal, get_args

from mondrian_core.store import FAILED, Job

Fault = Literal["request", "shared", "service"]  # the photograph; the base failed too; disk, database or base
FAULT_KEY = "fault"  # key of a failed job's details
_FAULTS = frozenset(get_args(Fault))


def job_fault(job: Job) -> str | None:
    """What caused a failed job, a value of `Fault`; None when its arm may have, or when the job did not fail."""
    fault = job.details.get(FAULT_KEY) if job.status == FAILED else None
    return fault if isinstance(fault, str) and fault in _FAULTS else None


def is_external_fault(job: Job) -> bool:
    """True for a failure that the assigned model did not cause."""
    return job_fault(job) is not None
