"""Emit domain events from a flow run, each once."""

from __future__ import annotations

from prefect.logging import get_logger
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from mondrian_core.domain_events import DomainEvent, EventServer
from mondrian_core.errors import PrefectUnavailable


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


def current_event_server() -> EventServer | None:
    """The server that this process reports to; None for a run without one."""
    api = PREFECT_API_URL.value()
    if not api:
        return None
    auth = PREFECT_API_AUTH_STRING.value()
    return EventServer(api, auth.get_secret_value() if hasattr(auth, "get_secret_value") else auth)
