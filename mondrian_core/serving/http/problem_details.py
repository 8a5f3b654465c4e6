"""Errors as application/problem+json (RFC 9457), with stable types and never a traceback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from mondrian_core.errors import (
    BadInput,
    BadPhotograph,
    DatabaseBusy,
    DatabaseReplaced,
    DiskFull,
    ModelProcessDied,
    MondrianError,
    NegativeOutcome,
    NoDatabase,
    RegistryBusy,
    UnknownAdvisor,
    UnknownVersion,
)
from mondrian_core.runs import UnknownRun
from mondrian_core.serving.jobs.worker import QueueFull

PROBLEM_MEDIA_TYPE = "application/problem+json"
_PHOTOGRAPH_STATUS = {"too_large": 413, "not_a_photograph": 415, "raw": 415, "missing": 404}

_VALUES_STEP = "Correct it or leave it out; /docs lists what each address takes."

# What the framework answers by itself, by status: kind, title, detail.
_FRAMEWORK_PROBLEMS = {
    404: ("not-found", "There is nothing at this address.", "Check the address; /docs lists all of them."),
    405: ("method-not-allowed", "This address does not take such a request.", "It takes {allowed}; see /docs."),
}


class UploadTooLarge(BadInput):
    """The upload exceeds the size limit."""

    def __init__(self, most: int) -> None:
        super().__init__(f"The request exceeds the limit of {most:,} bytes.", "Send a smaller copy of the photograph.")


class UnknownJob(BadInput):
    """There is no job with this ID."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id[:80]}.", "Check the ID.")


class UnknownReport(BadInput):
    """There is no such report."""


class ChangeRefused(BadInput):
    """This request may not change the champion."""


class KeyReused(BadInput):
    """An idempotency key was used again with a different request."""


class InvalidParameter(BadInput):
    """A field of a request in another service's form is wrong, or can't be honoured.

    Attributes:
        param: the field; None: the whole request.
        code: for programs.
        status: of HTTP.
    """

    def __init__(
        self, problem: str, next_step: str = "", *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        self.param, self.code, self.status = param, code or "invalid_value", status
        super().__init__(problem, next_step)


class Unauthorized(BadInput):
    """The token is missing or wrong."""


class RequestFromElsewhere(Unauthorized):
    """The request comes from another site's page, or asks for a host name that is not this machine's."""


class TooManyFailures(BadInput):
    """Too many wrong tokens came from one address; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many wrong tokens came from this address.", f"Try again in {retry_after} s.")
        self.retry_after = retry_after


class NotAcceptable(BadInput):
    """The request accepts neither JSON nor HTML."""


def http_status(error: MondrianError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, BadPhotograph):
        return _PHOTOGRAPH_STATUS.get(str(error.reason), 422)
    if isinstance(error, InvalidParameter):
        return error.status
    special = {
        UploadTooLarge: 413,
        UnknownJob: 404,
        UnknownAdvisor: 422,
        KeyReused: 422,
        UnknownVersion: 404,
        UnknownRun: 404,
        UnknownReport: 404,
        ChangeRefused: 403,
        Unauthorized: 401,
        TooManyFailures: 429,
        NotAcceptable: 406,
        QueueFull: 503,
        DatabaseBusy: 503,
        DatabaseReplaced: 503,
        NoDatabase: 503,
        ModelProcessDied: 503,
        RegistryBusy: 503,
        DiskFull: 507,
        NegativeOutcome: 409,
    }
    for kind, status in special.items():
        if isinstance(error, kind):
            return status
    return 422 if isinstance(error, BadInput) else 500


def problem_response(status: int, kind: str, title: str, detail: str = "", **more: Any) -> Response:
    """A problem response.

    Args:
        status: of HTTP.
        kind: stable name of the problem's type.
        title: what went wrong.
        detail: what to do next.
        more: further members of the JSON object.
    """
    body = {
        "type": f"urn:mondrian:problem:{kind}",
        "title": _sendable(title),
        "status": status,
        "detail": _sendable(detail),
        **more,
    }
    return JSONResponse(body, status, media_type=PROBLEM_MEDIA_TYPE)


def _sendable(text: str) -> str:
    """The text with lone surrogates replaced: JSON may contain them, but UTF-8 can't encode them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def problem_type(error: BaseException) -> str:
    """BadPhotograph -> bad-photograph."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()


def response_for_error(error: MondrianError) -> Response:
    """A `MondrianError` as a response."""
    more: dict[str, Any] = {"reason": str(error.reason)} if isinstance(error, BadPhotograph) else {}
    if isinstance(error, InvalidParameter):
        more = {"param": error.param, "code": error.code}
    response = problem_response(http_status(error), problem_type(error), error.problem, error.next_step, **more)
    if isinstance(error, QueueFull | TooManyFailures):
        response.headers["Retry-After"] = str(error.retry_after)
    elif response.status_code == 503:
        response.headers["Retry-After"] = "5"
    elif isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def add_problem_handlers(app: FastAPI) -> None:
    """Turn every error of the app into a problem response."""

    async def known_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, MondrianError)
        return response_for_error(error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind, title, detail = _FRAMEWORK_PROBLEMS.get(error.status_code, ("refused", str(error.detail), ""))
        allowed = (error.headers or {}).get("Allow", "")
        response = problem_response(error.status_code, kind, title, detail.format(allowed=allowed))
        response.headers.update(error.headers or {})
        return response

    async def invalid_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = "; ".join(_validation_problem(item) for item in error.errors())
        return problem_response(422, "invalid-request", "The request is invalid.", f"{problems}. {_VALUES_STEP}")

    async def unexpected_error(request: Request, error: Exception) -> Response:
        return problem_response(500, "broken", "Internal error.", "See the service's log.")

    app.add_exception_handler(MondrianError, known_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(Exception, unexpected_error)


def _validation_problem(item: Mapping[str, Any]) -> str:
    """A problem that pydantic found, such as "lowest: must be a valid number, not 'high'"."""
    name = ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0])  # the first says query, body or path
    message = item["msg"].split(", unable to parse")[0].replace("Input should", "must")
    given = item.get("input")
    shown = f", not {given[:60]!r}" if isinstance(given, str) and given else ""
    return f"{name}: {message[:1].lower()}{message[1:]}{shown}"
