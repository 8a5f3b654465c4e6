"""Automations as code: what follows an event. `mondrian up` creates, corrects and removes them.

They belong to the resource `OWNER`, so an automation that a person created is never touched, whatever its name. One of
ours that was switched off in the UI stays off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mondrian_core.domain_events import (
    DATA_GROWN,
    DRIFT_DETECTED,
    EVENT_NAMES,
    SERVICE_DEGRADED,
)
from mondrian_core.domain_events.event import EVENT_PREFIX, RESOURCE_PREFIX
from mondrian_core.errors import BadInput
from mondrian_core.settings import DESKTOP_NOTIFICATIONS, NO_NOTIFICATIONS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import RunDeployment, SendNotification
    from prefect.events.schemas.automations import AutomationCore

OWNER = "mondrian.automations"
TAG = "mondrian"
NOTIFY, RETRAIN, ROLL_BACK = "notify/desktop", "retrain/scheduled", "rollback/automatic"
NOTIFY_FLOW = "notify"
RETRAIN_DELAY = timedelta(hours=1)  # critiques that are being written meanwhile are used too
FAILURES = ("Failed", "Crashed", "TimedOut")
CAN_NOTIFY = "notify"  # capability of Prefect's notification blocks


def declared_automations(client: SyncPrefectClient, notifications: str, flows: Sequence[str]) -> list[AutomationCore]:
    """All automations, for the deployments and blocks of this server.

    Args:
        client: of the server.
        notifications: "desktop", "none", or a notification block, `type/name`.
        flows: names of the flows whose failed runs are reported.

    Raises:
        BadInput: there is no such notification block.
    """
    declared = [_retrain_automation(client), _rollback_automation(client)]
    if notifications != NO_NOTIFICATIONS:
        notify = _notification(client, notifications)
        declared += [
            _event_notifications(notify),
            _failure_notifications(notify, flows, str(client.api_url).removesuffix("/").removesuffix("/api")),
        ]
    return declared


def apply_automations(client: SyncPrefectClient, declared: Sequence[AutomationCore]) -> None:
    """Create, correct and remove our automations until they are the declared ones. It may be repeated."""
    present = {each.name: each for each in client.read_resource_related_automations(OWNER)}
    for wanted in declared:
        found = present.pop(wanted.name, None)
        if found is None:
            client.create_automation(wanted)
        elif _content(found) != _content(wanted):
            client.update_automation(found.id, _update_body(wanted, enabled=found.enabled))
    for obsolete in present.values():
        client.delete_automation(obsolete.id)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What the code decides; the switch is the user's."""
    return _update_body(automation, enabled=True).model_dump(mode="json")


def _update_body(automation: AutomationCore, *, enabled: bool) -> AutomationCore:
    """The automation as the API takes it in an update: without owner and ID, and with every default written out."""
    from prefect.events.schemas.automations import AutomationCore

    values = automation.model_dump(mode="json", exclude={"owner_resource", "id", "created", "updated"})
    return AutomationCore.model_validate({**values, "enabled": enabled})


def _automation(name: str, description: str, **values: Any) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(name=f"Mondrian: {name}", description=description, tags=[TAG], owner_resource=OWNER, **values)


def _on(*names: str, **labels: str) -> Any:
    """A trigger that fires at every one of these domain events, for each advisor."""
    from prefect.events.schemas.automations import EventTrigger

    return EventTrigger(
        expect={EVENT_PREFIX + name for name in names},
        match={"prefect.resource.id": f"{RESOURCE_PREFIX}*", **labels},
        for_each={"prefect.resource.id"},
    )


def _run(client: SyncPrefectClient, deployment: str, **values: Any) -> RunDeployment:
    from prefect.events.actions import RunDeployment

    return RunDeployment(deployment_id=client.read_deployment_by_name(deployment).id, **values)


def _retrain_automation(client: SyncPrefectClient) -> AutomationCore:
    return _automation(
        "retrain after new critiques or drift",
        "Retrain an hour after enough new critiques, or when live scores drift. The run ends as NothingNew when it "
        "would only repeat an earlier one; the gates decide as always.",
        trigger=_on(DATA_GROWN, DRIFT_DETECTED),
        actions=[
            _run(client, RETRAIN, parameters={"advisor": "{{ event.payload.advisor }}"}, schedule_after=RETRAIN_DELAY)
        ],
    )


def _rollback_automation(client: SyncPrefectClient) -> AutomationCore:
    return _automation(
        "roll back an adapter whose answers fail",
        "Return to the previous champion, once for one promotion. The run decides again by the registry: it does "
        "nothing during a rollout, after another change, or when only the base model would be left.",
        trigger=_on(SERVICE_DEGRADED, **{"mondrian.cause": "adapter"}),
        actions=[
            _run(
                client,
                ROLL_BACK,
                parameters={
                    "advisor": "{{ event.payload.advisor }}",
                    "reason": "{{ event.payload.reason }}",
                    "promotion": "{{ event.payload.evidence.promotion }}",
                },
            )
        ],
    )


Notification = Callable[
    [str, str, str], "RunDeployment | SendNotification"
]  # title, message, link: expressions of Jinja


def _event_notifications(notify: Notification) -> AutomationCore:
    return _automation(
        "notify about adapters, data and service",
        "A notification for each domain event; MONDRIAN_NOTIFICATIONS chooses how.",
        trigger=_on(*EVENT_NAMES),
        actions=[notify("event.payload.title", "event.payload.reason", "event.payload.link")],
    )


def _failure_notifications(notify: Notification, flows: Sequence[str], ui: str) -> AutomationCore:
    from prefect.events.schemas.automations import EventTrigger

    # Not Prefect's filter `ui_url`: a server knows it only once an action that sends a notification was checked.
    page = f"'{ui}/runs/flow-run/' ~ flow_run.id"
    return _automation(
        "notify about runs that failed",
        "A notification when a run of one of Mondrian's flows fails or crashes. A notification that fails is not "
        "reported, which would never end.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in FAILURES},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "flow",
                "prefect.resource.name": sorted(set(flows) - {NOTIFY_FLOW}),
            },
            for_each={"prefect.resource.id"},
        ),
        actions=[notify("flow.name ~ ': the run failed.'", "flow_run.state.message", page)],
    )


def _notification(client: SyncPrefectClient, notifications: str) -> Notification:
    """The action that notifies."""
    from prefect.events.actions import SendNotification

    if notifications == DESKTOP_NOTIFICATIONS:
        # Prefect appends `| tojson` to a lone expression, which binds tighter than any operator: hence the brackets.
        return lambda title, message, link: _run(
            client,
            NOTIFY,
            parameters={
                "title": f"{{{{ ({title}) }}}}",
                "message": f"{{{{ ({message}) }}}}",
                "link": f"{{{{ ({link}) }}}}",
            },
        )
    block = _notification_block(client, notifications)
    return lambda title, message, link: SendNotification(
        block_document_id=block,
        subject=f"{{{{ {title} }}}}",
        body=f"{{{{ ({message}) or '' }}}}\n{{{{ ({link}) or '' }}}}",
    )


def _notification_block(client: SyncPrefectClient, wanted: str) -> Any:
    """ID of a notification block.

    Raises:
        BadInput: there is none of that name, or it can't notify.
    """
    from prefect.exceptions import ObjectNotFound

    kind, _, name = wanted.partition("/")
    try:
        block = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        raise BadInput(
            f"MONDRIAN_NOTIFICATIONS names the block '{wanted}', which this Prefect server doesn't have.",
            "Create it on the page Blocks of Prefect's UI, or set MONDRIAN_NOTIFICATIONS to "
            f"{DESKTOP_NOTIFICATIONS} or {NO_NOTIFICATIONS}.",
        ) from None
    schema = block.block_schema
    if schema is None or CAN_NOTIFY not in schema.capabilities:
        raise BadInput(
            f"The block '{wanted}' can't send notifications.",
            "Name a notification block, such as slack-webhook/NAME, in MONDRIAN_NOTIFICATIONS.",
        )
    return block.id
