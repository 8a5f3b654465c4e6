"""Promote a registered version manually."""

from dataclasses import replace
from typing import Any

from prefect import flow, pause_flow_run
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.parameters import AdvisorId, VersionName
from mondrian_core.errors import GateFailed
from mondrian_core.promotion import ManualPromotion
from mondrian_core.registry import Registry
from tasks.promote import inspect_version_task, manual_promote_task
from tasks.reporting import fail_without_traceback
from tasks.rollout import requested_rollout_plan
from tasks.run_context import flow_run_name, settings_from_parameters

APPROVAL_SECONDS = 24 * 3600


class Approval(RunInput):
    """The form for the person who resumes the run in the UI."""

    approve: bool = Field(False, description="promote this version")
    name: str = Field("", max_length=100, description="who approves")


@flow(name="promote", flow_run_name=flow_run_name)
@fail_without_traceback
def promote_flow(  # noqa: PLR0913, PLR0917  (each one is a field of Prefect's form)
    advisor: AdvisorId,
    version: VersionName,
    reason: str = "",
    force: bool = False,
    approve: bool = False,
    rollout: bool = False,
    plan: dict[str, Any] | None = None,
    workspace: str | None = None,
    adapters: str | None = None,
    base_model: str | None = None,
) -> State:
    """Check the version, wait for approval if requested, promote; fails when the champion changes meanwhile.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        version: a registered version such as v0003.
        reason: for the registry's history; required unless every gate passed, as it would be served now.
        force: promote although the gates speak against it.
        approve: wait, up to a day, until somebody approves in the UI.
        rollout: start with a share of the photographs that grows automatically (see docs/rollout.md).
        plan: keys of the rollout plan that override the plan for the traffic; a plan implies a rollout.
        workspace: folder, whose jobs table gives the traffic; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: the base to check against when the version's base has another name here.
    """
    settings = settings_from_parameters(workspace, adapters, base_model)
    request = ManualPromotion(
        settings=settings,
        advisor=advisor,
        version=version,
        expected=Registry(settings.adapters_root).reference(advisor),
        force=force,
        reason=reason,
    )
    problems = inspect_version_task(request)
    staged = requested_rollout_plan(settings, advisor, plan or {}) if rollout or plan else None
    if approve and not problems:
        request = replace(request, reason=f"{reason} (approved by {wait_for_approval(version)})".strip())
    return Completed(message=manual_promote_task(request, problems=problems, plan=staged))


def wait_for_approval(version: str) -> str:
    """The name of the person who approved.

    Raises:
        GateFailed: the answer was no.
    """
    answer = pause_flow_run(wait_for_input=Approval, timeout=APPROVAL_SECONDS)
    if not answer.approve:
        raise GateFailed(f"{version} was not approved.", "Nothing was changed.")
    return answer.name or "a person in the UI"
