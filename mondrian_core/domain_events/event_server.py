"""Prefect's API for events and variables, over plain HTTP: the service and the commands have no Prefect to import.

Prefect forgets the IDs of events after five minutes, so whether an event is known is asked before it is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from mondrian_core.domain_events.event import DomainEvent
from mondrian_core.errors import PrefectUnavailable
from mondrian_core.prefect_server import PatientTransport, prefect_client_environment
from mondrian_core.settings import Settings

TIMEOUT_SECONDS = 10.0
PAGE = 50  # events in one request, as many as Prefect answers on one page
KNOWN_SINCE = timedelta(days=180)  # longer than any retention of events
CLOCK_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True)
class EventServer:
    """A Prefect server that events are sent to.

    Attributes:
        api: address of the API, which ends with /api.
        auth: `user:password`; None: the server asks for none.
    """

    api: str
    auth: str | None = None

    @classmethod
    def of_workspace(cls, settings: Settings) -> EventServer:
        """The server of the workspace.

        Raises:
            PrefectUnavailable: none runs.
        """
        found = prefect_client_environment(settings, os.environ)
        return cls(found["PREFECT_API_URL"], found.get("PREFECT_API_AUTH_STRING"))

    def send_new(self, events: Sequence[DomainEvent]) -> list[DomainEvent]:
        """Send the events that the server doesn't know; gives those.

        Raises:
            PrefectUnavailable: the server did not answer, or refused them.
        """
        sent: list[DomainEvent] = []
        with self._web() as web:
            for start in range(0, len(events), PAGE):
                page = events[start : start + PAGE]
                known = _known_ids(web, page)
                new = [event for event in page if str(event.id) not in known]
                if new:
                    web.post("events", json=[event.as_prefect() for event in new]).raise_for_status()
                sent += new
        return sent

    def read_variable(self, name: str) -> Any:
        """The value of a Prefect variable; None when there is none.

        Raises:
            PrefectUnavailable: the server did not answer.
        """
        with self._web() as web:
            answer = web.get(f"variables/name/{name}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            return answer.raise_for_status().json()["value"]

    def write_variable(self, name: str, value: Mapping[str, Any], tags: Sequence[str] = ()) -> None:
        """Create or replace a Prefect variable.

        Raises:
            PrefectUnavailable: the server did not answer.
        """
        body = {"name": name, "value": dict(value), "tags": list(tags)}
        with self._web() as web:
            answer = web.patch(f"variables/name/{name}", json=body)
            if answer.status_code == httpx.codes.NOT_FOUND:
                answer = web.post("variables/", json=body)
            answer.raise_for_status()

    @contextmanager
    def _web(self) -> Iterator[httpx.Client]:
        user, _, password = (self.auth or "").partition(":")
        access = (user, password) if self.auth else None
        try:
            with httpx.Client(
                base_url=f"{self.api}/",
                auth=access,
                timeout=TIMEOUT_SECONDS,
                trust_env=False,
                transport=PatientTransport(),
            ) as web:
                yield web
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise PrefectUnavailable(
                f"The Prefect server at {self.api} did not take the events ({type(error).__name__}).",
                "Nothing is lost: the next command, run or `mondrian up` sends them.",
            ) from error


def _known_ids(web: httpx.Client, events: Sequence[DomainEvent]) -> set[str]:
    now = datetime.now(UTC)
    wanted = {
        "id": {"id": [str(event.id) for event in events]},
        "occurred": {"since": (now - KNOWN_SINCE).isoformat(), "until": (now + CLOCK_TOLERANCE).isoformat()},
    }
    answer = web.post("events/filter", json={"filter": wanted, "limit": PAGE}).raise_for_status()
    return {str(event["id"]) for event in answer.json()["events"]}
