"""Look for drift of live answers from the evaluation. `mondrian drift` does the same without Prefect."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId
from tasks.drift import drift_task, watched_advisors
from tasks.reporting import fail_without_traceback
from tasks.run_context import settings_from_parameters

IDLE_STATE, ALARM_STATE = "NothingToDo", "Drift"


@flow(name="drift")
@fail_without_traceback
def drift_flow(advisor: AdvisorId | None = None, workspace: str | None = None, adapters: str | None = None) -> State:
    """Read the answers since the last look, publish each advisor's page, and emit one event for each alarm.

    Args:
        advisor: only this one's; empty: every advisor's.
        workspace: folder with the jobs table; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    settings = settings_from_parameters(workspace, adapters)
    reports = [drift_task(settings, each) for each in watched_advisors(settings, advisor)]
    watched = [report for report in reports if report.watch is not None]
    if not watched:
        return Completed(name=IDLE_STATE, message="No version is promoted, so nothing is watched.")
    name = ALARM_STATE if any(report.alarms for report in watched) else "Completed"
    return Completed(name=name, message=" ".join(f"{report.advisor}: {report.sentence}" for report in watched))
