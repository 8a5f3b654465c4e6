"""What the tables hold, as values, and how a row becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mondrian_core.rubric import DIMENSIONS

QUEUED, RUNNING, COMPLETED, FAILED, CANCELED = "queued", "running", "completed", "failed", "canceled"
MODELS_USED = ("base", "fine_tuned", "ab_test_base", "ab_test_fine_tuned")


@dataclass(frozen=True)
class Profile:
    """A row of `dimensional_profiles` as it is: scores may be missing, texts or out of range.

    `origin` is "human", "model", or "index" for one that the base model made for retrieval alone; `order` grows with
    insertion and stands for the age where `created_at` is missing.
    """

    id: str
    advisor: str
    image_path: str
    scores: Mapping[str, Any]
    comments: Mapping[str, str | None]
    overall_grade: str | None
    origin: str = "human"
    created_at: str | None = None
    order: int = 0


@dataclass(frozen=True)
class Job:
    """A row of `jobs`. `analysis_markdown` is a file name under analysis_md/; `answer` the parsed JSON."""

    id: str
    filename: str | None
    advisor: str | None
    status: str | None
    analysis_markdown: str | None = None
    llm_outputs: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    model_used: str | None = None
    requested_mode: str | None = None
    mode: str | None = None
    explicit_mode: bool = False
    adapter_version: str | None = None
    arm: str | None = None
    answer: dict[str, Any] | None = None
    error: str | None = None
    attempts: int = 0
    idempotency_key: str | None = None
    photograph_sha256: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


JOB_COLUMNS = (
    "id", "filename", "advisor", "status", "analysis_markdown", "llm_outputs", "created_at", "started_at",
    "completed_at", "model_used", "requested_mode", "mode", "explicit_mode", "adapter_version", "arm", "answer",
    "error", "attempts", "idempotency_key", "photograph_sha256", "details",
)  # fmt: skip


def stamp(moment: datetime | None = None) -> str:
    """A moment (None: now) as ISO 8601 in UTC without offset, as the older rows are written."""
    return (moment or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def profile_of(row: Any) -> Profile:
    """A row of the store's profile query."""
    order, identity, owner, path, grade, origin, created, *cells = row
    scores = dict(zip(DIMENSIONS, cells[: len(DIMENSIONS)], strict=True))
    comments = dict(zip(DIMENSIONS, cells[len(DIMENSIONS) :], strict=True))
    return Profile(identity, owner, path, scores, comments, grade, origin or "human", created, order)


def profile_cells(profile: Profile) -> tuple[Any, ...]:
    """The values of an insertion, in the order of its columns."""
    scores = (profile.scores.get(name) for name in DIMENSIONS)
    comments = (profile.comments.get(name) for name in DIMENSIONS)
    created = profile.created_at or stamp()
    return (profile.id, profile.advisor, profile.image_path, profile.overall_grade, profile.origin, created,
            *scores, *comments)  # fmt: skip


def job_cells(job: Job) -> tuple[Any, ...]:
    """The values of an insertion, in the order of `JOB_COLUMNS`."""
    texts = {"answer": json.dumps(job.answer) if job.answer is not None else None, "details": json.dumps(job.details)}
    return tuple(texts.get(name, getattr(job, name)) for name in JOB_COLUMNS)


def job_of(row: Any) -> Job:
    """A row with `JOB_COLUMNS`; JSON that can't be read is None."""
    values = dict(zip(JOB_COLUMNS, row, strict=True))
    values["explicit_mode"] = bool(values["explicit_mode"])
    values["attempts"] = values["attempts"] or 0
    values["answer"] = _object(values["answer"])
    values["details"] = _object(values["details"]) or {}
    return Job(**values)


def _object(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
