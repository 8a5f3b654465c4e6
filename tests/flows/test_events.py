"""Domain events against a real Prefect server."""

from __future__ import annotations

import httpx
import pytest

from deployments.bootstrap import RunningPrefect
from mondrian_core.domain_events import DRIFT_DETECTED, DomainEvent, EventServer
from mondrian_core.settings import Settings
from tasks.events import emit_event_once
from tests.waiting import wait_until

pytestmark = pytest.mark.flow


def stored_events(machine: RunningPrefect, advisor: str) -> list[dict[str, object]]:
    answer = httpx.post(
        f"{machine.place.api}/events/filter",
        json={"filter": {"resource": {"id": [f"mondrian.advisor.{advisor}"]}}},
        auth=machine.place.basic_auth,
        trust_env=False,
    )
    return list(answer.raise_for_status().json()["events"])


def test_an_event_is_stored_once(machine: RunningPrefect, settings: Settings, prefect_here: object) -> None:
    event = DomainEvent(name=DRIFT_DETECTED, advisor="once", key="v0001", title='It "drifts"\n{{ now }}')
    with prefect_here:  # type: ignore[attr-defined]
        assert emit_event_once(event)
        found = wait_until(lambda: stored_events(machine, "once"), "the stored event")
        assert not emit_event_once(event)
    assert EventServer.of_workspace(settings).send_new([event]) == []
    assert [each["id"] for each in found] == [str(event.id)]
    assert found[0]["payload"] == event.payload


def test_a_variable_is_created_and_replaced(machine: RunningPrefect, settings: Settings) -> None:
    server = EventServer.of_workspace(settings)
    assert server.read_variable("mondrian_test") is None
    for value in ({"serial": 1}, {"serial": 2}):
        server.write_variable("mondrian_test", value, ["mondrian"])
        assert server.read_variable("mondrian_test") == value
