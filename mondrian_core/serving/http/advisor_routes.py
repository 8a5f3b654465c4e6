"""Advisors: list, add and edit, as a page with forms and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData

from mondrian_core import advisors
from mondrian_core.advisors import MAX_BIO_LENGTH, MAX_NAME_LENGTH, MAX_PROMPT_LENGTH, AdvisorChanges
from mondrian_core.errors import BadInput
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.problem_details import http_status
from mondrian_core.serving.http.responses import wants_html

if TYPE_CHECKING:
    from mondrian_core.next_steps import AdvisorCounts
    from mondrian_core.prompts import AdvisorPrompt
    from mondrian_core.serving.http.service import Service

PAGE = "/advisors"
_FIELDS = ("name", "id", "bio", "prompt", "next")  # next: the form of the guided start
_LIMITS = {"name": MAX_NAME_LENGTH, "bio": MAX_BIO_LENGTH, "prompt": MAX_PROMPT_LENGTH}
_AdvisorPath = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,64}$")]
_PAGE_RESPONSE = {"description": "As a page if HTML is preferred", "content": {"text/html": {}}}


class NewAdvisor(BaseModel):
    """An advisor to add; without `id`, it is derived from the name."""

    model_config = ConfigDict(extra="forbid")

    name: str
    id: str | None = Field(default=None, pattern=r"^[a-z0-9_-]{1,64}$")
    bio: str = ""
    prompt: str = Field(default="", description="the system message; empty: made from name and biography")


class AdvisorUpdate(BaseModel):
    """New values of an advisor; those left out stay."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    bio: str | None = None
    prompt: str | None = None


class AdvisorForm(BaseModel):
    """The form of an advisor's page; a field that is left out is emptied."""

    name: str
    bio: str = ""
    prompt: str = ""


def add_advisor_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get(PAGE, responses={200: _PAGE_RESPONSE})
    def list_advisors(request: Request) -> Response:
        """The advisors, and the adapter version that answers for each."""
        if wants_html(request):
            return HTMLResponse(_list_page(service, {}))
        serving = service.adapters.active_versions
        return JSONResponse(
            [
                {
                    "id": each.advisor,
                    "name": each.name,
                    "bio": each.bio,
                    "adapter_version": serving.get(each.advisor) or serving.get("*"),
                }
                for each in service.store.advisors()
            ]
        )

    @app.post(PAGE, status_code=201, responses={422: PROBLEM_RESPONSE}, openapi_extra=_body_of(NewAdvisor))
    async def add(request: Request) -> Response:
        """Add an advisor, from JSON or from the page's form."""
        if not _is_form(request):
            given = await _read_json(request, NewAdvisor)
            identity = await run_in_threadpool(_add, service, given)
            shown = await run_in_threadpool(_advisor_json, service, identity)
            return JSONResponse(shown, 201, headers={"Location": f"{PAGE}/{identity}"})
        texts = _texts(await request.form(max_files=0, max_fields=8))
        try:
            made = NewAdvisor(
                **{name: texts[name] for name in ("name", "bio", "prompt")}, id=advisors.given_id(texts["id"])
            )
            identity = await run_in_threadpool(_add, service, made)
        except BadInput as error:
            page = await run_in_threadpool(_list_page, service, texts, error)
            return HTMLResponse(page, http_status(error))
        return RedirectResponse(f"/start?advisor={identity}" if texts["next"] else f"{PAGE}/{identity}", 303)

    @app.get(f"{PAGE}/{{advisor}}", responses={200: _PAGE_RESPONSE, 422: PROBLEM_RESPONSE})
    def show(request: Request, advisor: _AdvisorPath) -> Response:
        """An advisor, with what the workspace holds of it."""
        if wants_html(request):
            return HTMLResponse(_advisor_page(service, advisor))
        return JSONResponse(_advisor_json(service, advisor))

    @app.patch(f"{PAGE}/{{advisor}}", responses={422: PROBLEM_RESPONSE})
    def edit(advisor: _AdvisorPath, update: AdvisorUpdate) -> Response:
        """Change an advisor; the next critique uses the new values."""
        changes = AdvisorChanges(update.name, update.bio, update.prompt)
        _, prompt_changed = advisors.edit_advisor(service.store, advisor, changes)
        return JSONResponse({**_advisor_json(service, advisor), "prompt_changed": prompt_changed})

    @app.post(
        f"{PAGE}/{{advisor}}",
        response_class=HTMLResponse,
        responses={422: PROBLEM_RESPONSE},
        openapi_extra=_body_of(AdvisorForm, "application/x-www-form-urlencoded"),
    )
    async def edit_by_form(request: Request, advisor: _AdvisorPath) -> Response:
        """Change an advisor with the page's form. The answer is the page, with what was saved or why not."""
        texts = _texts(await request.form(max_files=0, max_fields=8))
        return await run_in_threadpool(_edit_by_form, service, advisor, texts)


def _add(service: Service, given: NewAdvisor) -> str:
    return advisors.add_advisor(service.store, given.name, advisor_id=given.id, bio=given.bio, prompt=given.prompt)


def _edit_by_form(service: Service, advisor: str, texts: Mapping[str, str]) -> Response:
    changes = AdvisorChanges(texts["name"], texts["bio"], texts["prompt"])
    try:
        _, prompt_changed = advisors.edit_advisor(service.store, advisor, changes)
    except BadInput as error:
        return HTMLResponse(_advisor_page(service, advisor, texts, error), http_status(error))
    note = advisors.changed_prompt_note(_counts(service, [advisor])[0]) if prompt_changed else ""
    return HTMLResponse(_advisor_page(service, advisor, saved=True, note=note))


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind in ("application/x-www-form-urlencoded", "multipart/form-data")


async def _read_json(request: Request, kind: type[NewAdvisor]) -> NewAdvisor:
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors())
        raise BadInput(
            f"The advisor can't be read: {problems}.", 'Send JSON such as {"name": "Ansel Adams"}.'
        ) from error


def _body_of(kind: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media_type: {"schema": kind.model_json_schema()}}}}


def _texts(form: FormData) -> dict[str, str]:
    """The text fields of the form; "" for one that is missing."""
    return {name: value if isinstance(value := form.get(name, ""), str) else "" for name in _FIELDS}


def _counts(service: Service, names: list[str]) -> list[AdvisorCounts]:
    tally = advisors.workspace_tally(service.store)
    return [advisors.counts_of_advisor(tally, service.adapters.registry_of(name), name) for name in names]


def _advisor_json(service: Service, advisor: str) -> dict[str, Any]:
    shown = service.store.advisor(advisor)
    counts = _counts(service, [advisor])[0]
    return {
        "id": shown.advisor,
        "name": shown.name,
        "bio": shown.bio,
        "prompt": shown.prompt,
        "system_message": shown.system_message,
        **{name: value for name, value in asdict(counts).items() if name != "advisor"},
    }


def _list_page(service: Service, given: Mapping[str, str], error: BadInput | None = None) -> str:
    found = service.store.advisors()
    counted = _counts(service, [each.advisor for each in found])
    return render_template(
        "advisors.html",
        current_page=PAGE,
        recording=service.recording.look(),
        rows=list(zip(found, counted, strict=True)),
        given={name: given.get(name, "") for name in _FIELDS},
        error=error,
        limits=_LIMITS,
    )


def _advisor_page(
    service: Service,
    advisor: str,
    given: Mapping[str, str] | None = None,
    error: BadInput | None = None,
    *,
    saved: bool = False,
    note: str = "",
) -> str:
    shown: AdvisorPrompt = service.store.advisor(advisor)
    stored = {"name": shown.name, "bio": shown.bio, "prompt": shown.prompt or ""}
    return render_template(
        "advisor.html",
        current_page=PAGE,
        advisor=shown,
        counts=_counts(service, [advisor])[0],
        given={**stored, **(given or {})},
        error=error,
        saved=saved,
        note=note,
        limits=_LIMITS,
    )
