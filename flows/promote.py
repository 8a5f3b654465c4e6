"""Promote a registered version manually."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId, VersionName
from mondrian_core.errors import AlreadyChampion
from mondrian_core.promotion import ManualPromotion, deployment_command, require_change_of_champion
from mondrian_core.registry import Registry
from mondrian_core.rollout import RolloutPlan, require_no_active_rollout
from tasks.approval import wait_for_approval
from tasks.promote import approval_question, inspect_version_task, manual_promote_task
from tasks.reporting import fail_without_traceback
from tasks.rollout import requested_rollout_plan
from tasks.run_context import flow_run_name, settings_from_parameters, tag_flow_run

APPROVAL_SECONDS = 24 * 3600


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

    Declining ("Declined"), no answer within a day ("Unanswered") and promoting the champion ("NothingToDo") are no
    failures.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        version: a registered version such as v0003.
        reason: for the registry's history; required unless every gate passed, as it would be served now.
        force: promote although the gates speak against it.
        approve: pause, up to a day, until somebody has read the gates in the UI and approves or declines.
        rollout: start with a share of the photographs that grows automatically (see docs/explanation/rollout.md).
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
    try:
        staged = requested_rollout_plan(settings, advisor, plan or {}) if rollout or plan else None
        return _promote_as_requested(request, staged, ask=approve)
    except AlreadyChampion as nothing:
        return Completed(name="NothingToDo", message=str(nothing))


def _promote_as_requested(request: ManualPromotion, plan: RolloutPlan | None, *, ask: bool) -> State:
    """Check, ask, promote. Declining and not answering are outcomes, and not failures."""
    registry, advisor, version = Registry(request.settings.adapters_root), request.advisor, request.version
    tag_flow_run(advisor)
    require_change_of_champion(registry, advisor, version)
    require_no_active_rollout(registry, advisor)
    inspected = inspect_version_task(request)
    if ask and not inspected.problems:
        until = datetime.now(UTC) + timedelta(seconds=APPROVAL_SECONDS)
        answer = wait_for_approval(approval_question(request, inspected, until), seconds=APPROVAL_SECONDS)
        if answer is None:
            tag_flow_run(f"{version} unanswered")
            return Completed(name="Unanswered", message=unanswered_message(request))
        if not answer.approve:
            tag_flow_run(f"{version} declined")
            declined = answer.sentence(f"{version} was declined")
            return Completed(name="Declined", message=f"{declined.rstrip('.')}. Nothing was changed.")
        request = replace(request, reason=f"{request.reason} ({answer.sentence('approved')})".strip())
    message = manual_promote_task(request, problems=inspected.problems, plan=plan)
    tag_flow_run(f"{version} promoted")
    return Completed(name="Promoted" if plan is None else "RolloutStarted", message=message)


def unanswered_message(request: ManualPromotion) -> str:
    """What to do after nobody answered."""
    again = deployment_command("promote/manual", request.advisor, request.version)
    again += f" -p {shlex.quote(f'reason={request.reason}')}" if request.reason else ""
    return (
        f"Nobody answered in time, so {request.version} was not promoted and nothing was changed. "
        f"Ask again: {again} -p approve=true. Promote without asking: {again}"
    )
