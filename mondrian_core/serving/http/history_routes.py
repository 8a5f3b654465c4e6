"""The history: all critiques with search and filters, and two of them compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.svg import svg_markup
from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.critique_cards import (
    CritiqueCard,
    advisor_names,
    critique_card,
    critique_cards,
    format_moment,
)
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import job_json, wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.score_history import job_scores
from mondrian_core.store import CANCELED, COMPLETED, FAILED, QUEUED, RUNNING, Job
from mondrian_core.store.critique_counts import count_critiqued_photographs
from mondrian_core.store.job_search import ORDERS, JobFilter, find_job_ids, modes_used

PAGE_SIZE = 48
HISTORY, COMPARISON = "/critiques", "/critiques/compare"
STATUSES = (COMPLETED, FAILED, CANCELED, RUNNING, QUEUED)
PAGE_OR_JSON: dict[int | str, dict[str, Any]] = {
    200: {"description": "As a page if HTML is preferred", "content": {"text/html": {}}},
    406: PROBLEM_RESPONSE,
}


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


_Score = Annotated[Annotated[float, Field(ge=0, le=10)] | None, BeforeValidator(_none_if_empty)]
_Day = Annotated[date | None, BeforeValidator(_none_if_empty)]
_Rating = Annotated[Annotated[int, Field(ge=1, le=5)] | None, BeforeValidator(_none_if_empty)]


class HistoryQuery(BaseModel):
    """What to show of the history; an empty value sets no condition."""

    model_config = ConfigDict(extra="ignore")

    q: str = Field("", max_length=200, description="words in the file name or in the critique")
    advisor: str = Field("", max_length=64)
    mode: str = Field("", max_length=64)
    status: Literal["completed", "failed", "canceled", "running", "queued"] = "completed"
    dimension: str = Field("", max_length=64, description="whose score is limited; empty: the overall grade")
    lowest: _Score = None
    highest: _Score = None
    since: _Day = None
    until: _Day = None
    corrected: Literal["", "yes", "no"] = ""
    rating: _Rating = Field(None, description="the lowest rating")
    order: Literal["newest", "oldest", "best", "worst"] = "newest"
    page: int = Field(1, ge=1, le=1_000_000)

    def job_filter(self) -> JobFilter:
        """The filter of these conditions."""
        return JobFilter(
            text=self.q,
            advisor=self.advisor,
            mode=self.mode,
            status=self.status,
            dimension=self.dimension,
            lowest=self.lowest,
            highest=self.highest,
            since=self.since,
            until=self.until,
            corrected={"yes": True, "no": False}.get(self.corrected),
            least_rating=self.rating,
            order=self.order,
        )

    def is_narrowed(self) -> bool:
        """True when any condition is set, besides the order and the page."""
        return bool(self.model_dump(exclude={"order", "page"}, exclude_defaults=True))

    def address(self, page: int) -> str:
        """The address of another page of the same history."""
        conditions = self.model_dump(mode="json", exclude={"page"}, exclude_defaults=True)
        return f"{HISTORY}?{urlencode({**conditions, 'page': page})}"


@dataclass(frozen=True, kw_only=True)
class PagePosition:
    """Where a page of a list is: numbers of its first and last entry (from 1), and addresses of its neighbors."""

    first: int
    last: int
    total: int
    earlier: str
    later: str


def add_history_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get(HISTORY, responses=PAGE_OR_JSON)
    def history(request: Request, wanted: Annotated[HistoryQuery, Query()]) -> Response:
        """The critiques, newest first, 48 to a page: search, filters and order."""
        ids = find_job_ids(service.store, wanted.job_filter())
        position = page_position(wanted.address, wanted.page, len(ids))
        found = [service.store.job(job_id) for job_id in ids[max(0, position.first - 1) : position.last]]
        jobs = [job for job in found if job is not None]
        if not wants_html(request):
            return JSONResponse({"total": len(ids), "critiques": [job_json(job) for job in jobs]})
        return HTMLResponse(_history_page(service, wanted, jobs, position))

    @app.get(COMPARISON, response_class=HTMLResponse, responses={404: PROBLEM_RESPONSE})
    def comparison(id: Annotated[list[str], Query(max_length=48)]) -> str:  # noqa: A002  its name in the address
        """Two critiques side by side: give `id` twice."""
        if len(id) != 2:
            raise BadInput(
                f"{len(id)} critiques are marked; two can be compared.",
                "Go back and mark two critiques in the history.",
            )
        first, second = (service.job(job_id[:64]) for job_id in id)
        return comparison_page(service, first, second)


def page_position(address: Callable[[int], str], page: int, total: int) -> PagePosition:
    """The position of a page of a list.

    Args:
        address: of another page, by its number from 1.
        page: number from 1; one past the end is the last page.
        total: entries of the whole list.
    """
    pages = max(1, -(-total // PAGE_SIZE))
    page = min(page, pages)
    return PagePosition(
        first=(page - 1) * PAGE_SIZE + 1 if total else 0,
        last=min(total, page * PAGE_SIZE),
        total=total,
        earlier=address(page - 1) if page > 1 else "",
        later=address(page + 1) if page < pages else "",
    )


def _history_page(service: Service, wanted: HistoryQuery, jobs: list[Job], position: PagePosition) -> str:
    return render_template(
        "critiques.html",
        current_page=HISTORY,
        wanted=wanted,
        cards=critique_cards(service.store, jobs),
        position=position,
        advisors=service.store.advisors(),
        modes_used=modes_used(service.store),
        orders=ORDERS,
        written=count_critiqued_photographs(service.store.profiles()),
        statuses=STATUSES,
        moment=format_moment,
    )


def comparison_page(service: Service, first: Job, second: Job) -> str:
    """The page that compares two critiques.

    Raises:
        BadInput: one of them has no critique.
    """
    for job in (first, second):
        if not job_scores(job):
            raise BadInput(f"The job {job.id} has no critique ({job.status}).", "Choose a completed critique.")
    names = advisor_names(service.store)
    scores = {"first": job_scores(first), "second": job_scores(second)}
    cards = [critique_card(job, names) for job in (first, second)]
    return render_template(
        "comparison.html",
        current_page=HISTORY,
        cards=cards,
        same_photograph=bool(first.photograph_sha256) and first.photograph_sha256 == second.photograph_sha256,
        radar=Markup(svg_markup(radar_chart(scores, "Scores of both critiques by dimension"))),
        rows=[_row(name, first, second) for name in DIMENSIONS],
        difference=_difference(cards),
        moment=format_moment,
    )


def _row(name: str, first: Job, second: Job) -> dict[str, Any]:
    entries: list[Mapping[str, Any]] = [
        (job.answer or {}).get("dimensional_analysis", {}).get(name, {}) for job in (first, second)
    ]
    scores = [job_scores(job).get(name) for job in (first, second)]
    change = None if None in scores else (scores[1] or 0) - (scores[0] or 0)
    return {"name": name, "entries": entries, "scores": scores, "change": change}


def _difference(cards: list[CritiqueCard]) -> float | None:
    """The second grade minus the first; None when one of them is not a number."""
    try:
        return round(float(cards[1].grade) - float(cards[0].grade), 1)
    except ValueError:
        return None
