"""Automations on a real server with a real worker: what follows each event, and whose automations are touched."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.automations import AutomationCore

from deployments import prefect_setup
from deployments.automations import NOTIFY, OWNER, RETRAIN, ROLL_BACK, apply_automations, declared_automations
from deployments.bootstrap import RunningPrefect
from mondrian_core.cli import main
from mondrian_core.domain_events import (
    ADAPTER_REJECTED,
    DATA_GROWN,
    DRIFT_DETECTED,
    EVENT_NAMES,
    SERVICE_DEGRADED,
    DomainEvent,
    EventServer,
)
from mondrian_core.errors import BadInput
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tests.domain_events.conftest import add_version, promote
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
HOSTILE = 'It "drifts"\n\'; display dialog "x" {{ now }} <b>'


@pytest.fixture(scope="module")
def client(machine: RunningPrefect) -> Iterator[SyncPrefectClient]:
    with prefect_setup.prefect_client(machine.place) as found:
        yield found


@pytest.fixture
def notifying(client: SyncPrefectClient) -> Iterator[None]:
    """The automations as a user has them; other tests go without notifications, each of which is a process."""
    apply_automations(client, declared_automations(client, "desktop", ["notify", "rollback"]))
    yield
    apply_automations(client, declared_automations(client, "none", []))


def started_runs(client: SyncPrefectClient, deployment: str, advisor_or_title: str) -> list[FlowRun]:
    found = client.read_deployment_by_name(deployment)
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[found.id]))
    runs = client.read_flow_runs(deployment_filter=chosen)
    return [run for run in runs if advisor_or_title in (run.parameters.get("advisor"), run.parameters.get("title"))]


def finished_run(client: SyncPrefectClient, deployment: str, advisor_or_title: str) -> FlowRun:
    def look() -> FlowRun | None:
        found = started_runs(client, deployment, advisor_or_title)
        return found[0] if found and found[0].state and found[0].state.is_final() else None

    return wait_until(look, f"the run of {deployment} for {advisor_or_title}")


def make_event(name: str, advisor: str, **facts: Any) -> DomainEvent:
    return DomainEvent(name=name, advisor=advisor, key="1", title=f"{advisor}: {name}", **facts)


def test_automations_are_corrected_and_those_of_the_user_left_alone(client: SyncPrefectClient, notifying: None) -> None:
    declared = declared_automations(client, "desktop", ["notify", "rollback"])
    ours = {each.name: each for each in client.read_resource_related_automations(OWNER)}
    assert set(ours) == {each.name for each in declared}
    theirs = client.create_automation(
        declared[0].model_copy(update={"owner_resource": None, "description": "the user's"})
    )
    off, changed = list(ours.values())[:2]
    client.pause_automation(off.id)
    values = changed.model_dump(mode="json", exclude={"id", "created", "updated", "owner_resource"})
    client.update_automation(changed.id, AutomationCore.model_validate({**values, "description": "edited"}))
    former = declared[0].model_copy(update={"name": "Mondrian: something of an older release"})
    client.create_automation(former)

    apply_automations(client, declared)

    again = {each.name: each for each in client.read_resource_related_automations(OWNER)}
    assert {each.id for each in again.values()} == {each.id for each in ours.values()}
    assert not again[off.name].enabled
    assert again[changed.name].description == ours[changed.name].description
    kept = client.read_automation(theirs)
    assert kept is not None
    assert kept.description == "the user's"
    client.delete_automation(theirs)
    client.resume_automation(off.id)


def test_a_notification_has_the_exact_text_and_link(
    client: SyncPrefectClient, settings: Settings, notifying: None
) -> None:
    link = "/registry/linked/v0001"
    events = [
        make_event(ADAPTER_REJECTED, "linked", reason=HOSTILE, link=link),
        make_event(ADAPTER_REJECTED, "unlinked", reason=HOSTILE),
    ]
    EventServer.of_workspace(settings).send_new(events)
    for event in events:
        (run,) = wait_until(partial(started_runs, client, NOTIFY, event.title), "the notification")
        assert run.parameters == {"title": event.title, "message": HOSTILE, "link": event.link}


@pytest.mark.parametrize("name", [DATA_GROWN, DRIFT_DETECTED])
def test_a_retraining_follows_within_an_hour(client: SyncPrefectClient, settings: Settings, name: str) -> None:
    advisor = name.replace(".", "-")
    EventServer.of_workspace(settings).send_new([make_event(name, advisor)])
    (run,) = wait_until(lambda: started_runs(client, RETRAIN, advisor), "the retraining")
    assert run.state is not None
    assert run.state.is_scheduled()
    assert run.next_scheduled_start_time is not None
    assert run.created is not None
    assert 3000 < (run.next_scheduled_start_time - run.created).total_seconds() < 3700
    client.delete_flow_run(run.id)


def test_a_promotion_by_command_is_reported_and_a_degraded_one_rolled_back_once(
    client: SyncPrefectClient, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, advisor = Registry(settings.adapters_root), "degraded"
    promote(registry, add_version(registry, advisor), advisor)
    second = add_version(registry, advisor, parent="v0001")
    place = ["--workspace", str(settings.root), "--adapters", str(settings.adapters_root)]
    assert (
        main(["adapters", "promote", "--advisor", advisor, "--version", second, "--reason", "x", "--force", *place])
        == 0
    )
    capsys.readouterr()
    promotion = registry.history(advisor)[-1].sha256
    server = EventServer.of_workspace(settings)

    def degraded(key: str, cause: str) -> DomainEvent:
        return DomainEvent(
            name=SERVICE_DEGRADED,
            advisor=advisor,
            key=key,
            title=key,
            reason=HOSTILE,
            cause=cause,
            evidence={"promotion": promotion},
        )

    server.send_new([degraded("by the disk", "service"), degraded("by the adapter", "adapter")])
    run = finished_run(client, ROLL_BACK, advisor)
    assert run.state_name == "RolledBack", run.state and run.state.message
    assert len(started_runs(client, ROLL_BACK, advisor)) == 1, "a fault of the service rolls nothing back"
    assert registry.current(advisor) == "v0001"
    assert registry.history(advisor)[-1].reason == HOSTILE

    server.send_new([degraded("the same again", "adapter")])
    wait_until(lambda: len(started_runs(client, ROLL_BACK, advisor)) == 2, "the second run")
    names = wait_until(
        lambda: (
            {run.state_name for run in started_runs(client, ROLL_BACK, advisor)} - {"Scheduled", "Pending", "Running"}
            == {"RolledBack", "NothingToDo"}
        ),
        "the second run's end",
    )
    assert names
    assert registry.current(advisor) == "v0001"
    reported = [
        (each.name, each.version) for each in _stored(settings, advisor) if each.name.startswith("mondrian.adapter.")
    ]
    assert reported == [
        ("mondrian.adapter.promoted", "v0001"),
        ("mondrian.adapter.promoted", "v0002"),
        ("mondrian.adapter.rolled_back", "v0002"),
    ]


@contextmanager
def receiving_webhook() -> Iterator[tuple[str, list[Any]]]:
    received: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.server_port}/", received
        server.shutdown()


def test_any_notification_block_gets_every_event(
    client: SyncPrefectClient, settings: Settings, prefect_here: Any
) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.blocks.system import Secret

    with receiving_webhook() as (address, received), prefect_here:
        CustomWebhookNotificationBlock(
            name="Mondrian",
            url=address,
            headers=None,
            cookies=None,
            json_data={"title": "{{subject}}", "text": "{{body}}"},
        ).save("team", overwrite=True)
        Secret(value="x").save("not-a-notification", overwrite=True)
        apply_automations(client, declared_automations(client, "custom-webhook/team", ["link"]))
        events = [make_event(name, "webhook", reason=HOSTILE) for name in EVENT_NAMES]
        EventServer.of_workspace(settings).send_new(events)
        titles = {event.title for event in events}
        wait_until(lambda: titles <= {each["title"] for each in received}, "the requests")
        assert {each["text"] for each in received if each["title"] in titles} == {f"{HOSTILE}\n"}
        for wrong, problem in (("custom-webhook/nobody", "doesn't have"), ("secret/not-a-notification", "can't send")):
            with pytest.raises(BadInput, match=problem):
                declared_automations(client, wrong, [])
        apply_automations(client, declared_automations(client, "none", []))
    for run in started_runs(client, RETRAIN, "webhook"):
        client.delete_flow_run(run.id)


def test_a_failed_run_is_notified_and_a_failed_notification_is_not(client: SyncPrefectClient, notifying: None) -> None:
    deployment = client.read_deployment_by_name(ROLL_BACK)
    failed = client.create_flow_run_from_deployment(deployment.id, parameters={"advisor": "nobody-promoted"})
    run = finished_run(client, NOTIFY, "rollback: the run failed.")
    assert "nobody-promoted" in run.parameters["message"]
    assert run.parameters["link"].endswith(f"/runs/flow-run/{failed.id}")
    assert run.state_name in ("Shown", "Logged")
    declared = {each.name: each for each in declared_automations(client, "desktop", ["notify", "rollback"])}
    trigger: Any = declared["Mondrian: notify about runs that failed"].trigger
    assert trigger.match_related.model_dump()["prefect.resource.name"] == ["rollback"]


def _stored(settings: Settings, advisor: str) -> list[Any]:
    import httpx

    server = EventServer.of_workspace(settings)
    user, _, password = (server.auth or "").partition(":")

    def look() -> list[Any] | None:
        answer = httpx.post(
            f"{server.api}/events/filter",
            json={"filter": {"resource": {"id": [f"mondrian.advisor.{advisor}"]}, "order": "ASC"}},
            auth=(user, password),
            trust_env=False,
        )
        events = answer.raise_for_status().json()["events"]
        return events if any(each["event"] == "mondrian.adapter.rolled_back" for each in events) else None

    from types import SimpleNamespace

    return [
        SimpleNamespace(name=each["event"], version=each["payload"]["version"])
        for each in wait_until(look, "the stored events")
    ]
