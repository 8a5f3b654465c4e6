"""Evaluation reports as responses: stand-alone pages with their own style, which may do nothing but be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import Response

from mondrian_core.files import file_sha256
from mondrian_core.serving.http.problem_details import UnknownReport

# `sandbox`: an origin of its own, no scripts, no forms, so a report that somebody edited can't act as a person.
REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
REPORT_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"description": "The report, a stand-alone HTML page"}}


def report_response(path: Path | None, what: str, sha256: str | None = None) -> Response:
    """An HTML report as it is stored.

    Args:
        path: a regular file; None: there is none.
        what: what the report is about, for the message.
        sha256: the content must have it; None: nothing is known about the content.

    Raises:
        UnknownReport: there is no report, or its content is another one.
    """
    evaluate = "`mondrian evaluate` makes a new one."
    if path is None:
        raise UnknownReport(f"{what} has no report.", evaluate)
    if sha256 is not None and file_sha256(path) != sha256:
        raise UnknownReport(f"The report of {what} was changed after it was registered.", evaluate)
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers=headers)
