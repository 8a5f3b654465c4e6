"""What happened to an advisor's adapter, as events of Prefect: derived from the records, sent once, never lost."""

from mondrian_core.domain_events.event import (
    ADAPTER_PROMOTED,
    ADAPTER_REJECTED,
    ADAPTER_ROLLED_BACK,
    DATA_GROWN,
    DRIFT_DETECTED,
    EVENT_NAMES,
    SERVICE_DEGRADED,
    DomainEvent,
)
from mondrian_core.domain_events.event_server import EventServer
from mondrian_core.domain_events.history_events import history_events
from mondrian_core.domain_events.relay import begin_relay, relay_events, relay_now

__all__ = [
    "ADAPTER_PROMOTED",
    "ADAPTER_REJECTED",
    "ADAPTER_ROLLED_BACK",
    "DATA_GROWN",
    "DRIFT_DETECTED",
    "EVENT_NAMES",
    "SERVICE_DEGRADED",
    "DomainEvent",
    "EventServer",
    "begin_relay",
    "history_events",
    "relay_events",
    "relay_now",
]
