"""A critique as pages list it: a thumbnail, who gave it and when, its grade, and what the person made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from mondrian_core.serving.http.responses import job_url
from mondrian_core.store import Job, Store

THUMBNAIL_SIDE = 640


@dataclass(frozen=True, kw_only=True)
class CritiqueCard:
    """What a card of a critique shows.

    Attributes:
        job_id: of the critique.
        link: its page.
        picture: address of a thumbnail.
        name: of the photograph's file.
        advisor: name.
        answered_by: "adapter v0002" or "base model"; "" when nothing answered.
        completed_at: ISO 8601 in UTC; "" when unknown.
        grade: text; "" without one.
        rating: 1-5; None without one.
        corrected: whether a person has corrected it.
        status: of the job.
        photograph: address of the photograph's page; "" when its bytes are unknown.
    """

    job_id: str
    link: str
    picture: str
    name: str
    advisor: str
    answered_by: str
    completed_at: str
    grade: str
    rating: int | None
    corrected: bool
    status: str
    photograph: str


def critique_cards(store: Store, jobs: Iterable[Job]) -> list[CritiqueCard]:
    """The cards of jobs, in their order."""
    names = advisor_names(store)
    return [critique_card(job, names) for job in jobs]


def critique_card(job: Job, names: Mapping[str, str]) -> CritiqueCard:
    """The card of a job; `names` has the advisors' names by id."""
    rating = job.details.get("rating")
    return CritiqueCard(
        job_id=job.id,
        link=f"{job_url(job)}?format=html",
        picture=thumbnail_address(job.photograph_sha256) or f"{job_url(job)}/photograph",
        name=PurePosixPath(job.filename or "").name or "photograph",
        advisor=names.get(job.advisor or "", job.advisor or ""),
        answered_by=answered_by(job),
        completed_at=job.completed_at or job.created_at or "",
        grade=str((job.answer or {}).get("overall_grade", "")),
        rating=int(rating) if rating else None,
        corrected="corrected_at" in job.details,
        status=job.status or "",
        photograph=f"/photographs/{job.photograph_sha256}" if thumbnail_address(job.photograph_sha256) else "",
    )


def advisor_names(store: Store) -> dict[str, str]:
    """The names of the advisors by id."""
    return {advisor_prompt.advisor: advisor_prompt.name for advisor_prompt in store.advisors()}


def answered_by(job: Job) -> str:
    """Which model wrote a critique: "adapter v0002", "base model", or "" for none."""
    if job.model_used in ("fine_tuned", "ab_test_fine_tuned") and job.adapter_version:
        return f"adapter {job.adapter_version}"
    return "base model" if job.model_used else ""


def thumbnail_address(sha256: str | None, side: int = THUMBNAIL_SIDE) -> str:
    """The address of a photograph's thumbnail; "" without a valid SHA-256."""
    is_hash = len(sha256 or "") == 64 and all(letter in "0123456789abcdef" for letter in sha256 or "")
    return f"/photographs/{sha256}/thumbnail?side={side}" if is_hash else ""


def format_moment(moment: str) -> str:
    """A stored time as "21 Nov 2026, 18:40" in this machine's time zone; any other text is returned unchanged."""
    try:
        local = datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return moment
    return f"{local:%d %b %Y, %H:%M}".lstrip("0")
