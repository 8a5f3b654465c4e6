"""Rows of the tables as values: critiques (profiles) and jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mondrian_core.answer_entries import OLDER_KEYS
from mondrian_core.critique_regions import regions_from_value
from mondrian_core.rubric import DIMENSIONS, Region
from mondrian_core.store.cells import Cells, parse_json_value

QUEUED, RUNNING, COMPLETED, FAILED, CANCELED = "queued", "running", "completed", "failed", "canceled"
MODELS_USED = ("base", "fine_tuned", "ab_test_base", "ab_test_fine_tuned")


@dataclass(frozen=True, kw_only=True)
class DimensionalProfile:
    """A critique of one photograph by one advisor, as stored: scores may be missing, non-numeric or out of range.

    Attributes:
        id: of the critique.
        advisor: id.
        image_path: as the database has it, possibly from another machine.
        scores: by dimension.
        comments: by dimension.
        recommendations: what to do next time, by dimension, for those that have one.
        overall_grade: text.
        origin: "human", "model", or "index" when the base model made it for retrieval only.
        created_at: as `utc_timestamp` spells it; None when missing.
        order: grows with insertion; decides which critique is newer when `created_at` is missing.
        details: what the critique says besides its dimensions (`DETAIL_COLUMNS`, `regions`), and how it was written.
        unreadable: column -> why its cell can't be read; such a cell is None or "".
    """

    id: str
    advisor: str
    image_path: str
    scores: Mapping[str, Any]
    comments: Mapping[str, str | None]
    recommendations: Mapping[str, str] = field(default_factory=dict)
    overall_grade: str | None
    origin: str = "human"
    created_at: str | None = None
    order: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def strengths(self) -> tuple[str, ...]:
        """What the photograph does well; empty when the critique doesn't say."""
        return texts_from_value(self.details.get("strengths"))

    @property
    def priority_improvements(self) -> tuple[str, ...]:
        """What to change first; empty when the critique doesn't say."""
        return texts_from_value(self.details.get("priority_improvements"))

    @property
    def regions(self) -> dict[str, tuple[Region, ...]]:
        """The places that recommendations mean, by dimension, for those that have one."""
        given = self.details.get(REGIONS)
        entries = given if isinstance(given, Mapping) else {}
        read = {name: regions_from_value(entries[name]) for name in DIMENSIONS if name in entries}
        return {name: regions for name, regions in read.items() if regions}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of `jobs`. `analysis_markdown` is a file name under analysis_md/, `answer` the parsed JSON.

    Times are spelled as `utc_timestamp` does. `unreadable` maps a column to why its cell can't be read.
    """

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
    unreadable: Mapping[str, str] = field(default_factory=dict)


JOB_COLUMNS = (
    "id",
    "filename",
    "advisor",
    "status",
    "analysis_markdown",
    "llm_outputs",
    "created_at",
    "started_at",
    "completed_at",
    "model_used",
    "requested_mode",
    "mode",
    "explicit_mode",
    "adapter_version",
    "arm",
    "answer",
    "error",
    "attempts",
    "idempotency_key",
    "photograph_sha256",
    "details",
)

ADVICE_JUDGEMENTS = "advice_judgements"  # key of a job's `details`: judgements by subject (`advice_judgements`)
REGIONS = "regions"  # key of `details`: boxes as fractions, by dimension
# What `details` holds, and the columns that people may have added for it, under its name or that of older analyses.
DETAIL_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "strengths": ("strengths", OLDER_KEYS["strengths"]),
    "priority_improvements": ("priority_improvements",),
    "advisor_notes": ("advisor_notes", OLDER_KEYS["advisor_notes"]),
    "image_description": ("image_description",),
}
LIST_DETAILS = ("strengths", "priority_improvements")  # lists of texts

PROFILE_COLUMNS = (
    "id",
    "advisor_id",
    "image_path",
    "overall_grade",
    "origin",
    "created_at",
    *(f"{name}_score" for name in DIMENSIONS),
    *(f"{name}_comment" for name in DIMENSIONS),
    *(f"{name}_recommendation" for name in DIMENSIONS),
    "details",
)
READ_PROFILE_COLUMNS = (*PROFILE_COLUMNS, *(column for columns in DETAIL_COLUMNS.values() for column in columns))


def utc_timestamp(moment: datetime | None = None) -> str:
    """A time (None: now) as ISO 8601 in UTC without offset, as older rows are written."""
    return (moment or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def profile_from_row(row: Mapping[str, Any], order: int) -> DimensionalProfile:
    """A row of the store's profile query; `order` is its position among all rows."""
    cells = Cells(row)
    return DimensionalProfile(
        id=cells.display_text("id") or f"row-{order}",
        advisor=cells.label("advisor_id") or "",
        image_path=cells.label("image_path") or "",
        scores={name: cells.score(f"{name}_score") for name in DIMENSIONS},
        comments={name: cells.text(f"{name}_comment") for name in DIMENSIONS},
        recommendations={name: text for name in DIMENSIONS if (text := cells.text(f"{name}_recommendation"))},
        overall_grade=cells.label("overall_grade"),
        origin=cells.label("origin") or "human",
        created_at=cells.timestamp("created_at"),
        order=order,
        details=_column_details(row, cells) | (cells.json_object("details") or {}),
        unreadable=cells.unreadable,
    )


def texts_from_value(value: Any) -> tuple[str, ...]:
    """The texts of a list, of JSON that holds one, or of a text with one in a line; blank ones are left out."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = parse_json_value(value)
        except ValueError:
            pass  # a text that begins with a bracket
    given = value.splitlines() if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(each.strip() for each in given if isinstance(each, str) and each.strip())


def _column_details(row: Mapping[str, Any], cells: Cells) -> dict[str, Any]:
    """What columns that people added say; `details`, which this program writes, takes precedence."""
    found: dict[str, Any] = {}
    for name, columns in DETAIL_COLUMNS.items():
        text = next((text for column in columns if column in row and (text := cells.display_text(column))), None)
        if text and text.strip():
            found[name] = list(texts_from_value(text)) if name in LIST_DETAILS else text
    return found


def profile_column_values(profile: DimensionalProfile) -> tuple[Any, ...]:
    """The values of an insertion, in the order of `PROFILE_COLUMNS`."""
    scores = (profile.scores.get(name) for name in DIMENSIONS)
    comments = (profile.comments.get(name) for name in DIMENSIONS)
    recommendations = (profile.recommendations.get(name) for name in DIMENSIONS)
    created = utc_timestamp() if profile.created_at is None else profile.created_at  # "": nobody knows when
    return (
        profile.id,
        profile.advisor,
        profile.image_path,
        profile.overall_grade,
        profile.origin,
        created,
        *scores,
        *comments,
        *recommendations,
        json.dumps(profile.details) if profile.details else None,
    )


def job_column_values(job: Job) -> tuple[Any, ...]:
    """The values of an insertion, in the order of `JOB_COLUMNS`."""
    texts = {"answer": json.dumps(job.answer) if job.answer is not None else None, "details": json.dumps(job.details)}
    return tuple(texts.get(name, getattr(job, name)) for name in JOB_COLUMNS)


def job_from_row(row: Mapping[str, Any]) -> Job:
    """A row with `JOB_COLUMNS`; unreadable cells are None (a file name: with replacement characters) and listed."""
    cells = Cells(row)
    labels = (
        "advisor",
        "status",
        "analysis_markdown",
        "model_used",
        "requested_mode",
        "mode",
        "adapter_version",
        "arm",
        "idempotency_key",
        "photograph_sha256",
    )
    shown = ("filename", "llm_outputs", "error")
    times = ("created_at", "started_at", "completed_at")
    return Job(
        id=cells.display_text("id") or "",
        **{name: cells.label(name) for name in labels},
        **{name: cells.display_text(name) for name in shown},
        **{name: cells.timestamp(name) for name in times},
        explicit_mode=cells.boolean("explicit_mode"),
        attempts=cells.integer("attempts"),
        answer=_answer(cells),
        details=_details(cells.json_object("details") or {}),
        unreadable=cells.unreadable,
    )


def _answer(cells: Cells) -> dict[str, Any] | None:
    """The answer with those dimensions that have a finite score and a comment, and the grade as text."""
    answer = cells.json_object("answer")
    if answer is None:
        return None
    given = answer.get("dimensional_analysis", {})
    entries = given if isinstance(given, dict) else {}
    kept = {name: entry for name, entry in entries.items() if _is_assessment(entry)}
    grade = answer.get("overall_grade", "")
    if kept != given or not isinstance(grade, str):
        cells.unreadable["answer"] = "malformed scores or comments"
        answer = {**answer, "dimensional_analysis": kept, "overall_grade": str(grade)}
    return answer


def _is_assessment(entry: Any) -> bool:
    return isinstance(entry, dict) and _is_number(entry.get("score")) and isinstance(entry.get("comment", ""), str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


_DETAILS: Mapping[str, Callable[[Any], bool]] = {
    "seconds": _is_number,
    "rating": _is_number,
    "crashed": _is_number,
    "answer_options": lambda value: isinstance(value, dict),
    "rollout": lambda value: isinstance(value, dict) and _is_number(value.get("share", 0)),
    "written_scores": lambda value: isinstance(value, dict),
    "expected_scores": lambda value: isinstance(value, dict),
    "corrected_at": lambda value: isinstance(value, str),
    "camera": lambda value: isinstance(value, str),
    "crops": lambda value: isinstance(value, dict),
    ADVICE_JUDGEMENTS: lambda value: isinstance(value, dict),
    "hops": _is_list_of_objects,
    "compared_with": _is_list_of_objects,
    "passes": _is_list_of_objects,
}


def _details(details: dict[str, Any]) -> dict[str, Any]:
    """The details without values of a type that readers don't expect."""
    return {name: value for name, value in details.items() if name not in _DETAILS or _DETAILS[name](value)}
