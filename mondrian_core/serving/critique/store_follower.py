"""A service follows what other machines change: champions in an object store, runs in shared storage.

`ChampionUpdates` asks for the token of each advisor's history (a HEAD request, without its content). When it has
changed, the registry's local copy is updated, and the next job, or the idle worker, sees the new champion there as in a
local registry (`ActiveAdapters`). Adapters are verified before they serve, as always.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from mondrian_core.errors import MondrianError
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.object_store import open_object_store
from mondrian_core.registry import Registry
from mondrian_core.registry.history import HISTORY
from mondrian_core.shared_storage import SharedStorage, fetch_published_runs

FOLLOW_SECONDS, FETCH_RUNS_SECONDS = 3.0, 30.0
MAX_FOLLOW_FACTOR = 10  # pauses grow to this many times the usual one while the store does not answer


class StoreFollower:
    """Calls a function every few seconds in a thread, less often while it fails.

    Args:
        update: one round.
        place: what is followed, for the notices.
        seconds: between two rounds.
        listen: receives a notice when rounds begin to fail, and when they succeed again.
    """

    def __init__(self, update: Callable[[], None], place: str, seconds: float, listen: EventListener) -> None:
        self._update, self._place, self._seconds, self._listen = update, place, seconds, listen
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
        """Until the next round; it doubles with each failure."""
        return float(self._seconds * min(MAX_FOLLOW_FACTOR, 2 ** min(self._failures, 8)))

    def follow(self) -> None:
        """One round; errors become notices."""
        try:
            self._update()
        except (MondrianError, OSError) as error:
            self._failures += 1
            if self._failures == 1:
                self._listen(StageNotice("serve", f"{self._place} can't be followed: {error}"))
            return
        if self._failures:
            self._listen(StageNotice("serve", f"{self._place} answers again."))
        self._failures = 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.follow()
            self._stopping.wait(self.pause_seconds)


class ChampionUpdates:
    """Keeps the local copy of a registry in an object store up to date.

    Args:
        registry: in the store.
        advisors: returns the advisors to follow; no request is made for others.
    """

    def __init__(self, registry: Registry, advisors: Callable[[], list[str]]) -> None:
        self._registry, self._advisors = registry, advisors
        self._tokens: dict[str, str | None] = {}

    def update(self) -> None:
        """Copy the state of advisors whose history has changed.

        Raises:
            Unreachable: the store does not answer.
        """
        for advisor in self._advisors():
            token = open_object_store(self._registry.url or "").token(f"{advisor}/{HISTORY}")
            if advisor not in self._tokens or self._tokens[advisor] != token:
                self._registry.refresh(advisor)
                self._tokens[advisor] = token


class RunUpdates:
    """Brings the runs that other machines publish into the workspace; a run that can't be fetched is reported once."""

    def __init__(self, storage: SharedStorage, workspace: Path, listen: EventListener) -> None:
        self._storage, self._workspace, self._listen = storage, workspace, listen
        self._seen: dict[str, str] = {}
        self._reported: set[str] = set()

    def update(self) -> None:
        """Fetch what is new.

        Raises:
            Unreachable: the storage does not answer.
        """
        _, problems = fetch_published_runs(self._storage, self._workspace, self._seen)
        for problem in problems:
            if problem not in self._reported:
                self._reported.add(problem)
                self._listen(StageNotice("serve", f"A published run could not be fetched: {problem}"))
