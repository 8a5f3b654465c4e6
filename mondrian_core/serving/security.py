"""Who may speak to the service: this machine's own pages and programs, or whoever brings the token."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mondrian_core.errors import BadInput
from mondrian_core.serving.problems import Unauthorized, answer_to

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
OPEN_PATHS = ("/health",)


class Guard:
    """ASGI middleware: the token where there is one, nothing from other sites' pages, headers that bind browsers."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in HEADERS.items() if n not in present)]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], scope["path"], headers)
        await (self._app if refusal is None else answer_to(refusal))(scope, receive, bound)

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> BadInput | None:
        origin = headers.get("origin")
        if origin is not None and method not in ("GET", "HEAD") and _place_of(origin) != headers.get("host"):
            return Unauthorized("Another site's page may not send photographs here.", "Open the service's own page.")
        if self._token is None:
            # without a token only names of this machine are answered, so that no foreign name can be pointed here
            if is_local(_host_of(headers.get("host", "localhost"))):
                return None
            return Unauthorized("This host name is not the service's.", "Use http://127.0.0.1 or http://localhost.")
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if path in OPEN_PATHS or hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return Unauthorized("The token is missing or wrong.", "Send the header `Authorization: Bearer TOKEN`.")


def _place_of(origin: str) -> str | None:
    """Host and port of an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_of(header: str) -> str:
    """The name in a Host header, without port; empty where there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_local(host: str) -> bool:
    """True for names and addresses that only this machine reaches."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
