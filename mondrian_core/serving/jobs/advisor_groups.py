"""One photograph critiqued by several advisors: a group of jobs with one ID.

A group has no row of its own. The ID of each of its jobs is the group's ID, "-" and the job's number, so the jobs are
found by the index of their IDs.
"""

from __future__ import annotations

import re
import statistics
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from mondrian_core.errors import BadInput
from mondrian_core.next_steps import add_advisor_step
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES
from mondrian_core.serving.jobs.score_history import job_scores
from mondrian_core.settings import ALL_ADVISORS, validate_advisor_id
from mondrian_core.store import COMPLETED, FAILED, RUNNING, Job, Store

_MEMBER = re.compile(r"(g[0-9a-f]{32})-[0-9]+")


def requested_advisors(store: Store, text: str) -> list[str]:
    """The IDs of the advisors that a text names: one, several separated by commas, or "all".

    Raises:
        BadInput: a name isn't an ID, or the workspace has no advisor.
        UnknownAdvisor: there is no such advisor.
    """
    if text == ALL_ADVISORS:
        advisors = [each.advisor for each in store.advisors()]
        if not advisors:
            raise BadInput("There is no advisor in this workspace.", add_advisor_step())
        return advisors
    named = list(dict.fromkeys(validate_advisor_id(each.strip()) for each in text.split(",")))
    return [store.advisor(each).advisor for each in named]


def new_group_id() -> str:
    """An ID for a new group."""
    return f"g{uuid.uuid4().hex}"


def member_job_id(group: str, number: int) -> str:
    """The ID of a group's job; they are numbered from 1."""
    return f"{group}-{number}"


def group_of_job(job: Job) -> str | None:
    """The ID of the job's group; None for a job of its own."""
    found = _MEMBER.fullmatch(job.id)
    return found[1] if found else None


@dataclass(frozen=True)
class DimensionSpread:
    """One dimension's scores (0-10) by job ID, their mean, and their range: the largest difference between two."""

    scores: dict[str, float]
    mean: float
    range: float


@dataclass(frozen=True)
class AdvisorGroup:
    """The jobs of one group, in the order of the request; at least one."""

    id: str
    jobs: Sequence[Job]

    @property
    def status(self) -> str:
        """ "running" until every job has ended; then "completed" if any advisor answered, else "failed"."""
        if any(job.status not in FINAL_STATUSES for job in self.jobs):
            return RUNNING
        return COMPLETED if any(job.status == COMPLETED for job in self.jobs) else FAILED

    @property
    def spreads(self) -> dict[str, DimensionSpread]:
        """How far the advisors' scores lie apart, by dimension; dimensions that fewer than two scored are left out."""
        by_job = {job.id: job_scores(job) for job in self.jobs if job.status == COMPLETED}
        found = {}
        for name in DIMENSIONS:
            scores = {job_id: scores[name] for job_id, scores in by_job.items() if name in scores}
            if len(scores) > 1:
                values = scores.values()
                found[name] = DimensionSpread(scores, statistics.fmean(values), max(values) - min(values))
        return found
