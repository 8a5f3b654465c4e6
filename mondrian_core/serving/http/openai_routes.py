"""OpenAI's routes: chat completions whose answer is a critique, and models named by advisor and version.

`ansel` is the advisor with the promoted adapter (the base where none is promoted), `ansel@v0003` exactly that version,
`ansel@base` the base model. Every request is a row of the jobs table with an explicit mode.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from mondrian_core.critique_parsing import parse_critique_lenient
from mondrian_core.registry.version import VERSION_NAME, AdapterVersion
from mondrian_core.rollout import FAULT_KEY
from mondrian_core.rubric import canonical_answer, dump_canonical_json
from mondrian_core.serving.http import uploads
from mondrian_core.serving.http.openai_errors import openai_error
from mondrian_core.serving.http.openai_requests import ChatRequest, parse_chat_request
from mondrian_core.serving.http.problem_details import InvalidParameter
from mondrian_core.serving.http.responses import IdempotencyKey, job_fallbacks, job_url
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES, JobEvent
from mondrian_core.serving.jobs.job_runner import CUT_OFF_KEY
from mondrian_core.settings import ADVISOR_ID
from mondrian_core.store import CANCELED, COMPLETED, Job

BASE = "base"
_POLL_SECONDS = 1.0  # how often a waiting request looks whether its client is still there
_ERROR: dict[str, Any] = {"description": "An error in OpenAI's form", "content": {"application/json": {}}}
_ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 409, 413, 500, 503, 507), _ERROR)
_HIDDEN_STATES = ("quarantined", "legacy")
_PIECE = 48  # characters of a streamed chunk


def add_openai_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get("/v1/models", responses=_ERRORS)
    def models() -> dict[str, Any]:
        """The models that a request can name: advisors, their versions, and the base with an advisor's prompt."""
        advisors = [each.advisor for each in service.store.advisors()]
        return {"object": "list", "data": [model for advisor in advisors for model in _models_of(service, advisor)]}

    @app.get("/v1/models/{model}", responses=_ERRORS)
    def one_model(model: Annotated[str, Path(max_length=160)]) -> dict[str, Any]:
        """One of the models that a request can name."""
        advisor, _ = _advisor_and_version(service, model)
        return next(each for each in _models_of(service, advisor) if each["id"] == model)

    @app.post(
        "/v1/chat/completions",
        openapi_extra={"requestBody": _CHAT_BODY},
        responses=_ERRORS,
    )
    async def chat_completions(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        """Critique the photograph in the messages. The text is one choice, whole or as server-sent events."""
        async with service.decode_queue.slot():
            body = await request.body()
            asked = await run_in_threadpool(parse_chat_request, body)
            job = await service.decode_queue.run(lambda: _queue(service, asked, idempotency_key or None))
        abandons = not idempotency_key  # a request with a key may be sent again for the same answer
        if asked.stream:
            events = _stream(service, asked, job, abandons)
            return EventSourceResponse(events, ping=15, send_timeout=60)
        while not await service.job_events.wait_until_finished(job.id, _POLL_SECONDS):
            row = await run_in_threadpool(service.job, job.id)
            if row.status in FINAL_STATUSES:
                break
            if await request.is_disconnected():
                if abandons:
                    service.worker.cancel(job.id)
                break
        return await run_in_threadpool(_answer, service, asked, job.id)


_CHAT_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["model", "messages"],
                "properties": {
                    "model": {"type": "string", "description": "an advisor, ADVISOR@VERSION or ADVISOR@base"},
                    "messages": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "object"},
                        "description": "OpenAI's messages, with exactly one image_url, a data: URL",
                    },
                    "response_format": {"type": "object"},
                    "temperature": {"type": "number", "minimum": 0, "maximum": 2, "default": 0},
                    "seed": {"type": "integer"},
                    "max_completion_tokens": {"type": "integer", "minimum": 1},
                    "max_tokens": {"type": "integer", "minimum": 1},
                    "stream": {"type": "boolean", "default": False},
                },
            }
        }
    },
}


# --- models -----------------------------------------------------------------------------------------------------------


def _models_of(service: Service, advisor: str) -> list[dict[str, Any]]:
    versions = _versions_of(service, advisor)
    named = {f"{advisor}@{each.version}": _created(each) for each in versions}
    newest = max(named.values(), default=0)
    return [
        {"id": name, "object": "model", "created": created, "owned_by": "mondrian"}
        for name, created in {advisor: newest, **named, f"{advisor}@{BASE}": 0}.items()
    ]


def _versions_of(service: Service, advisor: str) -> list[AdapterVersion]:
    registry = service.adapters.registry_of(advisor)
    if advisor not in registry.advisors():
        return []
    return [
        each
        for each in registry.versions(advisor)
        if VERSION_NAME.fullmatch(each.version) and each.state not in _HIDDEN_STATES
    ]


def _created(version: AdapterVersion) -> int:
    """When the version was registered, in seconds since 1970; 0 when the manifest doesn't say."""
    try:
        return int(datetime.fromisoformat(str(version.manifest.get("created_at"))).timestamp())
    except ValueError:
        return 0


def _advisor_and_version(service: Service, model: str) -> tuple[str, str | None]:
    """(advisor, version, "base" or None for whatever is promoted).

    Raises:
        InvalidParameter: there is no such model.
    """
    advisor, marked, version = model.partition("@")
    known = [each.advisor for each in service.store.advisors()]
    found = ADVISOR_ID.fullmatch(advisor) is not None and advisor in known
    if found and marked and version != BASE:
        found = any(each.version == version for each in _versions_of(service, advisor))
    if not found:
        names = ", ".join(known)[:200] or "none yet: `mondrian advisors add` makes one"
        raise InvalidParameter(
            f"The model '{model[:80]}' does not exist.",
            f"GET /v1/models lists the models; the advisors are {names}.",
            param="model",
            code="model_not_found",
            status=404,
        )
    return advisor, version if marked else None


# --- requests ---------------------------------------------------------------------------------------------------------


def _queue(service: Service, asked: ChatRequest, key: str | None) -> Job:
    advisor, version = _advisor_and_version(service, asked.model)
    if not key:
        service.worker.require_room()
    wanted = uploads.AnalyzeRequest(advisor=advisor, mode=None, data=asked.photograph, name="chat")
    photograph = uploads.store_photograph(service.root, wanted)
    adapted = version != BASE if version else service.adapters.has_promoted(advisor)
    options = replace(asked.options, version=version if version != BASE else None)
    job, _ = service.accept(photograph, advisor, "lora" if adapted else "baseline", key, options)
    return job


def _answer(service: Service, asked: ChatRequest, job_id: str) -> Response:
    job = service.durable_job(job_id)
    problem = _problem(job)
    if problem is not None:
        return JSONResponse(openai_error(problem), problem["status"])
    content, reason = _content(asked, job)
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    head = _head(service, asked, job, "chat.completion")
    return JSONResponse({**head, "choices": [choice], "usage": _usage(job), **_more(asked, job)})


def _problem(job: Job) -> dict[str, Any] | None:
    """Why the job has no answer; None when it has one."""
    if job.status == COMPLETED or CUT_OFF_KEY in job.details:
        return None
    if job.status == CANCELED:
        return {"status": 409, "title": "The request was canceled.", "detail": "Send it again.", "code": "canceled"}
    if job.status not in FINAL_STATUSES:
        waiting = f"Read it at {job_url(job)} later."
        return {"status": 503, "title": "The answer is not ready.", "detail": waiting, "code": "not_ready"}
    at_fault = job.details.get(FAULT_KEY) == "request"
    return {
        "status": 400 if at_fault else 500,
        "title": job.error or "The critique failed.",
        "code": "bad_photograph" if at_fault else "analysis_failed",
    }


def _content(asked: ChatRequest, job: Job) -> tuple[str, str]:
    """(text of the answer, finish reason)."""
    if CUT_OFF_KEY in job.details:
        return str(job.details[CUT_OFF_KEY]), "length"
    if asked.options.schema is not None:
        return str(json.loads(job.llm_outputs or "{}")["replies"][-1]), "stop"
    answer = dump_canonical_json(job.answer or {})
    # rag and corrections may add keys that the schema doesn't have
    if asked.form is not None:
        answer = canonical_answer(parse_critique_lenient(answer).critique, asked.form)
    return answer, "stop"


def _head(service: Service, asked: ChatRequest, job: Job, kind: str) -> dict[str, Any]:
    """What a completion and each of its chunks begin with; `model` is the one that answered, once that is known."""
    created = datetime.fromisoformat(f"{job.created_at}+00:00").timestamp() if job.created_at else 0
    model = f"{job.advisor}@{job.adapter_version or BASE}" if job.status == COMPLETED else asked.model
    return {
        "id": f"chatcmpl-{job.id}",
        "object": kind,
        "created": int(created),
        "model": model,
        "system_fingerprint": service.model.fingerprint,
    }


def _usage(job: Job) -> dict[str, int]:
    """Tokens read and generated, over all passes and tries."""
    passes = job.details.get("passes") or []
    prompt, answer = (sum(int(each.get(name, 0)) for each in passes) for name in ("prompt_tokens", "tokens"))
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _more(asked: ChatRequest, job: Job) -> dict[str, Any]:
    """What OpenAI's form has no place for."""
    return {
        "mondrian": {
            "job_id": job.id,
            "mode": job.mode,
            "adapter_version": job.adapter_version,
            "fallbacks": job_fallbacks(job),
            "ignored": list(asked.ignored),
            "links": {"self": job_url(job)},
        }
    }


# --- streaming --------------------------------------------------------------------------------------------------------


async def _stream(service: Service, asked: ChatRequest, job: Job, abandons: bool) -> AsyncIterator[ServerSentEvent]:
    """The answer in chunks. Until it is ready, comments keep the connection alive and tell the progress.

    A critique's text is not sent while it is generated: the scores that people see are known only at its end, and an
    answer that can't be used is replaced by a second one.
    """
    ended = False

    async def final_event() -> JobEvent | None:
        row = await run_in_threadpool(service.job, job.id)
        return JobEvent(1, row.status or "failed", {}) if row.status in FINAL_STATUSES else None

    try:
        yield _chunk(service, asked, job, {"role": "assistant", "content": "", "refusal": None})
        if job.status not in FINAL_STATUSES:
            async for event in service.job_events.events(job.id, 0, final_event):
                tokens = event.data.get("tokens")
                yield ServerSentEvent(comment=f"{event.kind} {tokens}" if tokens else event.kind)
        ended = True
        row = await run_in_threadpool(service.durable_job, job.id)
        problem = _problem(row)
        if problem is not None:
            yield ServerSentEvent(json.dumps(openai_error(problem)))
        else:
            for each in _answer_chunks(service, asked, row):
                yield each
        yield ServerSentEvent("[DONE]")
    finally:
        if not ended and abandons:
            service.worker.cancel(job.id)


def _answer_chunks(service: Service, asked: ChatRequest, job: Job) -> list[ServerSentEvent]:
    content, reason = _content(asked, job)
    pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)]
    chunks = [_chunk(service, asked, job, {"content": piece}) for piece in pieces]
    chunks.append(_chunk(service, asked, job, {}, reason, _more(asked, job)))
    if asked.include_usage:
        usage = {**_head(service, asked, job, "chat.completion.chunk"), "choices": [], "usage": _usage(job)}
        chunks.append(ServerSentEvent(json.dumps(usage)))
    return chunks


def _chunk(
    service: Service,
    asked: ChatRequest,
    job: Job,
    delta: dict[str, Any],
    reason: str | None = None,
    more: dict[str, Any] | None = None,
) -> ServerSentEvent:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    usage = {"usage": None} if asked.include_usage else {}
    head = _head(service, asked, job, "chat.completion.chunk")
    return ServerSentEvent(json.dumps({**head, "choices": [choice], **usage, **(more or {})}))
