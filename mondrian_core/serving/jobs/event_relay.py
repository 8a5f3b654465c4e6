"""Tells Prefect what a service changed or saw, in a thread, so that neither a request nor the worker waits for it."""

from __future__ import annotations

import threading

from mondrian_core.domain_events import relay_now
from mondrian_core.events import EventListener
from mondrian_core.settings import Settings


class ServiceEventRelay:
    """Derives and sends the events of the advisors that were named since the last time.

    Args:
        settings: workspace and registry.
        listen: receives notices for the log.
    """

    def __init__(self, settings: Settings, listen: EventListener) -> None:
        self._settings, self._listen = settings, listen
        self._advisors: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def advisor_changed(self, advisor: str | None) -> None:
        """Something happened to an advisor's champion, answers or critiques; returns at once."""
        if not advisor:
            return
        with self._lock:
            self._advisors.add(advisor)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="event relay", daemon=True)
                self._thread.start()

    def stop(self, patience: float = 5.0) -> None:
        """Wait for what is being sent; what isn't sent is derived again later."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout=patience)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._advisors:
                    self._thread = None
                    return
                advisor = self._advisors.pop()
            relay_now(self._settings, advisor, self._listen)
