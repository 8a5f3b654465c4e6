"""The photographs of the workspace as pages: all of them, and one with every critique of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.svg import svg_markup
from mondrian_core.errors import BadPhotograph
from mondrian_core.images import PhotographRejection
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.critique_cards import advisor_names, answered_by, format_moment, thumbnail_address
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.history_routes import PAGE_OR_JSON, PagePosition, page_position
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import job_url, wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.score_history import job_scores
from mondrian_core.settings import ALL_ADVISORS
from mondrian_core.store.corrections import corrected_job_id
from mondrian_core.store.job_search import JobFilter, find_job_ids
from mondrian_core.store.photograph_summaries import (
    PhotographSummary,
    critiques_of_photograph,
    photograph_summaries,
)
from mondrian_core.store.photographs import Photograph, Photographs

PHOTOGRAPHS = "/photographs"
MAX_SHOWN = 100  # critiques of one photograph
_Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


class PhotographQuery(BaseModel):
    """Which photographs to show; an empty value sets no condition."""

    model_config = ConfigDict(extra="ignore")

    q: str = Field("", max_length=200, description="part of the path")
    advisor: str = Field("", max_length=64)
    critiques: Literal["", "with", "without", "written"] = Field("", description="any, none, or some by a person")
    portfolio: Literal["", "yes", "no"] = Field("", description="whether it is an advisor's own work")
    page: int = Field(1, ge=1, le=1_000_000)

    def matches(self, photograph: PhotographSummary) -> bool:
        """True for a photograph that these conditions let pass."""
        return (
            self.q.casefold() in photograph.path.casefold()
            and (not self.advisor or not photograph.advisors.isdisjoint((self.advisor, ALL_ADVISORS)))
            and (self.critiques not in ("with", "without") or bool(photograph.critiques) == (self.critiques == "with"))
            and (self.critiques != "written" or bool(photograph.written_critiques))
            and (not self.portfolio or photograph.portfolio == (self.portfolio == "yes"))
        )

    def is_narrowed(self) -> bool:
        """True when any condition is set."""
        return bool(self.model_dump(exclude={"page"}, exclude_defaults=True))

    def address(self, page: int) -> str:
        """The address of another page of the same photographs."""
        return f"{PHOTOGRAPHS}?{urlencode({**self.model_dump(exclude={'page'}, exclude_defaults=True), 'page': page})}"


@dataclass(frozen=True, kw_only=True)
class PhotographCritique:
    """One critique of a photograph, by a model or by a person.

    Attributes:
        advisor: name.
        by: "adapter v0002", "base model", "a person" or "your correction".
        at: ISO 8601 in UTC; "" when unknown.
        grade: text.
        scores: by dimension, 0-10; missing ones are left out.
        entries: by dimension, with `comment` and perhaps `recommendation`.
        link: address of its page; "" when it has none.
        rating: 1-5; None without one.
    """

    advisor: str
    by: str
    at: str
    grade: str
    scores: dict[str, float]
    entries: dict[str, dict[str, Any]]
    link: str = ""
    rating: int | None = None


def add_photograph_pages(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get(PHOTOGRAPHS, responses=PAGE_OR_JSON)
    def photographs(request: Request, wanted: Annotated[PhotographQuery, Query()]) -> Response:
        """The photographs, the latest first, 48 to a page."""
        found = [each for each in photograph_summaries(service.store) if wanted.matches(each)]
        position = page_position(wanted.address, wanted.page, len(found))
        shown = found[max(0, position.first - 1) : position.last]
        if not wants_html(request):
            return JSONResponse({"total": len(found), "photographs": [_summary_json(each) for each in shown]})
        return HTMLResponse(_photographs_page(service, wanted, shown, position))

    @app.get("/photographs/{sha256}", responses={**PAGE_OR_JSON, 404: PROBLEM_RESPONSE})
    def photograph(request: Request, sha256: _Sha256) -> Response:
        """A photograph, and all critiques of it."""
        known = Photographs(service.store).get(sha256)
        paths = Photographs(service.store).paths(sha256)
        if not paths:
            raise BadPhotograph(sha256, PhotographRejection.MISSING, "no such photograph in this workspace")
        critiques = photograph_critiques(service, sha256)
        if not wants_html(request):
            return JSONResponse(_photograph_json(sha256, paths[0], known, critiques))
        return HTMLResponse(_photograph_page(service, sha256, paths[0], known, critiques))


def photograph_critiques(service: Service, sha256: str) -> list[PhotographCritique]:
    """All critiques of a photograph, newest first: of models (completed jobs) and of people."""
    names = advisor_names(service.store)
    ids = find_job_ids(service.store, JobFilter(sha256=sha256))[:MAX_SHOWN]
    jobs = [job for job_id in ids if (job := service.store.job(job_id)) is not None]
    found = [
        PhotographCritique(
            advisor=names.get(job.advisor or "", job.advisor or ""),
            by=answered_by(job),
            at=job.completed_at or "",
            grade=str((job.answer or {}).get("overall_grade", "")),
            scores=job_scores(job),
            entries=(job.answer or {}).get("dimensional_analysis", {}),
            link=f"{job_url(job)}?format=html",
            rating=int(job.details["rating"]) if job.details.get("rating") else None,
        )
        for job in jobs
    ]
    for profile in critiques_of_photograph(service.store, sha256):
        corrected = corrected_job_id(profile.id)
        scores = {name: float(score) for name, score in profile.scores.items() if isinstance(score, int | float)}
        found.append(
            PhotographCritique(
                advisor=names.get(profile.advisor, profile.advisor),
                by="your correction" if corrected else "a person",
                at=profile.created_at or "",
                grade=profile.overall_grade or "",
                scores=scores,
                entries={
                    name: {
                        "comment": profile.comments.get(name) or "",
                        "recommendation": profile.recommendations.get(name, ""),
                    }
                    for name in scores
                },
                link=f"/jobs/{corrected}?format=html" if corrected else "",
            )
        )
    return sorted(found, key=lambda critique: critique.at, reverse=True)


def _photographs_page(
    service: Service, wanted: PhotographQuery, shown: list[PhotographSummary], position: PagePosition
) -> str:
    names = advisor_names(service.store)
    return render_template(
        "photographs.html",
        current_page=PHOTOGRAPHS,
        wanted=wanted,
        recording=service.recording.look(),
        photographs=[
            {
                "link": f"{PHOTOGRAPHS}/{each.sha256}",
                "picture": thumbnail_address(each.sha256),
                "name": PurePosixPath(each.path).name or each.sha256[:12],
                "advisors": "All advisors"
                if ALL_ADVISORS in each.advisors
                else ", ".join(sorted(names.get(advisor, advisor) for advisor in each.advisors)),
                "summary": each,
            }
            for each in shown
        ],
        position=position,
        advisors=service.store.advisors(),
        moment=format_moment,
    )


def _photograph_page(
    service: Service, sha256: str, path: str, known: Photograph | None, critiques: list[PhotographCritique]
) -> str:
    newest = critiques[0].scores if critiques else {}
    return render_template(
        "photograph.html",
        current_page=PHOTOGRAPHS,
        name=PurePosixPath(path).name,
        picture=thumbnail_address(sha256, 1280),
        photograph=known,
        advisors=advisor_names(service.store),
        critiques=critiques,
        radar=Markup(svg_markup(radar_chart({"newest": newest}, "Scores of the newest critique"))) if newest else "",
        moment=format_moment,
    )


def _summary_json(each: PhotographSummary) -> dict[str, Any]:
    return {
        "sha256": each.sha256,
        "name": PurePosixPath(each.path).name,
        "advisors": sorted(each.advisors),
        "portfolio": each.portfolio,
        "model_critiques": each.model_critiques,
        "written_critiques": each.written_critiques,
        "latest": each.latest or None,
        "links": {"self": f"{PHOTOGRAPHS}/{each.sha256}", "thumbnail": thumbnail_address(each.sha256)},
    }


def _photograph_json(
    sha256: str, path: str, known: Photograph | None, critiques: list[PhotographCritique]
) -> dict[str, Any]:
    return {
        "sha256": sha256,
        "name": PurePosixPath(path).name,
        "taken_at": known.taken_at if known else None,
        "camera": dict(known.camera) if known else {},
        "critiques": [
            {
                "advisor": each.advisor,
                "by": each.by,
                "at": each.at or None,
                "overall_grade": each.grade,
                "scores": {name: each.scores[name] for name in DIMENSIONS if name in each.scores},
                "rating": each.rating,
                "link": each.link or None,
            }
            for each in critiques
        ],
        "links": {"thumbnail": thumbnail_address(sha256)},
    }
