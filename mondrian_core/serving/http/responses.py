"""A job as a response: JSON, headers, content negotiation, waiting time."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import Response

from mondrian_core.rollout import job_fault
from mondrian_core.serving.http.problem_details import NotAcceptable, problem_response
from mondrian_core.serving.jobs.advisor_groups import group_of_job
from mondrian_core.serving.jobs.crop_record import CROPS_KEY
from mondrian_core.store import Job
from mondrian_core.store.records import ADVICE_JUDGEMENTS

IdempotencyKey = Annotated[
    str | None, Header(max_length=200, description="a request that repeats the key gets the job of the first one")
]
DEFAULT_WAIT_SECONDS = 60.0
MAX_WAIT_SECONDS = 300.0
CRITIQUE_KEYS = ("dimensional_analysis", "overall_grade", "advisor_notes", "strengths", "priority_improvements")


def job_url(job: Job) -> str:
    """The path of a job."""
    return f"/jobs/{job.id}"


def job_fallbacks(job: Job) -> list[dict[str, Any]]:
    """The strategies that were tried again or given up, with the reasons."""
    hops: list[dict[str, Any]] = job.details.get("hops", [])
    return hops


def compared_photographs(job: Job) -> list[dict[str, Any]]:
    """The portfolio photographs that the critique compared with, without their paths."""
    named = job.details.get("compared_with") or []
    public = [{key: value for key, value in facts.items() if key != "path"} for facts in named]
    return [{**facts, "link": f"{job_url(job)}/compared/{number}"} for number, facts in enumerate(public, start=1)]


def job_json(job: Job) -> dict[str, Any]:
    """A job as JSON values; `critique`, and its keys at the top level, are set once it is completed."""
    return {
        "job_id": job.id,
        "status": job.status,
        "group": group_of_job(job),
        "advisor": job.advisor,
        "photograph": job.filename,
        "photograph_sha256": job.photograph_sha256,
        "requested_mode": job.requested_mode,
        "explicit_mode": job.explicit_mode,
        "mode": job.mode,
        "arm": job.arm,
        "model_used": job.model_used,
        "adapter_version": job.adapter_version,
        "critique": job.answer,
        "written_scores": job.details.get("written_scores") or None,
        "expected_scores": job.details.get("expected_scores") or None,
        "compared_with": compared_photographs(job),
        "crops": job.details.get(CROPS_KEY),
        "fallbacks": job_fallbacks(job),
        "seconds": job.details.get("seconds"),
        "passes": job.details.get("passes") or [],
        "rating": job.details.get("rating"),
        "judgements": job.details.get(ADVICE_JUDGEMENTS) or {},
        "corrected_at": job.details.get("corrected_at"),
        "error": job.error,
        "fault": job_fault(job),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        # the critique again, where the older service had it
        **{key: value for key, value in (job.answer or {}).items() if key in CRITIQUE_KEYS},
        "links": {"self": job_url(job), "events": f"{job_url(job)}/events", "photograph": f"{job_url(job)}/photograph"},
    }


def failure_response(job: Job) -> Response:
    """The response for a failed job: 422 when the photograph is at fault, else 500."""
    if job_fault(job) == "request":
        refused = "The photograph can't be critiqued."
        answer = problem_response(422, "bad-photograph", refused, job.error or "", job=job_json(job))
    else:
        answer = problem_response(500, "analysis-failed", "The critique failed.", job.error or "", job=job_json(job))
    answer.headers.update(job_headers(job))
    return answer


def job_headers(job: Job) -> dict[str, str]:
    """Headers that say what answered; "pending" before the job has ended."""
    requested = job.requested_mode or ""
    left = {hop.get("strategy") for hop in job_fallbacks(job) if hop.get("left")}
    pending = "pending" if job.status in ("queued", "running") else "none"
    headers = {
        "X-Job-ID": job.id,
        "X-Analysis-Mode": job.mode or pending,
        "X-Requested-Mode": requested,
        "X-Advisor-ID": job.advisor or "",
        "X-Strategy-Available": "pending" if pending == "pending" else str(requested not in left).lower(),
        "X-Model-Used": job.model_used or pending,
        "X-Adapter-Version": job.adapter_version or pending,
    }
    return {name: _header_value(value) for name, value in headers.items()}


def _header_value(text: str) -> str:
    """The text as a valid header value: rows of an older table may contain anything."""
    return re.sub(r"[^\x20-\x7e]", "?", text)


def wants_html(request: Request) -> bool:
    """True for `?format=html`, or an Accept header that prefers HTML, as from a browser. JSON is the default.

    Raises:
        NotAcceptable: the request accepts neither JSON nor HTML.
    """
    chosen = prefers_html(request.headers.get("accept", ""), request.query_params.get("format", ""))
    if chosen is None:
        raise NotAcceptable("The response is JSON or HTML.", "Send Accept: application/json or text/html.")
    return chosen


def prefers_html(accept: str, form: str = "") -> bool | None:
    """Whether HTML is preferred to JSON; None when neither is accepted.

    Args:
        accept: an Accept header, "" when there is none.
        form: "html" or "json", which decides; any other text is ignored.
    """
    if form in ("html", "json"):
        return form == "html"
    weights = parse_accept_header(accept)
    if not weights:
        return False
    html = weights.get("text/html", weights.get("text/*", 0.0))
    anything = weights.get("*/*", 0.0)
    plain = max(weights.get("application/json", weights.get("application/*", 0.0)), anything)
    if not html and not plain and "text/event-stream" not in weights:
        return None
    return html > plain or (html > 0 and html == plain and "application/json" not in weights)


def parse_accept_header(header: str) -> dict[str, float]:
    """Media types of an Accept header with their weights (0-1)."""
    weights = {}
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            match = re.fullmatch(r"q\s*=\s*([01](?:\.\d{0,3})?)", parameter)
            weight = float(match.group(1)) if match else weight
        if kind:
            weights[kind] = weight
    return {kind: weight for kind, weight in weights.items() if weight > 0}


def preferred_wait_seconds(prefer: str) -> float:
    """Seconds to wait for the critique, from a Prefer header (RFC 7240): `wait=20`, `respond-async`; default 60."""
    match = re.search(r"\bwait\s*=\s*(\d{1,6})\b", prefer)
    if match:
        return min(float(match.group(1)), MAX_WAIT_SECONDS)
    return 0.0 if "respond-async" in prefer else DEFAULT_WAIT_SECONDS
