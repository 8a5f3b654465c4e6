"""The name under which a person's version of a job's critique is kept among the profiles."""

from __future__ import annotations

_PREFIX = "correction-"


def correction_id(job_id: str) -> str:
    """The id of the profile that corrects a job's critique."""
    return f"{_PREFIX}{job_id}"


def corrected_job(profile_id: str) -> str | None:
    """The id of the job whose critique a profile corrects; None for any other profile."""
    return profile_id.removeprefix(_PREFIX) if profile_id.startswith(_PREFIX) else None
