"""Routes for feedback: rate a critique, judge its advice, correct it, read the score history."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_COMMENT_CHARACTERS,
    MAX_PRIORITIES,
    MAX_SCORE,
    MAX_STRENGTHS,
    MIN_SCORE,
)
from mondrian_core.serving.http.responses import job_json
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs import feedback, score_history

PROBLEM_RESPONSE = {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {}}}
_AdvisorId = Annotated[str, Query(pattern=r"^[a-z0-9_-]{1,64}$")]
_JobId = Annotated[str, Path(max_length=64)]
_Dimension = Annotated[Literal[DIMENSIONS], Path()]  # type: ignore[valid-type]
_Text = Annotated[str, Field(min_length=1, max_length=MAX_COMMENT_CHARACTERS)]


class Rating(BaseModel):
    """A rating of a critique."""

    model_config = ConfigDict(extra="forbid")

    rating: int = Field(strict=True, ge=feedback.LOWEST_RATING, le=feedback.HIGHEST_RATING, description="5 is best")


class Usefulness(BaseModel):
    """Whether a recommendation is useful."""

    model_config = ConfigDict(extra="forbid")

    useful: bool = Field(strict=True)


class CropDecision(BaseModel):
    """Whether an offered crop is accepted."""

    model_config = ConfigDict(extra="forbid")

    accepted: bool = Field(strict=True)


class CorrectionEntry(BaseModel):
    """The corrected score and comment of one dimension, and what the person would do next time."""

    model_config = ConfigDict(extra="forbid")

    score: float = Field(strict=True, ge=MIN_SCORE, le=MAX_SCORE)
    comment: str = Field(min_length=1, max_length=feedback.MAX_COMMENT_LENGTH)
    recommendation: _Text | None = None


_Dimensions: type[BaseModel] = create_model(
    "Dimensions", __config__=ConfigDict(extra="forbid"), **dict.fromkeys(DIMENSIONS, (CorrectionEntry, ...))
)  # type: ignore[call-overload]


class Correction(BaseModel):
    """A critique by a person; without a grade, the grade is the mean of the scores."""

    model_config = ConfigDict(extra="forbid")

    dimensional_analysis: _Dimensions  # type: ignore[valid-type]
    overall_grade: str | None = Field(default=None, pattern=r"^(10(\.0)?|[0-9](\.[0-9])?)$")
    strengths: list[_Text] = Field(default_factory=list, max_length=MAX_STRENGTHS)
    priority_improvements: list[_Text] = Field(default_factory=list, max_length=MAX_PRIORITIES)


def add_feedback_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.post("/jobs/{job_id}/rating", responses={404: PROBLEM_RESPONSE})
    def rate(job_id: _JobId, rating: Rating) -> Response:
        """Rate a critique from 1 to 5. The last rating counts, in the A/B comparison and in rollouts."""
        return JSONResponse(job_json(feedback.rate_critique(service.store, service.job(job_id), rating.rating)))

    @app.post("/jobs/{job_id}/recommendations/{dimension}/judgement", responses={404: PROBLEM_RESPONSE})
    def judge(job_id: _JobId, dimension: _Dimension, judgement: Usefulness) -> Response:
        """Say whether one recommendation is useful. The last judgement counts; preference tuning learns from it."""
        job = feedback.judge_recommendation(service.store, service.job(job_id), dimension, judgement.useful)
        return JSONResponse(job_json(job))

    @app.post("/jobs/{job_id}/crop/decision", responses={404: PROBLEM_RESPONSE})
    def decide(job_id: _JobId, decision: CropDecision) -> Response:
        """Accept or refuse the crop that a critique offers. The last decision counts, and is learned from as well."""
        return JSONResponse(job_json(feedback.decide_on_crop(service.store, service.job(job_id), decision.accepted)))

    @app.post("/jobs/{job_id}/correction", responses={404: PROBLEM_RESPONSE})
    def correct(job_id: _JobId, correction: Correction) -> Response:
        """Correct a critique; the next dataset uses the correction instead of the model's critique."""
        job = feedback.correct_critique(service.store, service.job(job_id), correction.model_dump(exclude_none=True))
        service.event_relay.advisor_changed(job.advisor)
        return JSONResponse(job_json(job))

    @app.get("/history")
    def scores(advisor: _AdvisorId) -> list[dict[str, Any]]:
        """Scores over time, oldest first; of several critiques of a photograph only the latest."""
        jobs = service.store.latest_jobs(4 * score_history.MAX_POINTS)
        return [point.as_dict() for point in score_history.score_points(jobs, advisor)]
