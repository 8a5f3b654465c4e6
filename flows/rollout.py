"""Promotions that began with a share of the photographs: looked at, decided, carried out."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import Advisor
from tasks import rollout as rollout_tasks
from tasks.run import settings_of
from tasks.telling import plain_failures

QUIET = "NothingToDo"


@flow(name="rollout")
@plain_failures
def rollout(advisor: Advisor | None = None, workspace: str | None = None, adapters: str | None = None) -> State:
    """Advance, hold or roll back every rollout in force. `mondrian rollout advance` does the same without Prefect.

    What the service took back by itself since the last run gets its page and its event here.

    Args:
        advisor: only this one's; empty: every advisor's.
        workspace: folder with the jobs table; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    settings = settings_of(workspace, adapters)
    decisions = [rollout_tasks.advance(settings, each) for each in rollout_tasks.in_force(settings, advisor)]
    decisions += [rollout_tasks.tell(each) for each in rollout_tasks.untold(settings, advisor)]
    if not decisions:
        return Completed(name=QUIET, message="No rollout is in force; champions answer everything.")
    worst = next((name for name in ("RolledBack", "Held") if name in {each.name for each in decisions}), "Completed")
    return Completed(name=worst, message=" ".join(each.sentence for each in decisions))
