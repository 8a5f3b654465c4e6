"""Errors under /v1 in OpenAI's form, whatever part of the service they come from."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPENAI_PREFIX = "/v1/"
_PROBLEM = b"application/problem+json"
_STATUS_OF = {415: 400, 422: 400}  # OpenAI's clients know 400 for a bad request
_INTERNAL = {"status": 500, "title": "Internal error.", "detail": "See the service's log.", "code": "broken"}
_CODES = {401: "invalid_api_key", 404: "not_found", 413: "request_too_large", 503: "overloaded"}


def openai_error(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem (RFC 9457) as OpenAI's error object."""
    status = int(problem.get("status", 500))
    kind = str(problem.get("type", "")).rpartition(":")[2].replace("-", "_")
    code = problem.get("code") or _CODES.get(status) or kind
    return {
        "error": {
            "message": f"{problem.get('title', '')} {problem.get('detail', '')}".strip(),
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": problem.get("param"),
            "code": code or None,
        }
    }


class OpenAIErrors:
    """ASGI middleware: turns problem responses under /v1 into OpenAI's form; put it outside of all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass other paths and other responses on unchanged."""
        if scope["type"] != "http" or not scope["path"].startswith(OPENAI_PREFIX):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""
        started = False

        async def translated(message: Message) -> None:
            nonlocal start, body, started
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"")
                start = message if kind.startswith(_PROBLEM) else None
                started = start is None
            elif start is not None:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    started = True
                    await _send_error(send, start, json.loads(body))
                return
            if started:
                await send(message)

        try:
            await self._app(scope, receive, translated)
        except Exception:
            if not started:
                await _send_error(send, {"type": "http.response.start", "status": 500, "headers": []}, _INTERNAL)
            raise


async def _send_error(send: Send, start: Message, problem: dict[str, Any]) -> None:
    body = json.dumps(openai_error(problem)).encode()
    dropped = (b"content-type", b"content-length")
    headers = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({**start, "status": _STATUS_OF.get(start["status"], start["status"]), "headers": headers})
    await send({"type": "http.response.body", "body": body})
