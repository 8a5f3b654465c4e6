"""IDs of corrected critiques: profiles in which a person corrects the critique of a job."""

from __future__ import annotations

from mondrian_core.store.records import DimensionalProfile

_PREFIX = "correction-"


def correction_id(job_id: str) -> str:
    """The id of the profile that corrects a job's critique."""
    return f"{_PREFIX}{job_id}"


def corrected_job_id(profile_id: str) -> str | None:
    """The id of the job whose critique a profile corrects; None for any other profile."""
    return profile_id.removeprefix(_PREFIX) if profile_id.startswith(_PREFIX) else None


def is_correction(profile: DimensionalProfile) -> bool:
    """True for a corrected critique of somebody's photograph: such a photograph is not in the advisor's portfolio."""
    return corrected_job_id(profile.id) is not None
