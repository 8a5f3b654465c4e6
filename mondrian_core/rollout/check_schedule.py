"""The schedule of `rollout/advance`: active only while a rollout is, so that idle weeks leave no runs in Prefect.

A started rollout activates it. Only the check itself and `mondrian up` deactivate it: they see every rollout of the
registry, and a rollback by the service gets its page from one last check.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx

from mondrian_core.errors import MondrianError, PrefectUnavailable
from mondrian_core.prefect_server import PatientTransport, prefect_client_environment
from mondrian_core.registry import Registry
from mondrian_core.rollout.rollout_store import active_rollout, rollout_ended_by_service
from mondrian_core.settings import Settings

ROLLOUT_DEPLOYMENT = "rollout/advance"
SCHEDULE_TIMEOUT_SECONDS = 5.0


def activate_rollout_schedule(settings: Settings) -> bool:
    """Have Prefect check rollouts; False when no server of this workspace answers. `mondrian up` repairs that."""
    return _set_active(settings, active=True)


def update_rollout_schedule(settings: Settings, *, report_ended: bool = False) -> bool | None:
    """Activate the schedule while a rollout is active, deactivate it otherwise.

    A rollout that starts in between is seen by the second look, or activates the schedule itself afterwards.

    Args:
        settings: of the workspace that the server belongs to, and its registry.
        report_ended: also activate it for a rollback by the service, which may not have been reported yet.

    Returns:
        Whether it is active now; None when no server of this workspace answers.
    """
    registry = Registry(settings.adapters_root)
    if _needs_check(registry, report_ended):
        return True if _set_active(settings, active=True) else None
    if not _set_active(settings, active=False):
        return None
    if _needs_check(registry, report_ended):
        return True if _set_active(settings, active=True) else None
    return False


def _needs_check(registry: Registry, report_ended: bool) -> bool:
    for advisor in registry.advisors():
        with suppress(MondrianError):  # an unreadable rollout is reported where it is used
            if active_rollout(registry, advisor) is not None:
                return True
            if report_ended and rollout_ended_by_service(registry, advisor) is not None:
                return True
    return False


def _set_active(settings: Settings, *, active: bool) -> bool:
    """Set every schedule of the deployment; True when the server has done it."""
    try:
        variables = prefect_client_environment(settings, {})
        with _client(variables) as client:
            deployment = client.get(f"/deployments/name/{ROLLOUT_DEPLOYMENT}").raise_for_status().json()
            for schedule in deployment["schedules"]:
                if schedule["active"] != active:
                    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
                    client.patch(path, json={"active": active}).raise_for_status()
    except (PrefectUnavailable, httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
    return True


def _client(variables: dict[str, Any]) -> httpx.Client:
    user, _, password = variables["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(
        base_url=variables["PREFECT_API_URL"],
        auth=(user, password),
        timeout=SCHEDULE_TIMEOUT_SECONDS,
        trust_env=False,
        transport=PatientTransport(),
    )
