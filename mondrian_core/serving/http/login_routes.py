"""Log in and out with a browser, which can't send the token's header by itself."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mondrian_core.errors import BadInput
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.problem_details import TooManyFailures, UploadTooLarge
from mondrian_core.serving.http.security import address_of
from mondrian_core.serving.http.sessions import SESSION_SECONDS, FailureLimit, Sessions

MAX_FORM_BYTES = 8192
WRONG_TOKENS, WRONG_TOKEN_SECONDS = 5, 60.0
_FORM = {
    "required": True,
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "required": ["token"],
                "properties": {
                    "token": {"type": "string"},
                    "next": {"type": "string", "description": "a path of this service to go to"},
                },
            }
        }
    },
}
_SEE_OTHER: dict[int | str, dict[str, Any]] = {303: {"description": "Go on to the page in `Location`"}}
_WRONG = {"description": "The form again: the token is wrong", "content": {"text/html": {}}}


def add_login_routes(app: FastAPI, sessions: Sessions | None) -> None:
    """Add the routes; `sessions` None: the service has no token, so there is nothing to log in to."""
    failures = FailureLimit(WRONG_TOKENS, WRONG_TOKEN_SECONDS)

    @app.get("/login", response_class=HTMLResponse, responses=_SEE_OTHER)
    def login_form(goal: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
        """The page to log in. Without a token: the page that was wanted."""
        if sessions is None:
            return RedirectResponse(own_path(goal), 303)
        return HTMLResponse(_login_page(own_path(goal), ""))

    @app.post(
        "/login",
        openapi_extra={"requestBody": _FORM},
        response_class=HTMLResponse,
        responses={**_SEE_OTHER, 401: _WRONG, 413: PROBLEM_RESPONSE, 429: PROBLEM_RESPONSE},
    )
    async def login(request: Request) -> Response:
        """Log in: sets a cookie that only the browser sees, and goes on to `next`."""
        form = await _short_form(request)
        goal = own_path(form.get("next", "/"))
        if sessions is None:
            return RedirectResponse(goal, 303)
        address = address_of(request.scope)
        if seconds := failures.seconds_left(address):
            raise TooManyFailures(seconds)
        if not sessions.is_token(form.get("token", "").strip()):
            failures.record(address)
            return HTMLResponse(_login_page(goal, "This is not the token."), 401)
        sessions.close(sessions.secret_in(request.headers.get("cookie", "")))
        response = RedirectResponse(goal, 303)
        response.set_cookie(
            sessions.cookie_name,
            sessions.open(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @app.post("/logout", status_code=303, response_class=RedirectResponse)
    def logout(request: Request) -> Response:
        """Log out. The session ends, also for copies of its cookie."""
        response = RedirectResponse("/login", 303)
        if sessions is not None:
            sessions.close(sessions.secret_in(request.headers.get("cookie", "")))
            response.delete_cookie(sessions.cookie_name, httponly=True, samesite="strict")
        return response


def own_path(text: str) -> str:
    """The text if it is a path of this service that a browser can't read as another host; else "/"."""
    odd = "\\" in text or any(ord(letter) <= 32 or ord(letter) == 127 for letter in text)
    if odd or not text.startswith("/") or text.startswith("//"):
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc or parts.path in ("/login", "/logout") else text


def _login_page(goal: str, problem: str) -> str:
    return render_template("login.html", goal=goal, problem=problem)


async def _short_form(request: Request) -> dict[str, str]:
    """The fields of a form of at most `MAX_FORM_BYTES` bytes; the last value of each counts.

    Raises:
        UploadTooLarge: it is longer.
        BadInput: it is not an URL-encoded form.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise UploadTooLarge(MAX_FORM_BYTES)
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise BadInput("The form can't be read.", "Open /login in a browser and use its form.") from None
    return {name: values[-1] for name, values in fields.items()}
