"""The front page: what this is, who answers, a photograph to send, and the latest critiques."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from mondrian_core.errors import MondrianError
from mondrian_core.images import jpeg_bytes
from mondrian_core.mini import rendered_photographs
from mondrian_core.next_steps import add_advisor_step
from mondrian_core.registry.champion_pointer import read_champion_pointer
from mondrian_core.serving.http import uploads
from mondrian_core.serving.http.critique_cards import critique_cards, format_moment
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.jobs.image_decoding import open_downscaled
from mondrian_core.serving.jobs.score_history import (
    MAX_POINTS,
    format_day,
    is_internal_job,
    score_history_charts,
    score_points,
)

if TYPE_CHECKING:
    from mondrian_core.serving.http.service import Service

LATEST_CRITIQUES = 8
PREVIEW_SIDE = 640
SAMPLE_SEED = 7
_IMAGE_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "format": "binary"}},
            }
        }
    },
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"description": "A JPEG without metadata", "content": {"image/jpeg": {}}}
}


@dataclass(frozen=True, kw_only=True)
class AnsweringModel:
    """Which model answers for an advisor.

    Attributes:
        advisor: id.
        name: of the advisor.
        version: of the adapter; None: the base model answers.
        since: the day of its promotion, such as "21 Nov 2026"; "" when unknown.
        note: why it is not the promoted version; "" when it is.
    """

    advisor: str
    name: str
    version: str | None
    since: str
    note: str


def add_front_page(app: FastAPI, service: Service) -> None:
    """Add the page, and what it needs to show a photograph before it is sent."""

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        """The page to drop photographs on."""
        return front_page(service)

    @app.get("/sample", response_class=Response, responses=_JPEG)
    def sample() -> Response:
        """A rendered photograph to try a critique on."""
        return Response(_sample_jpeg(), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    @app.post(
        "/preview",
        response_class=Response,
        openapi_extra={"requestBody": _IMAGE_BODY},
        responses={**_JPEG, **dict.fromkeys((413, 415), PROBLEM_RESPONSE)},
    )
    async def preview(request: Request) -> Response:
        """A small JPEG of a photograph that a browser can't show. That is HEIC or TIFF; nothing is stored."""
        async with service.decode_queue.slot():
            data = (await uploads.read_analyze_request(request)).data or b""
            small = await service.decode_queue.run(lambda: jpeg_bytes(open_downscaled(data, PREVIEW_SIDE).image))
        return Response(small, media_type="image/jpeg")


def front_page(service: Service) -> str:
    """The front page."""
    advisors = service.store.advisors()
    jobs = [job for job in service.store.latest_jobs(4 * MAX_POINTS) if not is_internal_job(job)]
    charts = [(each, score_history_charts(score_points(jobs, each.advisor))) for each in advisors]
    return render_template(
        "front.html",
        current_page="/",
        advisors=advisors,
        answering=[answering_model(service, each.advisor, each.name) for each in advisors],
        latest=critique_cards(service.store, jobs[:LATEST_CRITIQUES]),
        charts=[(each, chart) for each, chart in charts if chart],
        first_step=add_advisor_step(),
        moment=format_moment,
    )


def answering_model(service: Service, advisor: str, name: str) -> AnsweringModel:
    """Which model answers a request for this advisor that names no mode."""
    registry = service.adapters.registry_of(advisor)
    version, since, note = None, "", ""
    try:
        pointer = read_champion_pointer(registry.root / advisor, advisor)
    except MondrianError:
        pointer, note = None, "The promoted version can't be read; the next promotion repairs it."
    if pointer is not None and pointer.version:
        version, since = pointer.version, format_day(pointer.entry.at)
    serving = service.adapters.active_versions
    active = serving.get(advisor) or serving.get("*")
    if active is not None and active != version:
        version, since = active, ""
    if version is not None and service.model_mode == "base":
        note = f"{version} is promoted; to use it, start the service with `--model-mode fine_tuned`."
        version, since = None, ""
    elif version is not None and service.model_mode == "ab_test":
        note = "An A/B test is running: the base model answers some of the photographs."
    return AnsweringModel(advisor=advisor, name=name, version=version, since=since, note=note)


@cache
def _sample_jpeg() -> bytes:
    return jpeg_bytes(rendered_photographs(1, SAMPLE_SEED)[0], quality=92)
