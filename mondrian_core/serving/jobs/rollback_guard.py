"""Rolls a rollout back right after the failure that violates a guardrail, not at the next scheduled check.

Rollouts that began while the Prefect server was down would never be checked. So the service, which splits the traffic,
activates the schedule of the check again now and then while it serves a rollout.

`rollout/advance` alone advances or holds. The guardrails may be checked at any time and any number of times
(decision 41), so a check after each failure costs no statistical power.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mondrian_core.errors import ChampionChanged, MondrianError, NothingToDo
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.rollout import SERVICE_ACTOR, RollBack, check_rollout, rollout_requests
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.store import Job, Store

ACTIVATE_EVERY_SECONDS = 600.0


class RollbackGuard:
    """Checks an advisor's rollout when the new version failed or the model process died with it."""

    def __init__(
        self, store: Store, adapters: ActiveAdapters, listen: EventListener, activate_schedule: Callable[[], object]
    ) -> None:
        self._store, self._adapters, self._listen = store, adapters, listen
        self._activate_schedule, self._activate_at = activate_schedule, 0.0

    def check_finished_job(self, job: Job) -> None:
        """Check the rollout of a job that has ended; errors are logged and never affect the job."""
        try:
            self._check(job)
        except (NothingToDo, ChampionChanged):
            pass  # a person or the schedule has acted already
        except (MondrianError, OSError) as error:
            self._listen(StageNotice("rollout", f"The guardrails could not be checked: {error}"))

    def _check(self, job: Job) -> None:
        advisor = job.advisor or ""
        rollout = self._adapters.rollout(advisor) if job.details.get("rollout") else None
        if rollout is not None and time.monotonic() >= self._activate_at:
            self._activate_at = time.monotonic() + ACTIVATE_EVERY_SECONDS
            self._activate_schedule()
        if rollout is None or not any(
            request.candidate and (request.failed or request.crashed) for request in rollout_requests([job], rollout)
        ):
            return
        checked = check_rollout(
            self._adapters.registry_of(advisor),
            advisor,
            self._store.jobs(advisor, since=rollout.started),
            actor=SERVICE_ACTOR,
            carry_out="rollback",
        )
        if isinstance(checked.decision, RollBack):
            self._listen(StageNotice("rollout", f"{advisor} {rollout.version}: {checked.decision.sentence}"))
