"""Return to the previous champion. `mondrian adapters rollback` does the same without Prefect."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId
from tasks.reporting import fail_without_traceback
from tasks.rollback import automatic_rollback_task, rollback_task
from tasks.run_context import flow_run_name, settings_from_parameters, tag_flow_run

LEFT_ALONE = "NothingToDo"


@flow(name="rollback", flow_run_name=flow_run_name)
@fail_without_traceback
def rollback_flow(
    advisor: AdvisorId,
    reason: str = "rolled back manually",
    adapters: str | None = None,
    promotion: str | None = None,
) -> State:
    """Go back one step; without an earlier champion the base answers alone.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        reason: for the registry's history.
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        promotion: for automations: undo this promotion only (SHA-256 of its line in the history), and only if
            that is safe without a person.
    """
    root = settings_from_parameters(None, adapters).adapters_root
    if promotion is None:
        done, sentence = True, rollback_task(root, advisor, reason=reason)
    else:
        done, sentence = automatic_rollback_task(root, advisor, promotion=promotion, reason=reason)
    tag_flow_run(advisor, *(["rolled back"] if done else []))
    return Completed(name="RolledBack" if done else LEFT_ALONE, message=sentence)
