"""Shadow mode: both versions answer the same photographs while the service is idle; this lists the answers due.

The idle service calls `due_shadow_requests`, creates a job for each with `details={"rollout": mark}` and answers it
like any other; `observation` pairs them by photograph. Users get the control's answers meanwhile.
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
    """An answer that the comparison still needs.

    Attributes:
        filename: of the user's photograph.
        photograph_sha256: of the user's photograph.
        candidate: True for the new version, False for the control.
        mode: the strategy to request; the base model answers as baseline.
        mark: for the job's details, under "rollout".
    """

    filename: str
    photograph_sha256: str
    candidate: bool
    mode: AnalysisMode
    mark: dict[str, Any]


def due_shadow_requests(rollout: Rollout, jobs: Iterable[Job], limit: int = 2) -> list[ShadowRequest]:
    """The next answers due; none outside the shadow, or when enough photographs are compared or in progress.

    Both arms answer a photograph one after the other, and every second photograph starts with the control, so that a
    warm cache or a busy minute favours neither.

    Args:
        rollout: the active one.
        jobs: the advisor's, oldest first; those from before the rollout provide photographs too.
        limit: maximum number of answers.
    """
    if not rollout.in_shadow:
        return []
    photographs, asked = _photographs_and_answered(rollout, jobs)
    needed = rollout.plan.steps[rollout.step].requests
    due: list[ShadowRequest] = []
    for place, (sha256, filename) in enumerate(list(photographs.items())[:needed]):
        for candidate in (True, False) if place % 2 == 0 else (False, True):
            if (sha256, candidate) not in asked:
                due.append(_shadow_request(rollout, filename, sha256, candidate))
    return due[: max(0, limit)]


def _photographs_and_answered(rollout: Rollout, jobs: Iterable[Job]) -> tuple[dict[str, str], set[tuple[str, bool]]]:
    """File names by hash of users' photographs, oldest first, and the (hash, arm) pairs answered or in progress.

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
