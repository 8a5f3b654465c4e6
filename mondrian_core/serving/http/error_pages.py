"""Problems as pages for browsers: the one place that turns a problem+json response into HTML.

Routes, handlers and other middleware answer with problem details only. So no route can forget its page, and a program
never gets one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mondrian_core.serving.http.openai_errors import OPENAI_PREFIX
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.problem_details import PROBLEM_MEDIA_TYPE, problem_response
from mondrian_core.serving.http.responses import prefers_html

_HEADINGS = {
    400: "The request can't be read",
    401: "Log in first",
    404: "Nothing is here",
    405: "This address is not a page",
    413: "The photograph is too large",
    415: "This is not a photograph that can be read",
    422: "The request can't be used",
    429: "Too many attempts",
    500: "Something broke",
    503: "The service is busy or not ready",
    507: "The disk is full",
}

ANY_PROBLEM = (400, 401, 404, 406, 413, 422, 429, 503)  # what a route may answer with, whatever it does
_HEADINGS_BY_KIND = {"request-from-elsewhere": "This request comes from elsewhere"}


@dataclass(frozen=True)
class PageLink:
    """A link of a page: its address and its text."""

    address: str
    text: str


class ErrorPages:
    """ASGI middleware: sends a problem as a page when the request prefers HTML; status and headers stay the same."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; hold a problem back until its body is complete."""
        if scope["type"] != "http" or not is_page_wanted(scope):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def send_page(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    page = error_page(scope, json.loads(body)).encode("utf-8")
                    await send({**start, "headers": _page_headers(start, len(page))})
                    await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, send_page)


class UnexpectedErrors:
    """ASGI middleware: an exception that no handler knows becomes a problem, as any other error does.

    The exception goes on to the server, which logs it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if scope["type"] == "http" and not started:
                broken = problem_response(500, "broken", "Internal error.", "See the service's log.")
                await broken(scope, receive, send)
            raise


def document_problems(app: FastAPI) -> None:
    """Let the OpenAPI document say of every operation which problems any route may answer with, and in which forms."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for path, ways in document["paths"].items():
                kinds = ["application/json"] if path.startswith(OPENAI_PREFIX) else [PROBLEM_MEDIA_TYPE, "text/html"]
                for operation in ways.values():
                    _document_problems_of(operation["responses"], kinds)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation says


def _document_problems_of(responses: dict[str, Any], kinds: list[str]) -> None:
    for status in ANY_PROBLEM:
        responses.setdefault(str(status), {"description": "A problem (RFC 9457), as a page if HTML is preferred"})
    for code, response in responses.items():
        content = response.setdefault("content", {}) if code >= "400" else {}
        if code >= "400" and "application/json" not in content:  # otherwise the route says what it answers
            for kind in kinds:
                content.setdefault(kind, {})


def is_page_wanted(scope: Scope) -> bool:
    """True when a request prefers HTML to JSON; never raises, whatever its headers and query contain."""
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=None)
    return prefers_html(accept, query.get("format", [""])[-1]) is True


def error_page(scope: Scope, problem: dict[str, Any]) -> str:
    """The page of a problem: what went wrong, and what to do next."""
    status = int(problem.get("status", 500))
    detail = str(problem.get("detail") or "")
    kind = str(problem.get("type") or "").rpartition(":")[2]
    return render_template(
        "error.html",
        status=status,
        heading=_HEADINGS_BY_KIND.get(kind) or _HEADINGS.get(status, "The request was refused"),
        problem=str(problem.get("title") or ""),
        detail=detail,
        links=_next_links(scope, status, kind),
    )


def _next_links(scope: Scope, status: int, kind: str) -> list[PageLink]:
    """What a person can do next, the best one first."""
    path = quote(scope["path"], safe="/")
    front, again = PageLink("/", "Go to the front page"), PageLink(path, "Try again")
    if kind == "unauthorized":
        return [PageLink(f"/login?next={quote(path, safe='')}", "Log in")]
    if status in (429, 503) and scope["method"] == "GET":
        return [again, front]
    if status == 404:
        return [front, PageLink("/critiques", "Find a critique")]
    return [front]


def _is_problem(message: Message) -> bool:
    kind = dict(message["headers"]).get(b"content-type", b"")
    return bool(re.match(re.escape(PROBLEM_MEDIA_TYPE.encode()) + rb"\b", kind))


def _page_headers(start: Message, length: int) -> list[tuple[bytes, bytes]]:
    replaced = (b"content-type", b"content-length")
    kept = [(name, value) for name, value in start["headers"] if name.lower() not in replaced]
    length_header = (b"content-length", str(length).encode())
    return [*kept, (b"content-type", b"text/html; charset=utf-8"), length_header, (b"vary", b"accept")]
