"""What the tools return. Clients get the JSON schemas of these values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS

CRITIQUE_URI = "mondrian://critiques/"


class DimensionResult(BaseModel):
    """One dimension of a critique."""

    dimension: str
    title: str
    score: float = Field(ge=0, le=10)
    comment: str
    recommendation: str | None = None
    regions: list[tuple[float, float, float, float]] = Field(
        default=[], description="what the recommendation points at: left, top, right, bottom as fractions (0-1)"
    )


class CritiqueResult(BaseModel):
    """A critique of one photograph by one advisor."""

    id: str
    uri: str = Field(description="resource with the whole job")
    photograph: str
    advisor: str
    overall_grade: str = Field(description="0.0 to 10.0")
    dimensions: list[DimensionResult]
    strengths: list[str] = []
    priority_improvements: list[str] = Field(default=[], description="what would improve the photograph most")
    notes: str | None = None
    mode: str | None = Field(description="lora: the advisor's adapter; rag: base with the portfolio; baseline: base")
    adapter_version: str | None = Field(description="null: the base model answered")
    fallbacks: list[str] = Field(description="why other modes did not answer")
    created_at: str | None = None
    corrected: bool = Field(default=False, description="a person corrected this critique")

    @property
    def scores(self) -> dict[str, float]:
        """Scores (0-10) by dimension."""
        return {each.dimension: each.score for each in self.dimensions}


class DimensionDifference(BaseModel):
    """Two scores of one dimension."""

    dimension: str
    title: str
    first: float
    second: float
    difference: float = Field(description="second less first")


class ComparisonResult(BaseModel):
    """Two critiques and how their scores differ."""

    first: CritiqueResult
    second: CritiqueResult
    differences: list[DimensionDifference]
    mean_difference: float = Field(description="of the scores: second less first")


class HistoryResult(BaseModel):
    """Critiques, newest first, and how many there are in all."""

    critiques: list[CritiqueResult]
    matching: int


class AdvisorResult(BaseModel):
    """An advisor of the workspace."""

    id: str
    name: str
    bio: str
    adapter_version: str | None = Field(description="the promoted adapter; null: only the base model answers")


class AdvisorsResult(BaseModel):
    """All advisors of the workspace."""

    advisors: list[AdvisorResult]


def critique_result(job: Mapping[str, Any]) -> CritiqueResult:
    """The critique in a completed job's JSON (`serving.http.responses.job_json`)."""
    answer = job.get("critique") or {}
    entries = answer.get("dimensional_analysis") or {}
    return CritiqueResult(
        id=str(job["job_id"]),
        uri=f"{CRITIQUE_URI}{job['job_id']}",
        photograph=str(job.get("photograph") or ""),
        advisor=str(job.get("advisor") or ""),
        overall_grade=str(answer.get("overall_grade", "")),
        dimensions=[
            DimensionResult(
                dimension=name,
                title=DIMENSION_TITLES[name],
                score=entries[name]["score"],
                comment=entries[name].get("comment", ""),
                recommendation=entries[name].get("recommendation"),
                regions=entries[name].get("regions") or [],
            )
            for name in DIMENSIONS
            if name in entries
        ],
        strengths=answer.get("strengths") or [],
        priority_improvements=answer.get("priority_improvements") or [],
        notes=answer.get("advisor_notes"),
        mode=job.get("mode"),
        adapter_version=job.get("adapter_version"),
        fallbacks=[f"{hop.get('strategy')}: {hop.get('reason')}" for hop in job.get("fallbacks") or []],
        created_at=job.get("created_at"),
        corrected=bool(job.get("corrected_at")),
    )


def comparison_result(first: CritiqueResult, second: CritiqueResult) -> ComparisonResult:
    """Two critiques, and the differences in the dimensions that both have."""
    before, after = first.scores, second.scores
    differences = [
        DimensionDifference(
            dimension=name,
            title=DIMENSION_TITLES[name],
            first=before[name],
            second=after[name],
            difference=round(after[name] - before[name], 2),
        )
        for name in DIMENSIONS
        if name in before and name in after
    ]
    mean = sum(each.difference for each in differences) / len(differences) if differences else 0.0
    return ComparisonResult(first=first, second=second, differences=differences, mean_difference=round(mean, 3))
