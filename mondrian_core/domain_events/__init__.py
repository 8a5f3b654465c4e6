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
]
