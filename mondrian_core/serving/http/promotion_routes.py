"""Routes that change the champion: promote a version, roll back. Both need a reason, and both are pages with a form.

The decision is that of the command line (`mondrian_core.promotion`). A form carries the champion and the warnings that
its page showed; when either has changed by then, nothing happens and the page is shown again.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mondrian_core.errors import BadInput, ChampionChanged, MondrianError
from mondrian_core.promotion import inspect_version_in_subprocess, promote_manually
from mondrian_core.registry import AdapterVersion, ChampionReference, Registry
from mondrian_core.serving.http import promotion_review
from mondrian_core.serving.http.problem_details import ChangeRefused, http_status
from mondrian_core.serving.http.promotion_review import PromotionReview
from mondrian_core.serving.http.registry_routes import AdvisorName, VersionParameter, registry_page
from mondrian_core.serving.http.security import is_local_host
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import validate_advisor_id

MAX_REASON, MAX_NAME, MAX_FORM_BYTES = 500, 60, 20_000
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")  # a proxy makes every client look local
_FORM = {
    "required": True,
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "required": ["champion", "shown"],
                "properties": {
                    "champion": {"type": "string", "description": "the champion that the page showed; empty: none"},
                    "champion_manifest": {"type": "string", "description": "SHA-256 of its manifest"},
                    "shown": {"type": "string", "description": "digest of the warnings that the page showed"},
                    "reason": {"type": "string", "maxLength": MAX_REASON},
                    "confirmation": {"type": "string", "description": "the version, typed"},
                    "force": {"type": "string", "enum": ["yes"]},
                    "person": {"type": "string", "maxLength": MAX_NAME},
                },
            }
        }
    },
}
_PAGE: dict[int | str, dict[str, Any]] = {
    303: {"description": "Done; `Location` shows it"},
    **{
        code: {"description": text, "content": {"text/html": {}}}
        for code, text in ((403, "Refused"), (409, "Not done"), (422, "Incomplete"))
    },
}


@dataclass(frozen=True, kw_only=True)
class ChampionForm:
    """What a person sent. `champion` and `shown` are what their page showed."""

    champion: ChampionReference
    shown: str
    reason: str
    confirmation: str
    force: bool
    person: str

    @property
    def actor(self) -> str:
        """For the registry's history."""
        return f"person:{self.person or 'page'}"


def add_promotion_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    registry = Registry(service.settings.adapters_root)

    @app.get("/registry/{advisor}/{version}/promote", response_class=HTMLResponse)
    def review(request: Request, advisor: AdvisorName, version: VersionParameter) -> Response:
        """The page to promote a version: verdict, what was compared, what speaks against it, and the form."""
        found = promotion_review.review_promotion(service.settings, registry, validate_advisor_id(advisor), version)
        return _promotion_page(found, change_refusal(request, service), None)

    @app.post(
        "/registry/{advisor}/{version}/promote", openapi_extra={"requestBody": _FORM}, status_code=303, responses=_PAGE
    )
    async def promote(request: Request, advisor: AdvisorName, version: VersionParameter) -> Response:
        """Promote a version. It is refused unless champion and warnings still are those that the page showed."""
        require_change_allowed(request, service)
        form = await _read_form(request)
        answer = await run_in_threadpool(_promote, service, registry, validate_advisor_id(advisor), version, form)
        service.event_relay.advisor_changed(advisor)
        return answer

    @app.get("/registry/{advisor}/rollback", response_class=HTMLResponse)
    def rollback_review(request: Request, advisor: AdvisorName) -> Response:
        """The page to return to the previous champion: which version that is, and the form."""
        found = promotion_review.review_rollback(registry, validate_advisor_id(advisor))
        return _rollback_page(advisor, found, change_refusal(request, service), None)

    @app.post("/registry/{advisor}/rollback", openapi_extra={"requestBody": _FORM}, status_code=303, responses=_PAGE)
    async def rollback(request: Request, advisor: AdvisorName) -> Response:
        """Return to the previous champion. It is refused unless the champion still is the one that the page showed."""
        require_change_allowed(request, service)
        form = await _read_form(request)
        answer = await run_in_threadpool(_roll_back, registry, validate_advisor_id(advisor), form)
        service.event_relay.advisor_changed(advisor)
        return answer


# --- who may ----------------------------------------------------------------------------------------------------------


def change_refusal(request: Request, service: Service) -> str | None:
    """Why this client may not change the champion; None when it may.

    With a token the middleware has checked it. Without one only programs of this machine connect directly, and a proxy
    would make every client look like one, so a forwarded request is refused.
    """
    if service.token is not None:
        return None
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = is_local_host(host)
    if not local:
        return "This page was opened from another machine or from a container, and the service has no token."
    if any(name in request.headers for name in FORWARDING_HEADERS):
        return "This request came through a proxy, and the service has no token."
    return None


def require_change_allowed(request: Request, service: Service) -> None:
    """Refuse a request that may not change the champion.

    Raises:
        ChangeRefused: the client may not, or the form is not one of this service's pages.
    """
    next_step = "Start the service with MONDRIAN_SERVICE_TOKEN, or use `mondrian adapters promote` on its machine."
    if (refusal := change_refusal(request, service)) is not None:
        raise ChangeRefused(refusal, next_step)
    # the middleware has compared the origin with this host; a browser always sends it with a form
    if "origin" not in request.headers and "authorization" not in request.headers:
        raise ChangeRefused("The champion is changed by the form of the service's own page.", next_step)


async def _read_form(request: Request) -> ChampionForm:
    size = request.headers.get("content-length", "")
    if not size.isdecimal() or int(size) > MAX_FORM_BYTES:
        raise BadInput(f"The form has no length, or more than {MAX_FORM_BYTES:,} bytes.", "Shorten the reason.")
    form = await request.form(max_files=0, max_fields=20)

    def text(name: str) -> str:
        value = form.get(name)
        return value.strip() if isinstance(value, str) else ""

    if len(text("reason")) > MAX_REASON or len(text("person")) > MAX_NAME:
        raise BadInput(
            f"The reason is longer than {MAX_REASON} characters, or the name than {MAX_NAME}.", "Shorten it."
        )
    return ChampionForm(
        champion=ChampionReference(text("champion") or None, text("champion_manifest")),
        shown=text("shown"),
        reason=" ".join(text("reason").split()),
        confirmation=text("confirmation"),
        force=text("force") == "yes",
        person=" ".join("".join(each if each.isprintable() else " " for each in text("person")).split()),
    )


# --- what happens -----------------------------------------------------------------------------------------------------


def _promote(service: Service, registry: Registry, advisor: str, version: str, form: ChampionForm) -> Response:
    review = promotion_review.review_promotion(service.settings, registry, advisor, version)
    try:
        _require_as_shown(review, form)
        _require_complete(review, form)
        request = replace(review.request, expected=form.champion, reason=form.reason, force=form.force)
        promote_manually(request, actor=form.actor, inspect=lambda found: _base_problems(service, found))
    except MondrianError as error:
        again = promotion_review.review_promotion(service.settings, registry, advisor, version)
        return _promotion_page(again, None, error, form)
    return RedirectResponse(f"/registry/{advisor}?changed=promote", 303)


def _base_problems(service: Service, version: AdapterVersion) -> tuple[str, ...]:
    return tuple(inspect_version_in_subprocess(version, service.settings.base)["problems"])


def _require_as_shown(review: PromotionReview, form: ChampionForm) -> None:
    """Refuse when the champion or what speaks against the promotion is not what the page showed."""
    if not review.champion.matches(form.champion):
        raise ChampionChanged(review.advisor, form.champion.version, review.champion.version)
    if review.blocked is not None:
        raise review.blocked
    if form.shown != review.digest:
        raise BadInput(
            "What speaks against this promotion has changed since the page was opened. Nothing was changed.",
            "Read the page again and decide again.",
        )


def _require_complete(review: PromotionReview, form: ChampionForm) -> None:
    if review.refusal is not None and not form.force:
        raise review.refusal
    if review.needs_reason and not form.reason:
        raise BadInput("This promotion needs a reason.", "Write it down; it is recorded in the history.")
    if review.needs_reason and form.confirmation != review.version:
        raise BadInput(f"The confirmation doesn't say {review.version}.", f"Type {review.version} to confirm.")


def _roll_back(registry: Registry, advisor: str, form: ChampionForm) -> Response:
    try:
        review = promotion_review.review_rollback(registry, advisor)
        if not review.champion.matches(form.champion) or form.champion.version is None:
            raise ChampionChanged(advisor, form.champion.version, review.champion.version)
        if not form.reason:
            raise BadInput("A rollback needs a reason.", "Write it down; it is recorded in the history.")
        registry.rollback(advisor, actor=form.actor, reason=form.reason, expected=form.champion.version)
    except MondrianError as error:
        return _rollback_page(advisor, promotion_review.review_rollback(registry, advisor), None, error, form)
    return RedirectResponse(f"/registry/{advisor}?changed=rollback", 303)


def _promotion_page(
    review: PromotionReview, refused: str | None, error: MondrianError | None, form: ChampionForm | None = None
) -> Response:
    status = http_status(error) if error else 200
    return registry_page(
        "registry_promote.html", status, review=review, refused=refused, error=error, form=form, most_reason=MAX_REASON
    )


def _rollback_page(
    advisor: str,
    review: promotion_review.RollbackReview,
    refused: str | None,
    error: MondrianError | None,
    form: ChampionForm | None = None,
) -> Response:
    status = http_status(error) if error else 200
    values = {"advisor": advisor, "review": review, "refused": refused, "error": error, "form": form}
    return registry_page("registry_rollback.html", status, most_reason=MAX_REASON, **values)
