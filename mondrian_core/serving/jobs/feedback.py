"""What a person says to a critique: a rating from 1 to 5, and the critique as it should have been.

A rating stays with the job, where the A/B table and a rollout's guardrails read it; it counts for the arm that was
assigned. A correction becomes a critique by a person (a row of `added_profiles`), so that the next dataset takes it
before the model's own; it replaces nothing that stands in `dimensional_profiles`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, Critique, grade_from_scores
from mondrian_core.store import COMPLETED, DimensionalProfile, Job, Store, utc_timestamp
from mondrian_core.store.corrections import correction_id

LOWEST_RATING, HIGHEST_RATING = 1, 5
MAX_COMMENT_LENGTH = 2000  # characters of a comment; a model's own are bounded at 600


def rate_critique(store: Store, job: Job, rating: int) -> Job:
    """Keep a rating (1-5, 5 is best) with a completed job; the last one counts.

    Raises:
        BadInput: it is out of range, or the job has no critique.
    """
    if not LOWEST_RATING <= rating <= HIGHEST_RATING:
        raise BadInput(f"{rating} is no rating.", f"Give a whole number from {LOWEST_RATING} to {HIGHEST_RATING}.")
    _require_critique(job)
    return store.update_job_details(job.id, rating=rating, rated_at=utc_timestamp())


def correct_critique(store: Store, job: Job, told: Mapping[str, Any]) -> Job:
    """Keep a person's version of a completed job's critique; a second correction replaces the first.

    Args:
        told: as the canonical answer; without `overall_grade` the grade is the mean of the scores.

    Raises:
        BadInput: it is no complete critique, or the job has none to correct.
    """
    _require_critique(job)
    critique = _parse_correction(told)
    comments = {name: critique.assessments[name].comment.strip() for name in DIMENSIONS}
    profile = DimensionalProfile(
        id=correction_id(job.id),
        advisor=job.advisor or "",
        image_path=_image_path(job),
        scores=critique.scores,
        comments=comments,
        overall_grade=critique.overall_grade,
    )
    with store.transaction():
        store.save_profile(profile)
        return store.update_job_details(job.id, corrected_at=utc_timestamp())


def stored_correction(store: Store, job: Job) -> DimensionalProfile | None:
    """The person's version of a job's critique; None where there is none, or none that can be read."""
    profile = store.profile(correction_id(job.id)) if "corrected_at" in job.details else None
    whole = profile is not None and all(
        isinstance(profile.scores[name], int | float) and profile.comments[name] is not None for name in DIMENSIONS
    )
    return profile if whole else None


def _require_critique(job: Job) -> None:
    if job.status != COMPLETED or job.answer is None:
        raise BadInput(f"The job {job.id} has no critique ({job.status}).", "Wait for it, or ask again.")


def _parse_correction(told: Mapping[str, Any]) -> Critique:
    """The critique that was told, its keys put in order first: people's programs may send them in any."""
    entries = told.get("dimensional_analysis")
    if not isinstance(entries, Mapping) or set(entries) != set(DIMENSIONS):
        raise BadInput("A correction needs all eight dimensions.", f"They are {', '.join(DIMENSIONS)}.")
    ordered = {name: _checked_entry(name, entries[name]) for name in DIMENSIONS}
    scores = {name: entry["score"] for name, entry in ordered.items()}
    answer = {"dimensional_analysis": ordered, "overall_grade": told.get("overall_grade") or grade_from_scores(scores)}
    try:
        return parse_critique_strict(json.dumps(answer))
    except CritiqueParseError as error:
        raise BadInput(f"The correction can't be used ({error}).", "Mend it and send it again.") from None


def _checked_entry(name: str, entry: Any) -> dict[str, Any]:
    score = entry.get("score") if isinstance(entry, Mapping) else None
    comment = entry.get("comment") if isinstance(entry, Mapping) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not MIN_SCORE <= score <= MAX_SCORE:
        raise BadInput(f"{name}: the score must be a number from {MIN_SCORE} to {MAX_SCORE}.", "Mend it.")
    if not isinstance(comment, str) or not comment.strip() or len(comment) > MAX_COMMENT_LENGTH:
        raise BadInput(f"{name}: the comment must have 1 to {MAX_COMMENT_LENGTH} characters.", "Mend it.")
    return {"score": score, "comment": comment}


def _image_path(job: Job) -> str:
    """The photograph as the database names one: under source/, or wherever it lies outside the workspace."""
    filename = job.filename or ""
    return filename if filename.startswith("/") else f"source/{filename}"
