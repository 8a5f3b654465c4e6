"""A rollout whose new version fails goes back with the very answer that shows it, not at the next scheduled look.

Going on and holding stay with `rollout/advance`. The guardrails may be asked at any time and as often as one likes
(decision 0041), so a look after each failure costs nothing but the look.
"""

from __future__ import annotations

from mondrian_core.errors import ChampionChanged, MondrianError, NothingToDo
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.rollout import SERVICE_ACTOR, RollBack, check_rollout, rollout_requests
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.store import Job, Store


class RollbackGuard:
    """Looks at an advisor's rollout when an answer of the new version failed or cost the model process its life."""

    def __init__(self, store: Store, adapters: ActiveAdapters, listen: EventListener) -> None:
        self._store, self._adapters, self._listen = store, adapters, listen

    def check_finished_job(self, job: Job) -> None:
        """To be called with every job that has ended. Whatever goes wrong here must not reach that job."""
        try:
            self._look(job)
        except (NothingToDo, ChampionChanged):
            pass  # a person, or the schedule, was first
        except (MondrianError, OSError) as error:
            self._listen(StageNotice("rollout", f"The failures could not be judged: {error}"))

    def _look(self, job: Job) -> None:
        advisor = job.advisor or ""
        rollout = self._adapters.rollout(advisor) if job.details.get("rollout") else None
        if rollout is None or not any(
            each.candidate and (each.failed or each.crashed) for each in rollout_requests([job], rollout)
        ):
            return
        seen = check_rollout(
            self._adapters.registry_of(advisor),
            advisor,
            self._store.jobs(advisor, since=rollout.started),
            actor=SERVICE_ACTOR,
            carry_out="rollback",
        )
        if isinstance(seen.decision, RollBack):
            self._listen(StageNotice("rollout", f"{advisor} {rollout.version}: {seen.decision.sentence}"))
