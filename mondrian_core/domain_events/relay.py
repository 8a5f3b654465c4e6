"""Send an advisor's events to Prefect: each once, and none lost while no server runs.

The records are the truth: the registry's history, the jobs and the critiques. Every call derives all events from them
and sends those that the server lacks, so it may run anywhere, at any time and in several processes. A Prefect variable
per history holds how far the server was informed. A new server hears what happens from its first `mondrian up` on.

An accepted event is in the server's memory for some seconds before it is stored. So events of the last day are compared
with the stored ones again, whatever the variable says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from filelock import FileLock, Timeout

from mondrian_core.domain_events.event import DomainEvent
from mondrian_core.domain_events.event_server import EventServer
from mondrian_core.domain_events.history_events import history_events
from mondrian_core.domain_events.workspace_events import derive_workspace_events
from mondrian_core.errors import MondrianError
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.portable_paths import known_path_roots, without_absolute_paths
from mondrian_core.prefect_server import prefect_home, recorded_api_url
from mondrian_core.registry import HistoryEntry, Registry
from mondrian_core.settings import Settings

CHECKED_AGAIN = timedelta(days=1)  # shorter than any retention of events, longer than any restart
BEGINNING = "mondrian_events"  # variable: since when this server is informed
VARIABLE_TAGS = ("mondrian",)
LOCK_SECONDS = 30.0
KEPT_KEYS = 20  # a variable holds 5,000 characters


@dataclass(frozen=True)
class RelayPosition:
    """How far a server was informed about one advisor.

    Attributes:
        serial: of the last history entry whose event was sent.
        line: SHA-256 of that entry; a restored backup may have another one at its place.
        at: time of that entry, ISO 8601; before the first one: when its information began.
        reported: keys of the events that are not in the history, with the time at which each was first sent.
    """

    serial: int = 0
    line: str = ""
    at: str = ""
    reported: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_value(cls, value: Any) -> RelayPosition | None:
        """The position that a variable holds; None when there is none, or somebody else wrote it."""
        try:
            return cls(int(value["serial"]), str(value["line"]), str(value["at"]), dict(value["reported"]))
        except (KeyError, TypeError, ValueError):
            return None

    def as_value(self) -> dict[str, Any]:
        """The value of the variable."""
        return {"serial": self.serial, "line": self.line, "at": self.at, "reported": dict(self.reported)}

    def is_new(self, entry: HistoryEntry, entries: Sequence[HistoryEntry]) -> bool:
        """True when the server was not informed about `entry`, one of `entries`."""
        if any(each.serial == self.serial and each.sha256 == self.line for each in entries):
            return entry.serial > self.serial
        return entry.at > self.at  # nothing was sent yet, or the history was replaced

    def after(self, entries: Sequence[HistoryEntry], workspace_events: Iterable[DomainEvent]) -> RelayPosition:
        """The position once everything was sent."""
        sent = {event.key: self.reported.get(event.key, event.occurred.isoformat()) for event in workspace_events}
        last = entries[-1]
        newest = sorted({**self.reported, **sent}.items(), key=lambda item: item[1])[-KEPT_KEYS:]
        return RelayPosition(last.serial, last.sha256, last.at, dict(newest))


def begin_relay(server: EventServer) -> None:
    """Inform this server about what happens from now on, unless that began already. `mondrian up` calls it.

    Raises:
        PrefectUnavailable: the server did not answer.
    """
    if server.read_variable(BEGINNING) is None:
        server.write_variable(BEGINNING, {"since": _now()}, VARIABLE_TAGS)


def relay_events(
    settings: Settings, server: EventServer, advisors: Sequence[str] | None = None, *, service: str = ""
) -> list[DomainEvent]:
    """Send the events that the server lacks; gives those. Two calls at once send no event twice.

    Args:
        settings: workspace and registry.
        server: where they go; without a beginning (`begin_relay`) it gets nothing.
        advisors: whose events; None: everybody's.
        service: address of the service for links; empty: links are paths.

    Raises:
        PrefectUnavailable: the server did not answer; the next call sends what is missing.
        MondrianError: the registry can't be read.
    """
    beginning = server.read_variable(BEGINNING)
    if not isinstance(beginning, dict) or "since" not in beginning:
        return []
    registry = Registry(settings.adapters_root)
    home = prefect_home(settings)
    # A run may name a registry alone: its default workspace must not come into being by a lock.
    place = home / "relay.lock" if home.is_dir() else settings.adapters_root / ".relay.lock"
    with FileLock(place, timeout=LOCK_SECONDS):
        sent: list[DomainEvent] = []
        for advisor in registry.advisors() if advisors is None else advisors:
            sent += _relay_advisor(_Relay(settings, server, registry, str(beginning["since"]), service), advisor)
    return sent


def relay_now(settings: Settings, advisor: str | None, listen: EventListener = ignore_events) -> None:
    """After a command or a request changed something: inform the workspace's server, if one runs.

    It never fails: whatever it can't send is derived again by the next run, command or `mondrian up`.

    Args:
        settings: workspace and registry.
        advisor: whose events; None: everybody's.
        listen: receives a notice when the server could not be informed.
    """
    try:
        if recorded_api_url(settings) is None:
            return
        relay_events(settings, EventServer.of_workspace(settings), [advisor] if advisor else None)
    except (MondrianError, OSError, Timeout) as error:
        listen(StageNotice("events", f"Prefect was not informed yet: {error}"))


@dataclass(frozen=True)
class _Relay:
    """What one call works with."""

    settings: Settings
    server: EventServer
    registry: Registry
    since: str
    service: str


def _relay_advisor(relay: _Relay, advisor: str) -> list[DomainEvent]:
    entries = relay.registry.history(advisor)
    if not entries:
        return []
    variable = f"{BEGINNING}_{advisor}_{entries[0].sha256[:8]}"
    known = RelayPosition.from_value(relay.server.read_variable(variable))
    position = known or RelayPosition(at=relay.since)
    recently = (datetime.now(UTC) - CHECKED_AGAIN).isoformat(timespec="milliseconds")
    again = max(recently, relay.since)
    unsettled = {each.sha256 for each in entries if position.is_new(each, entries) or each.at > again}
    due = [event for event in history_events(advisor, entries, relay.service) if event.key in unsettled]
    present = derive_workspace_events(relay.settings, relay.registry, advisor, entries)
    due += [
        _with_address(each, relay.service) for each in present if position.reported.get(each.key, _now()) > recently
    ]
    places = known_path_roots(relay.settings.root, relay.settings.adapters_root)
    sent = relay.server.send_new([replace(each, reason=without_absolute_paths(each.reason, places)) for each in due])
    reached = position.after(entries, present)
    if reached != known:
        relay.server.write_variable(variable, reached.as_value(), VARIABLE_TAGS)
    return sent


def _with_address(event: DomainEvent, service: str) -> DomainEvent:
    return replace(event, link=f"{service}{event.link}") if event.link else event


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
