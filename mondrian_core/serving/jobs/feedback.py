"""Feedback on a critique: a rating from 1 to 5, judgements of single pieces of advice, and a corrected critique.

A rating is stored with the job, where the A/B table and a rollout's guardrails read it; it counts for the assigned arm.
A judgement says whether one recommendation was useful, or whether an offered crop is accepted; it is stored with the
job too, and preference tuning learns from it. A correction is stored as a critique by a person (a row of
`added_profiles`) that the next dataset prefers to the model's own; it changes nothing in `dimensional_profiles`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.critique_regions import regions_from_value
from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, Critique, grade_from_scores, has_visible_character
from mondrian_core.serving.jobs.crop_record import offered_crop
from mondrian_core.store import COMPLETED, DimensionalProfile, Job, Store, utc_timestamp
from mondrian_core.store.advice_judgements import CROP, AdviceJudgement, save_judgement
from mondrian_core.store.corrections import correction_id
from mondrian_core.store.records import LIST_DETAILS, REGIONS

LOWEST_RATING, HIGHEST_RATING = 1, 5
_TRY_AGAIN = "Correct it and send it again."
MAX_COMMENT_LENGTH = 2000  # characters of a comment; a model's are limited to 600


def rate_critique(store: Store, job: Job, rating: int) -> Job:
    """Store a rating (1-5, 5 is best) with a completed job; the last one counts, at the time of the first one.

    Raises:
        BadInput: it is out of range, or the job has no critique.
    """
    if not LOWEST_RATING <= rating <= HIGHEST_RATING:
        raise BadInput(f"{rating} is not a rating.", f"Give a whole number from {LOWEST_RATING} to {HIGHEST_RATING}.")
    _require_critique(job)
    rated_at = job.details.get("rated_at") or utc_timestamp()  # the time decides with which rating a rollout pairs it
    return store.update_job_details(job.id, rating=rating, rated_at=rated_at)


def judge_recommendation(store: Store, job: Job, dimension: str, useful: bool) -> Job:
    """Store whether a person finds the recommendation on a dimension useful; the last judgement counts.

    Raises:
        BadInput: the job has no critique, or its critique no recommendation on this dimension.
    """
    _require_critique(job)
    entry = (job.answer or {}).get("dimensional_analysis", {}).get(dimension) or {}
    text = entry.get("recommendation")
    if not isinstance(text, str) or not text.strip():
        raise BadInput(
            f"The critique of the job {job.id} has no recommendation on {dimension}.",
            "Judge one that the critique has.",
        )
    return _save(store, job, subject=dimension, useful=useful, text=text.strip(), regions=entry.get(REGIONS))


def decide_on_crop(store: Store, job: Job, accepted: bool) -> Job:
    """Store whether a person accepts the crop that a job offers; the last decision counts.

    Raises:
        BadInput: the job has no critique, or offers no crop.
    """
    _require_critique(job)
    offered = offered_crop(job.details)
    if offered is None:
        raise BadInput(f"The job {job.id} offers no crop.", "Ask for one with `crops` when you send the photograph.")
    crop = offered["crop"]
    upright = [] if crop.get("degrees") else crop["box"]  # a box can't say how a crop is turned
    return _save(store, job, subject=CROP, useful=accepted, text=str(offered.get("reason", "")), regions=upright)


def _save(store: Store, job: Job, *, subject: str, useful: bool, text: str, regions: Any) -> Job:
    judgement = AdviceJudgement(
        subject=subject, useful=useful, text=text, regions=regions_from_value(regions), judged_at=utc_timestamp()
    )
    return save_judgement(store, job, judgement)


def correct_critique(store: Store, job: Job, correction: Mapping[str, Any]) -> Job:
    """Store a person's correction of a completed job's critique; a second correction replaces the first.

    Args:
        store: the database.
        job: with the critique to correct.
        correction: in the canonical form; without `overall_grade` the grade is the mean of the scores. Advice counts
            when the correction holds it: the model's own, which nobody confirmed, isn't taken over as a person's.

    Raises:
        BadInput: the correction is incomplete, or the job has no critique.
    """
    _require_critique(job)
    critique = _parse_correction(correction)
    comments = {name: critique.assessments[name].comment.strip() for name in DIMENSIONS}
    profile = DimensionalProfile(
        id=correction_id(job.id),
        advisor=job.advisor or "",
        image_path=_image_path(job),
        scores=critique.scores,
        comments=comments,
        overall_grade=critique.overall_grade,
        recommendations=critique.recommendations,
        details={key: list(getattr(critique, key)) for key in LIST_DETAILS if getattr(critique, key)},
    )
    with store.transaction():
        store.save_profile(profile)
        return store.update_job_details(job.id, corrected_at=utc_timestamp())


def stored_correction(store: Store, job: Job) -> DimensionalProfile | None:
    """The correction of a job's critique; None without a complete one."""
    profile = store.profile(correction_id(job.id)) if "corrected_at" in job.details else None
    complete = profile is not None and all(
        isinstance(profile.scores[name], int | float) and profile.comments[name] is not None for name in DIMENSIONS
    )
    return profile if complete else None


def _require_critique(job: Job) -> None:
    if job.status != COMPLETED or job.answer is None:
        raise BadInput(
            f"The job {job.id} has no critique ({job.status}).",
            "Wait for it, or send the photograph again.",
        )


def _parse_correction(correction: Mapping[str, Any]) -> Critique:
    """The correction as a critique. Programs may send its keys in any order."""
    entries = correction.get("dimensional_analysis")
    if not isinstance(entries, Mapping) or set(entries) != set(DIMENSIONS):
        raise BadInput(f"A correction needs all {len(DIMENSIONS)} dimensions.", f"They are {', '.join(DIMENSIONS)}.")
    ordered = {name: _checked_entry(name, entries[name]) for name in DIMENSIONS}
    scores = {name: entry["score"] for name, entry in ordered.items()}
    answer = {
        "dimensional_analysis": ordered,
        **{key: correction[key] for key in LIST_DETAILS if correction.get(key)},
        "overall_grade": correction.get("overall_grade") or grade_from_scores(scores),
    }
    try:
        return parse_critique_strict(json.dumps(answer))
    except CritiqueParseError as error:
        raise BadInput(f"The correction can't be used ({error}).", _TRY_AGAIN) from None


def _checked_entry(name: str, entry: Any) -> dict[str, Any]:
    score = entry.get("score") if isinstance(entry, Mapping) else None
    comment = entry.get("comment") if isinstance(entry, Mapping) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not MIN_SCORE <= score <= MAX_SCORE:
        raise BadInput(f"{name}: the score must be a number from {MIN_SCORE} to {MAX_SCORE}.", _TRY_AGAIN)
    if not isinstance(comment, str) or not has_visible_character(comment) or len(comment) > MAX_COMMENT_LENGTH:
        raise BadInput(f"{name}: the comment must have 1 to {MAX_COMMENT_LENGTH} characters.", _TRY_AGAIN)
    recommendation = entry.get("recommendation")
    return {"score": score, "comment": comment} | ({"recommendation": recommendation} if recommendation else {})


def _image_path(job: Job) -> str:
    """The photograph's path in the database: under source/, or absolute outside the workspace."""
    filename = job.filename or ""
    return filename if filename.startswith("/") else f"source/{filename}"
