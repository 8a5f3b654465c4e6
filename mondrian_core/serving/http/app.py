"""The HTTP routes, between requests and the jobs table. The worker thread makes the critiques."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from mondrian_core.rubric import AnswerForm, critique_json_schema
from mondrian_core.serving.critique.answer_options import AnswerOptions
from mondrian_core.serving.critique.crop_search import MOST_PASSES
from mondrian_core.serving.http import advisor_routes, feedback_routes, problem_details, start_routes, uploads
from mondrian_core.serving.http.advisor_group_routes import (
    accept_advisor_group,
    add_advisor_group_routes,
    advisor_group_response,
)
from mondrian_core.serving.http.api_docs import AREAS, add_api_docs, add_area, operation_id
from mondrian_core.serving.http.api_examples import document_examples
from mondrian_core.serving.http.critique_file_routes import add_critique_file_routes
from mondrian_core.serving.http.drift_routes import add_drift_routes
from mondrian_core.serving.http.error_pages import ErrorPages, UnexpectedErrors, document_problems
from mondrian_core.serving.http.front_page import add_front_page
from mondrian_core.serving.http.history_routes import add_history_routes
from mondrian_core.serving.http.login_routes import add_login_routes
from mondrian_core.serving.http.openai_errors import OpenAIErrors
from mondrian_core.serving.http.openai_routes import add_openai_routes
from mondrian_core.serving.http.pages import (
    compared_photograph_jpeg,
    cropped_photograph_jpeg,
    job_page,
    photograph_jpeg,
    program_version,
)
from mondrian_core.serving.http.photograph_import_routes import add_photograph_import_routes
from mondrian_core.serving.http.photograph_pages import add_photograph_pages
from mondrian_core.serving.http.promotion_routes import add_promotion_routes
from mondrian_core.serving.http.registry_routes import add_registry_routes
from mondrian_core.serving.http.responses import (
    IdempotencyKey,
    failure_response,
    job_headers,
    job_json,
    job_url,
    preferred_wait_seconds,
    wants_html,
)
from mondrian_core.serving.http.run_routes import add_run_routes
from mondrian_core.serving.http.security import SecurityMiddleware
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.sessions import Sessions
from mondrian_core.serving.http.write_routes import add_write_routes
from mondrian_core.serving.jobs import ab_comparison
from mondrian_core.serving.jobs.advisor_groups import group_of_job
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES, JobEvent
from mondrian_core.store import Job

JobId = Annotated[str, Path(max_length=64)]
LastEventId = Annotated[str, Header(max_length=200, description="`id` of the last event that was received")]
_JOB = {"description": "The job; as a page if HTML is preferred", "content": {"text/html": {}}}
_LATER = {
    "description": "The job is in progress; see `Location`",
    "content": {"application/json": {}, "text/html": {}},
}
_UNHEALTHY = {
    "description": "The model process or the database has a problem",
    "content": {"application/json": {}},
}
_EVENTS = {"description": "Progress", "content": {"text/event-stream": {}}}
_TEXT = {"description": "Prometheus text format", "content": {"text/plain": {}}}
_JPEG = {"description": "A JPEG without metadata", "content": {"image/jpeg": {}}}
_ADVISOR = {
    "type": "string",
    "pattern": "^[a-z0-9_-]{1,64}$",
    "description": "optional when the workspace has exactly one advisor",
}
_CROPS = {
    "type": "boolean",
    "default": False,
    "description": f"also look for a crop that the model scores higher: up to {MOST_PASSES} more passes",
}
_ALL = "`all`, for a group of critiques by several advisors"
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {"type": "string", "format": "binary"},
                    "advisor": {**_ADVISOR, "description": f"{_ADVISOR['description']}; repeat it, or send {_ALL}"},
                    "mode": {"type": "string", "enum": ["baseline", "rag", "lora"]},
                    "crops": _CROPS,
                },
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "oneOf": [{"required": ["path"]}, {"required": ["image"]}],
                "additionalProperties": False,
                "properties": {
                    "path": {"type": "string", "description": "a photograph under the workspace"},
                    "image": {"type": "string", "description": "older name of `path`"},
                    "advisor": {"oneOf": [_ADVISOR, {"type": "array", "items": _ADVISOR, "minItems": 1}]},
                    "mode": {"type": "string", "enum": ["baseline", "rag", "lora"]},
                    "crops": _CROPS,
                },
            }
        },
    },
}


def create_app(service: Service) -> FastAPI:
    """The ASGI app of one service. Its lifespan starts and stops the worker."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.job_events.attach(asyncio.get_running_loop())
        await run_in_threadpool(service.register_start)
        service.worker.start()
        for follower in service.followers:
            follower.start()
        service.recording.look()
        yield
        for follower in service.followers:
            await run_in_threadpool(follower.stop)
        await run_in_threadpool(service.recording.stop)
        await run_in_threadpool(service.worker.stop)
        await run_in_threadpool(service.event_relay.stop)

    about = "Critiques of photographs in one advisor's style."
    app = FastAPI(
        title="Mondrian",
        description=about,
        version=program_version(),
        lifespan=lifespan,
        responses=_problem_responses(400, 401, 422, 503),
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": area, "description": text} for area, text in AREAS.items()],
        generate_unique_id_function=operation_id,
    )
    sessions = Sessions(service.token, service.workspace) if service.token else None
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(uploads.BodyLimit)
    app.add_middleware(SecurityMiddleware, sessions=sessions)
    app.add_middleware(OpenAIErrors)
    app.add_middleware(ErrorPages)  # the last one is the outermost
    problem_details.add_problem_handlers(app)
    for area, add_routes in _ROUTES:
        add_area(app, service, area, add_routes)
    add_area(app, service, "Service", lambda app, _: add_login_routes(app, sessions))
    document_problems(app)
    document_examples(app)
    return app


def _job_routes(app: FastAPI, service: Service) -> None:
    @app.post(
        "/analyze",
        openapi_extra={"requestBody": _BODY},
        responses={200: _JOB, 202: _LATER, **_problem_responses(404, 406, 413, 415, 500, 507)},
    )
    async def analyze(
        request: Request,
        prefer: Annotated[str, Header(max_length=200, description="`wait=SECONDS` or `respond-async`")] = "",
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Critique a photograph. 200 with the critique if it is ready in time, else 202 with its location."""
        html = wants_html(request)
        async with service.decode_queue.slot():
            job = await _accept(service, await uploads.read_analyze_request(request), idempotency_key or None)
        return await _answer_in_time(service, job, html, preferred_wait_seconds(prefer))

    @app.get("/jobs/{job_id}", responses={200: _JOB, **_problem_responses(404, 406)})
    def job(request: Request, job_id: JobId) -> Response:
        """A critique as it is now: the job with its status and, once it is ready, its answer."""
        row = service.job(job_id)
        if wants_html(request):
            return HTMLResponse(job_page(service, row))
        return JSONResponse(job_json(row), headers=job_headers(row))

    @app.get("/jobs/{job_id}/events", response_class=Response, responses={200: _EVENTS, **_problem_responses(404)})
    async def events(request: Request, job_id: JobId, last_event_id: LastEventId = "") -> Response:
        """The progress of a critique as server-sent events. They begin after `Last-Event-ID`; the last always comes.

        An event ID belongs to one start of the service: after a restart the events begin again.
        """
        row = await run_in_threadpool(service.job, job_id)
        after = _event_number(last_event_id, service.boot)
        return EventSourceResponse(_events(service, row, after), ping=15, send_timeout=60)

    @app.post("/jobs/{job_id}/cancel", status_code=202, responses=_problem_responses(404))
    def cancel(job_id: JobId) -> Response:
        """Cancel a critique: remove it from the queue, or stop it."""
        if service.job(job_id).status not in FINAL_STATUSES:
            service.worker.cancel(job_id)
        return JSONResponse(job_json(service.job(job_id)), 202)

    @app.get("/jobs/{job_id}/photograph", response_class=Response, responses={200: _JPEG, **_problem_responses(404)})
    async def photograph(job_id: JobId) -> Response:
        """The photograph of a critique, as a JPEG without metadata."""
        data = await service.decode_queue.run(lambda: photograph_jpeg(service.root, service.job(job_id)))
        return Response(data, media_type="image/jpeg")

    @app.get("/jobs/{job_id}/crop", response_class=Response, responses={200: _JPEG, **_problem_responses(404)})
    async def crop(job_id: JobId) -> Response:
        """The crop that a critique offers, as a JPEG without metadata."""
        data = await service.decode_queue.run(lambda: cropped_photograph_jpeg(service.root, service.job(job_id)))
        return Response(data, media_type="image/jpeg")

    @app.get(
        "/jobs/{job_id}/compared/{number}", response_class=Response, responses={200: _JPEG, **_problem_responses(404)}
    )
    async def compared(job_id: JobId, number: Annotated[int, Path(ge=1, le=100)]) -> Response:
        """A photograph that a critique compared with. `number` is its position in `compared_with`, from 1."""
        data = await service.decode_queue.run(
            lambda: compared_photograph_jpeg(service.root, service.job(job_id), number)
        )
        return Response(data, media_type="image/jpeg")


async def _accept(service: Service, wanted: uploads.AnalyzeRequest, key: str | None) -> Job:
    """The queued job; of a group the first."""
    if wanted.group is not None:
        return await accept_advisor_group(service, wanted, key)

    def decode_and_queue() -> Job:
        advisor = wanted.advisor or uploads.only_advisor(service.store)
        service.store.advisor(advisor)
        if not key:
            service.worker.require_room()
        photograph = uploads.store_photograph(service.root, wanted)
        job, _ = service.accept(photograph, advisor, wanted.mode, key, AnswerOptions(crops=wanted.crops))
        return job

    return await service.decode_queue.run(decode_and_queue)


async def _answer_in_time(service: Service, job: Job, html: bool, wait_seconds: float) -> Response:
    if group := group_of_job(job):
        return await advisor_group_response(service, group, html, wait_seconds)
    if job.status not in FINAL_STATUSES:
        await service.job_events.wait_until_finished(job.id, wait_seconds)
    return await run_in_threadpool(_answer, service, job.id, html)


def _answer(service: Service, job_id: str, html: bool) -> Response:
    job = service.durable_job(job_id)
    ended = job.status in FINAL_STATUSES
    if html:
        return HTMLResponse(job_page(service, job), 200 if ended else 202, headers=job_headers(job))
    if not ended:
        waiting = {"Location": job_url(job), "Retry-After": "2", "Preference-Applied": "respond-async"}
        return JSONResponse(job_json(job), 202, headers={**job_headers(job), **waiting})
    if job.status == "failed":
        return failure_response(job)
    return JSONResponse(job_json(job), headers=job_headers(job))


def _event_number(event_id: str, boot: str) -> int:
    """The number in an event ID of this start of the service; 0 for any other text."""
    sender, _, number = event_id.rpartition("-")
    return int(number) if sender == boot and number.isascii() and number.isdecimal() and len(number) < 10 else 0


async def _events(service: Service, job: Job, after: int) -> AsyncIterator[ServerSentEvent]:
    async def final_event() -> JobEvent | None:
        row = await run_in_threadpool(service.job, job.id)
        return JobEvent(after + 1, row.status or "failed", job_json(row)) if row.status in FINAL_STATUSES else None

    if job.status in FINAL_STATUSES and not service.job_events.has_events(job.id):
        events = _one(JobEvent(1, job.status or "failed", job_json(job)))
    else:
        events = service.job_events.events(job.id, after, final_event)
    async for event in events:
        name = f"{service.boot}-{event.number}"
        yield ServerSentEvent(json.dumps(dict(event.data)), event=event.kind, id=name)


async def _one(event: JobEvent) -> AsyncIterator[JobEvent]:
    yield event


def _other_routes(app: FastAPI, service: Service) -> None:
    @app.get("/compare")
    def compare(days: Annotated[int, Query(ge=1, le=3650)] = 7) -> dict[str, Any]:
        """The A/B comparison by assigned arm; requests that named a mode are left out."""
        return {"days": days, "arms": ab_comparison.compare_arms(service.store, days)}

    health_threads = CapacityLimiter(2)  # its own threads, so that a busy service answers too

    @app.get("/health", responses={503: _UNHEALTHY})
    async def health() -> Response:
        """Whether the service works: 200 while it can critique, else 503. `workspace` and `boot` identify it."""
        healthy, details = await to_thread.run_sync(service.health, limiter=health_threads)
        return JSONResponse(details, 200 if healthy else 503)

    @app.get("/metrics", response_class=Response, responses={200: _TEXT})
    def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/schema")
    def schema(form: AnswerForm = AnswerForm.COMMENTS) -> dict[str, Any]:
        """The JSON schema of a critique; `form=advice`: with recommendations, regions, strengths and priorities."""
        return critique_json_schema(form)


def _page_routes(app: FastAPI, service: Service) -> None:
    from fastapi.staticfiles import StaticFiles

    from mondrian_core.serving.http.pages import STATIC

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return dict.fromkeys(statuses, feedback_routes.PROBLEM_RESPONSE)


_ROUTES = (  # of each area; of two that match a path, the first answers
    ("Critiques", _job_routes),
    ("Critiques", feedback_routes.add_feedback_routes),
    ("Advisors", advisor_routes.add_advisor_routes),
    ("Advisors", start_routes.add_start_routes),
    ("Critiques", add_advisor_group_routes),
    ("Other programs", add_openai_routes),
    ("Photographs", add_photograph_import_routes),
    ("Writing", add_write_routes),
    ("Registry", add_promotion_routes),
    ("Registry", add_registry_routes),
    ("Runs", add_run_routes),
    ("Drift", add_drift_routes),
    ("Service", _other_routes),
    ("Service", _page_routes),
    ("Critiques", add_critique_file_routes),
    ("Critiques", add_front_page),
    ("Critiques", add_history_routes),
    ("Photographs", add_photograph_pages),
    ("Service", add_api_docs),
)
