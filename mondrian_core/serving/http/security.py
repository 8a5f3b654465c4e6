"""Access control: the token or a session if a token is set, local host names otherwise; no cross-site requests.

Every response gets the security headers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextvars import ContextVar
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mondrian_core.errors import BadInput
from mondrian_core.serving.http.problem_details import (
    RequestFromElsewhere,
    TooManyFailures,
    Unauthorized,
    response_for_error,
)
from mondrian_core.serving.http.sessions import FailureLimit, Sessions

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",  # with no-referrer, browsers send the forms of a page with `Origin: null`
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}
UNAUTHENTICATED_PATHS = ("/health",)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
WRONG_HEADERS, WRONG_HEADER_SECONDS = 30, 10.0  # a program that polls with an old token stays below this
SAME_SITE_VALUES = ("same-origin", "none")  # `none`: typed address or bookmark
_PORTS = {"http": 80, "https": 443}
in_session: ContextVar[bool] = ContextVar("in_session", default=False)  # whether this request's browser is logged in


class SecurityMiddleware:
    """ASGI middleware: checks the token or session and the origin, adds security headers to every response.

    Args:
        app: the app.
        sessions: the service's token and open sessions; None: no token is set, and only this machine is answered.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions | None = None) -> None:
        self._app, self._sessions = app, sessions
        self._wrong_headers = FailureLimit(WRONG_HEADERS, WRONG_HEADER_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n, v) for n, v in SECURITY_HEADERS.items() if n not in present),
                ]
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else response_for_error(refusal))(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> BadInput | None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:  # a repeated header counts with all values, so it matches nothing
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
        if is_cross_site_request(scope["method"], scope.get("scheme", "http"), headers):
            return RequestFromElsewhere(
                "Requests from another site's page are refused.", "Open the service's own page."
            )
        if self._sessions is None:
            # without a token only local host names are accepted: protects against DNS rebinding
            if is_local_host(_host_of(headers.get("host", "localhost"))):
                return None
            return RequestFromElsewhere("This host name is not local.", "Use http://127.0.0.1 or http://localhost.")
        has_session = self._sessions.is_open(self._sessions.secret_in(headers.get("cookie", "")))
        in_session.set(has_session)
        if scope["path"] in UNAUTHENTICATED_PATHS or is_public_path(scope["path"]):
            return None
        if has_session and (scope["method"] in SAFE_METHODS or is_from_own_page(headers)):
            return None
        return self._header_refusal(self._sessions, address_of(scope), headers.get("authorization", ""))

    def _header_refusal(self, sessions: Sessions, address: str, header: str) -> BadInput | None:
        """Why a request with this Authorization header ("" for none) is refused; None when its token is right."""
        if header and (seconds := self._wrong_headers.seconds_left(address)):
            return TooManyFailures(seconds)
        if header and sessions.is_token(header.removeprefix("Bearer ")):
            return None
        if header:
            self._wrong_headers.record(address)
        return Unauthorized(
            "The token is missing or wrong.",
            "In a browser, log in at /login. A program sends the header `Authorization: Bearer TOKEN`.",
        )


def is_public_path(path: str) -> bool:
    """True for what a browser needs to log in: the form, and the style and scripts of pages."""
    return path in ("/login", "/logout") or path.startswith("/static/")


def is_from_own_page(headers: Mapping[str, str]) -> bool:
    """True when a browser says that a page of this service sent the request, which other sites' pages can't fake.

    Call it for a request that `is_cross_site_request` has let pass: then an origin is this service's own.
    """
    return "origin" in headers or headers.get("sec-fetch-site") == "same-origin"


def address_of(scope: Scope) -> str:
    """The address that a request came from; "" when the server doesn't know it."""
    return str((scope.get("client") or ("",))[0])


def is_cross_site_request(method: str, scheme: str, headers: Mapping[str, str]) -> bool:
    """True for a request that a browser sends for another site's page; programs send none of these headers.

    Another port or scheme of this host is another site too. Following a link to a page is allowed.
    """
    origin = headers.get("origin")
    if origin is not None and (_origin_of(origin) is None or _origin_of(origin) != _own_origin(scheme, headers)):
        return True
    site = headers.get("sec-fetch-site")
    if site is None or site in SAME_SITE_VALUES:
        return False
    follows_a_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (follows_a_link and method in ("GET", "HEAD"))


def _own_origin(scheme: str, headers: Mapping[str, str]) -> tuple[str, str, int] | None:
    return _origin_of(f"{scheme}://{headers.get('host', '')}")


def _origin_of(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin; None when it is invalid or "null"."""
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.scheme and parts.hostname else None


def _host_of(header: str) -> str:
    """The host name in a Host header, without the port; "" when it is invalid."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_local_host(host: str) -> bool:
    """True for loopback names and addresses."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
