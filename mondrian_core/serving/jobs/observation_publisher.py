"""Publish what this machine observes of active rollouts, for the decision that reads all machines' answers."""

from __future__ import annotations

from mondrian_core.object_store import open_object_store
from mondrian_core.rollout import ObservationLog, rollout_requests
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.store import Store


class ObservationPublisher:
    """Appends the jobs table's answers to the logs of active rollouts; only for registries in an object store."""

    def __init__(self, store: Store, adapters: ActiveAdapters) -> None:
        self._store, self._adapters = store, adapters
        self._logs: dict[str, ObservationLog] = {}  # by salt

    def publish(self) -> None:
        """Append what is new.

        Raises:
            Unreachable: the store doesn't answer; the answers stay in the jobs table until it does.
        """
        active = set()
        for advisor in self._adapters.known_advisors():
            rollout, url = self._adapters.rollout(advisor), self._adapters.registry_of(advisor).url
            if rollout is None or url is None:
                continue
            active.add(rollout.salt)
            log = self._logs.setdefault(rollout.salt, ObservationLog(open_object_store(url), rollout))
            log.append(rollout_requests(self._store.jobs(advisor, since=rollout.started), rollout))
        self._logs = {salt: log for salt, log in self._logs.items() if salt in active}
