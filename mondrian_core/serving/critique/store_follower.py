"""StoreFollower: a service follows the champions of a registry in an object store.

A thread asks for the token of each advisor's history (a HEAD request, without its content) every few seconds. When it
has changed, the registry's local copy is updated, and the next job, or the idle worker, sees the new champion there as
in a local registry (`ActiveAdapters`). Adapters are verified before they serve, as always. While the store does not
answer, the champion that is known keeps serving, and the store is asked less often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mondrian_core.errors import MondrianError
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.object_store import open_object_store
from mondrian_core.registry import Registry
from mondrian_core.registry.history import HISTORY

FOLLOW_SECONDS = 3.0
MAX_FOLLOW_SECONDS = 30.0  # between two attempts while the store does not answer


class StoreFollower:
    """Keeps the local copy of a registry up to date for the advisors that a service answers.

    Args:
        registry: in an object store.
        advisors: returns the advisors to follow; no request is made for others.
        on_round: called after each round in which the store answered, such as to publish observations.
        listen: receives a notice when the store stops answering, and when it answers again.
    """

    def __init__(
        self,
        registry: Registry,
        advisors: Callable[[], list[str]],
        on_round: Callable[[], None],
        listen: EventListener,
    ) -> None:
        self._registry, self._advisors, self._on_round, self._listen = registry, advisors, on_round, listen
        self._tokens: dict[str, str | None] = {}
        self._failures = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store follower", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present request."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @property
    def pause_seconds(self) -> float:
        """Until the next round: `FOLLOW_SECONDS`, doubled with each failure."""
        return float(min(MAX_FOLLOW_SECONDS, FOLLOW_SECONDS * 2.0 ** min(self._failures, 8)))

    def follow(self) -> None:
        """One round; errors become notices."""
        try:
            for advisor in self._advisors():
                self._update(advisor)
            self._on_round()
        except (MondrianError, OSError) as error:
            self._failures += 1
            if self._failures == 1:
                self._listen(StageNotice("registry", f"Champions can't be followed: {error}"))
            return
        if self._failures:
            self._listen(StageNotice("registry", f"{self._registry.url} answers again."))
        self._failures = 0

    def _update(self, advisor: str) -> None:
        token = open_object_store(self._registry.url or "").token(f"{advisor}/{HISTORY}")
        if advisor not in self._tokens or self._tokens[advisor] != token:
            self._registry.refresh(advisor)
            self._tokens[advisor] = token

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.follow()
            self._stopping.wait(self.pause_seconds)
