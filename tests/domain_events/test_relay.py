"""The relay: every change of the history is sent once, whenever the server or the sender dies."""

from __future__ import annotations

import pytest

from mondrian_core.domain_events import begin_relay, history_events, relay_events
from mondrian_core.errors import PrefectUnavailable
from mondrian_core.registry import Registry
from mondrian_core.registry.history import HISTORY
from mondrian_core.settings import Settings
from tests.domain_events.conftest import MemoryServer, add_version, promote
from tests.registry.conftest import gate_report


def change_everything(registry: Registry) -> list[str]:
    """Each kind of change once; gives the events that must follow."""
    first, second = add_version(registry), add_version(registry)
    promote(registry, first)
    promote(registry, second)
    third = add_version(registry, verdict="FAIL")
    registry.rollback("ansel", actor="person:anna", reason='Too "harsh".')
    registry.record_evaluation("ansel", third, gate_report("FAIL"), actor="flow:y")
    registry.reject("ansel", second, actor="person:anna", reason="no")
    registry.quarantine("ansel", first, actor="registry", reason="damaged")
    return [
        "adapter.promoted v0001",
        "adapter.promoted v0002",
        "adapter.rejected v0003",
        "adapter.rolled_back v0002",
        "adapter.rejected v0002",
        "adapter.rolled_back v0001",
    ]


def test_each_change_becomes_one_event(settings: Settings, registry: Registry, server: MemoryServer) -> None:
    begin_relay(server)
    expected = change_everything(registry)
    relay_events(settings, server)
    assert server.names == expected
    assert relay_events(settings, server) == []


def test_the_payload_names_run_verdict_reason_and_link(
    settings: Settings, registry: Registry, server: MemoryServer
) -> None:
    begin_relay(server)
    change_everything(registry)
    promoted, _, rejected, rolled_back, *_ = relay_events(settings, server, service="http://127.0.0.1:5100")
    assert (promoted.run, promoted.verdict, promoted.reason) == ("run-1", "PASS", "better")
    assert promoted.link == "http://127.0.0.1:5100/registry/ansel/v0001"
    assert (rejected.run, rejected.verdict) == ("run-3", "FAIL")
    assert rolled_back.reason == 'Too "harsh".'
    assert (rolled_back.evidence["before"], rolled_back.evidence["after"]) == ("v0002", "v0001")


def test_the_past_is_no_news(settings: Settings, registry: Registry, server: MemoryServer) -> None:
    change_everything(registry)
    assert relay_events(settings, server) == [], "nobody has begun to inform this server"
    begin_relay(server)
    assert relay_events(settings, server) == []
    promote(registry, add_version(registry))
    assert [event.version for event in relay_events(settings, server)] == ["v0004"]


def test_an_advisor_without_history_when_the_server_began(
    settings: Settings, registry: Registry, server: MemoryServer
) -> None:
    begin_relay(server)
    relay_events(settings, server)
    promote(registry, add_version(registry, "dora"), "dora")
    assert [event.advisor for event in relay_events(settings, server)] == ["dora"]


def test_a_server_that_dies_at_any_call_gets_everything_once(
    settings: Settings, registry: Registry, server: MemoryServer
) -> None:
    begin_relay(server)
    expected = change_everything(registry)
    begun = dict(server.variables)
    for call in range(1, 20):
        server.variables, server.events, server.received = dict(begun), {}, []
        server.calls, server.dies_at = 0, call
        try:
            relay_events(settings, server)
        except PrefectUnavailable:
            server.dies_at = None
            relay_events(settings, server)
            assert server.names == expected, f"died at call {call}"
        else:
            assert call > 3
            return
    raise AssertionError("one relay makes fewer than 20 calls")


def test_events_that_a_killed_server_had_not_stored_are_sent_again(
    settings: Settings, registry: Registry, server: MemoryServer
) -> None:
    begin_relay(server)
    promote(registry, add_version(registry))
    (sent,) = relay_events(settings, server)
    server.forget(str(sent.id))
    assert [event.id for event in relay_events(settings, server)] == [sent.id]


def test_a_restored_older_history_sends_what_comes_after(
    settings: Settings, registry: Registry, server: MemoryServer
) -> None:
    begin_relay(server)
    first = add_version(registry)
    promote(registry, first)
    file = registry.root / "ansel" / HISTORY
    backup, pointer = file.read_bytes(), (registry.root / "ansel" / "promoted.json").read_bytes()
    second = add_version(registry)
    promote(registry, second)
    relay_events(settings, server)
    file.write_bytes(backup)
    (registry.root / "ansel" / "promoted.json").write_bytes(pointer)
    registry.rollback("ansel", actor="person:anna", reason="after the restore")
    assert [event.reason for event in relay_events(settings, server)] == ["after the restore"]


@pytest.mark.parametrize("reason", ['say "no"', "a\nb", "{{ now }}", '\'; do shell script "x"'])
def test_a_reason_is_passed_on_as_it_is(registry: Registry, reason: str) -> None:
    promote(registry, add_version(registry), reason=reason)
    (event,) = history_events("ansel", registry.history("ansel"))
    assert event.as_prefect()["payload"]["reason"] == reason


def test_a_registry_without_a_workspace_gets_none(registry: Registry, settings: Settings, server: MemoryServer) -> None:
    begin_relay(server)
    promote(registry, add_version(registry))
    missing = settings.root.with_name("missing")
    assert relay_events(settings.model_copy(update={"workspace": missing}), server)
    assert not missing.exists()
