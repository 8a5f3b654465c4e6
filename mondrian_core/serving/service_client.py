"""Asks a running service for critiques over HTTP, and waits while it is busy or restarts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mondrian_core.critique_parsing import parse_critique_lenient
from mondrian_core.errors import BadInput
from mondrian_core.exif import camera_facts, time_taken
from mondrian_core.serving.batch_analyze import AnalysisResult, BatchRequest, with_sidecar

MAX_PAUSE_SECONDS = 30.0
_TIMEOUT = httpx.Timeout(330.0, connect=10.0)  # a request waits up to 300 s for its critique
_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class ServiceClient:
    """A service and how to ask it.

    Attributes:
        address: such as http://127.0.0.1:5100.
        token: MONDRIAN_SERVICE_TOKEN; None for a service without one.
        pause: called with seconds before a request is repeated.
        notice: receives a sentence when the service keeps a photograph waiting.
    """

    address: str
    token: str | None = None
    pause: Callable[[float], object] = time.sleep
    notice: Callable[[str], object] = lambda sentence: None

    def check(self) -> None:
        """Make sure that there is a service of Mondrian at the address.

        Raises:
            BadInput: there is none.
        """
        try:
            answer = httpx.get(f"{self.address}/health", timeout=10.0)
            known = "workspace" in answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            known = False
        if not known:
            raise BadInput(
                f"No service of Mondrian answers at {self.address}.",
                "Start it with `mondrian serve`, or leave --service out to critique in this process.",
            )

    def analyze(self, path: Path, request: BatchRequest) -> Iterator[AnalysisResult]:
        """Upload a photograph in every mode of the request; a refused photograph gives a result with its error.

        Raises:
            BadInput: the service refuses this client, for instance for its token.
        """
        for mode in request.modes:
            yield with_sidecar(self._analyze_one(path, request.advisor, mode), request.sidecars)

    def _analyze_one(self, path: Path, advisor: str, mode: str) -> AnalysisResult:
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = f"{path} can't be read: {error.strerror}."
            return AnalysisResult(path=path, advisor=advisor, requested_mode=mode, error=reason)
        answer = self._send(
            "POST",
            "/analyze",
            files={"image": (path.name.encode(errors="replace").decode(), data)},
            data={"advisor": advisor, "mode": mode},
            headers={"Prefer": "wait=300"},
        )
        body = _json_object(answer)
        while answer.status_code in (200, 202) and body.get("status") in ("queued", "running"):
            self.pause(2.0)
            answer = self._send("GET", f"/jobs/{body.get('job_id')}")
            body = _json_object(answer)
        if answer.status_code in (401, 403):
            raise BadInput(str(body.get("title")), "Set MONDRIAN_SERVICE_TOKEN to the service's token.")
        return _result(path, advisor, mode, body)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request until the service takes it; each pause is twice as long as the last, or as long as it says."""
        headers = {**more.pop("headers", {}), **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        pause = 1.0
        while True:
            try:
                answer = httpx.request(method, f"{self.address}{path}", headers=headers, timeout=_TIMEOUT, **more)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code not in _BUSY:
                return answer
            asked = answer.headers.get("retry-after", "") if answer is not None else ""
            wait = min(MAX_PAUSE_SECONDS, float(asked) if asked.isdecimal() else pause)
            self.notice(f"The service {'is busy' if answer is not None else 'does not answer'}; again in {wait:.0f} s.")
            self.pause(wait)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)


def _json_object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"title": f"The service answered with status {answer.status_code}."}


def _result(path: Path, advisor: str, mode: str, body: dict[str, Any]) -> AnalysisResult:
    """The result in a job's JSON, or in a problem that may contain a job."""
    inner = body.get("job")
    job = inner if isinstance(inner, dict) else body
    critique = parse_critique_lenient(json.dumps(body["critique"])).critique if body.get("critique") else None
    problem = " ".join(str(body[name]) for name in ("title", "detail") if body.get(name))
    error = None if critique is not None else job.get("error") or problem or f"The job is {job.get('status')}."
    return AnalysisResult(
        path=path,
        advisor=advisor,
        requested_mode=mode,
        critique=critique,
        error=error,
        job=job.get("job_id"),
        mode=job.get("mode"),
        model_used=job.get("model_used"),
        adapter_version=job.get("adapter_version"),
        camera=camera_facts(path),
        taken_at=time_taken(path),
        details={"seconds": job.get("seconds")} if job.get("seconds") is not None else {},
    )
