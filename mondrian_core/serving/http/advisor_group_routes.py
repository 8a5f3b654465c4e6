"""Several advisors for one photograph: accept a group of jobs, answer with it, and show the critiques side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.svg import svg_markup
from mondrian_core.errors import BadInput
from mondrian_core.serving.critique.answer_options import AnswerOptions
from mondrian_core.serving.http import uploads
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import RADAR_LABEL, photograph_size, render_template
from mondrian_core.serving.http.problem_details import UnknownJob
from mondrian_core.serving.http.responses import failure_response, job_json, wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.advisor_groups import AdvisorGroup
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES
from mondrian_core.serving.jobs.score_history import job_scores
from mondrian_core.store import FAILED, RUNNING, Job

_GroupId = Annotated[str, Path(pattern="^g[0-9a-f]{32}$")]
_GROUP = {"description": "The group; as a page if HTML is preferred", "content": {"text/html": {}}}


def add_advisor_group_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get("/groups/{group_id}", responses={200: _GROUP, 404: PROBLEM_RESPONSE})
    def group(request: Request, group_id: _GroupId) -> Response:
        """One photograph's critiques by several advisors, as they are now."""
        found = _existing_group(service, group_id)
        if wants_html(request):
            return HTMLResponse(_group_page(service, found))
        return JSONResponse(group_json(found))

    @app.post("/groups/{group_id}/cancel", status_code=202, responses={404: PROBLEM_RESPONSE})
    def cancel_group(group_id: _GroupId) -> Response:
        """Cancel the critiques of a group that are not ready; those that are stay."""
        for job in _existing_group(service, group_id).jobs:
            if job.status not in FINAL_STATUSES:
                service.worker.cancel(job.id)
        return JSONResponse(group_json(_existing_group(service, group_id)), 202)


def _existing_group(service: Service, group_id: str) -> AdvisorGroup:
    jobs = service.store.jobs_of_group(group_id)
    if not jobs:
        service.job(f"{group_id}-1")  # says why: there never was one, or the database lost it
        raise UnknownJob(group_id)
    return AdvisorGroup(group_id, jobs)


async def accept_advisor_group(service: Service, wanted: uploads.AnalyzeRequest, key: str | None) -> Job:
    """Queue one job per advisor of the request; returns the group's first job.

    Raises:
        BadInput: there is no advisor, or there are more than the queue holds.
        UnknownAdvisor, QueueFull, KeyReused, BadPhotograph: as for a request with one advisor.
    """

    def decode_and_queue() -> Sequence[Job]:
        advisors = _advisors_of(service, wanted)
        if not key:
            service.worker.require_room(len(advisors))
        photograph = uploads.store_photograph(service.root, wanted)
        options = AnswerOptions(crops=wanted.crops)
        return service.accept_group(photograph, advisors, wanted.mode, key, options)[0]

    return (await service.decode_queue.run(decode_and_queue))[0]


def _advisors_of(service: Service, wanted: uploads.AnalyzeRequest) -> list[str]:
    advisors = list(wanted.group or ()) or [each.advisor for each in service.store.advisors()]
    if not advisors:
        uploads.only_advisor(service.store)  # says what to do in a workspace without an advisor
    for advisor in advisors:
        service.store.advisor(advisor)
    longest = service.worker.longest_queue
    if len(advisors) > longest:
        raise BadInput(f"{len(advisors)} advisors are more than the queue of {longest} holds.", "Name fewer advisors.")
    return advisors


async def advisor_group_response(service: Service, group_id: str, html: bool, wait_seconds: float) -> Response:
    """The response to POST /analyze: 200 with all critiques if they are ready in time, else 202 with the location."""
    waiting = [job.id for job in service.store.jobs_of_group(group_id) if job.status not in FINAL_STATUSES]
    try:
        async with asyncio.timeout(wait_seconds):
            for job_id in waiting:
                await service.job_events.wait_until_finished(job_id, wait_seconds)
    except TimeoutError:
        pass  # the response says that they are not ready

    def answer() -> Response:
        group = _existing_group(service, group_id)
        service.durable_job(group.jobs[0].id)
        if html:
            return HTMLResponse(_group_page(service, group), 202 if group.status == RUNNING else 200)
        if group.status == RUNNING:
            headers = {"Location": group_url(group_id), "Retry-After": "2", "Preference-Applied": "respond-async"}
            return JSONResponse(group_json(group), 202, headers=headers)
        if group.status == FAILED and group.jobs[0].status == FAILED:
            return failure_response(group.jobs[0])
        return JSONResponse(group_json(group))

    return await run_in_threadpool(answer)


def group_url(group_id: str) -> str:
    """The path of a group."""
    return f"/groups/{group_id}"


def group_json(group: AdvisorGroup) -> dict[str, Any]:
    """A group as JSON values: its jobs, and by dimension the scores by advisor, their mean and their range."""
    advisors = {job.id: job.advisor or "" for job in group.jobs}
    first = group.jobs[0]
    return {
        "group_id": group.id,
        "status": group.status,
        "photograph": first.filename,
        "photograph_sha256": first.photograph_sha256,
        "advisors": list(advisors.values()),
        "jobs": [job_json(job) for job in group.jobs],
        "spread": {
            name: {
                "scores": {advisors[job_id]: score for job_id, score in spread.scores.items()},
                "mean": round(spread.mean, 2),
                "range": round(spread.range, 2),
            }
            for name, spread in group.spreads.items()
        },
        "links": {"self": group_url(group.id), "photograph": f"/jobs/{first.id}/photograph"},
    }


def _group_page(service: Service, group: AdvisorGroup) -> str:
    names = {each.advisor: each.name for each in service.store.advisors()}
    scores = {job.id: job_scores(job) for job in group.jobs}
    spreads = group.spreads
    widest = max((spread.range for spread in spreads.values()), default=0)
    return render_template(
        "advisor_group.html",
        group=group,
        first=group.jobs[0],
        size=photograph_size(service.root, group.jobs[0]),
        names={job.id: names.get(job.advisor or "", job.advisor or "") for job in group.jobs},
        scores=scores,
        radars={
            job_id: Markup(svg_markup(radar_chart({"candidate": found}, RADAR_LABEL)))
            for job_id, found in scores.items()
            if found
        },
        spreads={name: asdict(spread) for name, spread in spreads.items()},
        disputed=[name for name, spread in spreads.items() if widest > 0 and spread.range == widest],
        widest=widest,
        ended=sum(job.status in FINAL_STATUSES for job in group.jobs),
    )
