"""Emit domain events from a flow run, each once; and relay what a run changed."""

from __future__ import annotations

from filelock import Timeout
from prefect import runtime
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from mondrian_core.domain_events import DomainEvent, EventServer, relay_events
from mondrian_core.errors import MondrianError, PrefectUnavailable
from tasks.run_context import settings_from_parameters


def emit_event_once(event: DomainEvent) -> bool:
    """Send an event unless the server knows it; True when it was sent.

    Without a server, or when it doesn't answer, the log says so and the flow continues. The caller's next run sends
    the event again, with the same key: it must derive it from what is stored, not from what only this run saw.
    """
    server = current_event_server()
    if server is None:
        return False
    try:
        return bool(server.send_new([event]))
    except PrefectUnavailable as error:
        get_logger(__name__).warning("The event %s was not sent. %s", event.name, error)
        return False


def relay_run_events() -> None:
    """At the end of a flow run: send the events of its advisor, or of everybody. Its errors end no run."""
    given = runtime.flow_run.get_parameters() or {}
    server, advisor = current_event_server(), given.get("advisor")
    if server is None:
        return
    try:
        settings = settings_from_parameters(given.get("workspace"), given.get("adapters"))
        sent = relay_events(settings, server, [advisor] if advisor else None)
    except (MondrianError, OSError, Timeout) as error:
        get_logger(__name__).warning("Events were not sent; a later run sends them. %s", error)
        return
    for event in sent:
        get_logger(__name__).info("sent the event %s: %s", event.name, event.title)


def current_event_server() -> EventServer | None:
    """The server that this process reports to; None for a run without one."""
    api = PREFECT_API_URL.value()
    if not api:
        return None
    auth = PREFECT_API_AUTH_STRING.value()
    return EventServer(api, auth.get_secret_value() if hasattr(auth, "get_secret_value") else auth)
