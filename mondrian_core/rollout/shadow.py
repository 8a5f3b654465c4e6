"""The shadow: both versions answer the same photographs while nobody waits. Which answers are due, as values.

Whoever has the model asks `due` when it is idle, makes a job for each with `details={"rollout": mark}` and answers it
like any other; `observe` pairs them by photograph. Users get the control's answers meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mondrian_core.rollout.faults import is_external_fault
from mondrian_core.rollout.observation import SHADOW_KEY
from mondrian_core.rollout.plan import Rollout
from mondrian_core.settings import AnalysisMode
from mondrian_core.store import CANCELED, COMPLETED, Job


@dataclass(frozen=True, kw_only=True)
class ShadowRequest:
    """An answer that the comparison lacks.

    Attributes:
        filename, photograph_sha256: of the user's job, to find the photograph again.
        candidate: True for the new version, False for the control.
        mode: the strategy to ask for; the base alone answers as baseline.
        mark: belongs into the job's details as "rollout".
    """

    filename: str
    photograph_sha256: str
    candidate: bool
    mode: AnalysisMode
    mark: dict[str, Any]


def due_shadow_requests(rollout: Rollout, jobs: Iterable[Job], limit: int = 2) -> list[ShadowRequest]:
    """The next answers, at most `limit`; none outside the shadow, or when enough photographs are compared or under way.

    Args:
        jobs: the advisor's, oldest first; those from before the rollout give photographs too.

    Both arms of a photograph follow each other, and every other photograph begins with the control, so that a warm
    cache or a busy minute favours neither.
    """
    if not rollout.in_shadow:
        return []
    photographs, asked = _photographs_and_answered(rollout, jobs)
    needed = rollout.plan.steps[rollout.step].requests
    found: list[ShadowRequest] = []
    for place, (sha256, filename) in enumerate(list(photographs.items())[:needed]):
        for candidate in (True, False) if place % 2 == 0 else (False, True):
            if (sha256, candidate) not in asked:
                found.append(_shadow_request(rollout, filename, sha256, candidate))
    return found[: max(0, limit)]


def _photographs_and_answered(rollout: Rollout, jobs: Iterable[Job]) -> tuple[dict[str, str], set[tuple[str, bool]]]:
    """File names by hash of what users sent, oldest first, and the (hash, arm) that the shadow has already.

    A photograph that no model could answer is left out: its pair would never be complete.
    """
    unanswerable: set[str] = set()
    photographs: dict[str, str] = {}
    asked: set[tuple[str, bool]] = set()
    for job in jobs:
        if job.photograph_sha256 is None or job.filename is None or job.advisor != rollout.advisor:
            continue
        mark = job.details.get("rollout") or {}
        if mark.get(SHADOW_KEY):
            if mark.get("salt") == rollout.salt and job.status != CANCELED:
                asked.add((job.photograph_sha256, bool(mark["candidate"])))
                if is_external_fault(job):
                    unanswerable.add(job.photograph_sha256)
        elif job.status == COMPLETED:
            photographs.setdefault(job.photograph_sha256, job.filename)
    return {sha256: name for sha256, name in photographs.items() if sha256 not in unanswerable}, asked


def _shadow_request(rollout: Rollout, filename: str, sha256: str, candidate: bool) -> ShadowRequest:
    version = rollout.version if candidate else rollout.control
    mark = {"salt": rollout.salt, "share": 0.0, "candidate": candidate, "version": version, SHADOW_KEY: True}
    return ShadowRequest(
        filename=filename,
        photograph_sha256=sha256,
        candidate=candidate,
        mode="lora" if version else "baseline",
        mark=mark,
    )
