"""Advance staged rollouts: count, decide, apply."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId
from mondrian_core.rollout import update_rollout_schedule
from tasks import rollout as rollout_tasks
from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters

IDLE_STATE = "NothingToDo"


@flow(name="rollout", flow_run_name=flow_run_name)
@fail_without_traceback
def rollout_flow(advisor: AdvisorId | None = None, workspace: str | None = None, adapters: str | None = None) -> State:
    """Advance, hold or roll back every active rollout. `mondrian rollout advance` does the same without Prefect.

    Its schedule is active while a rollout is; the run that finds none deactivates it. Rollouts that the service itself
    rolled back since the last run get their page and event here.

    Args:
        advisor: only this one's; empty: every advisor's.
        workspace: folder with the jobs table; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    settings = settings_from_parameters(workspace, adapters)
    decisions = [
        rollout_tasks.advance_rollout_task(settings, each)
        for each in rollout_tasks.advisors_with_rollout(settings, advisor)
    ]
    decisions += [
        rollout_tasks.report_rollback_task(each) for each in rollout_tasks.unreported_rollbacks(settings, advisor)
    ]
    if (workspace, adapters) == (None, None):  # the schedule's own runs, which have the worker's workspace and registry
        update_rollout_schedule(settings)
    if not decisions:
        return Completed(name=IDLE_STATE, message="No rollout is active; champions answer everything.")
    worst = next((name for name in ("RolledBack", "Held") if name in {each.name for each in decisions}), "Completed")
    return Completed(name=worst, message=" ".join(each.sentence for each in decisions))
