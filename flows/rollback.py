"""Back to the previous champion. `mondrian adapters rollback` does the same without Prefect."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import Advisor
from tasks import registry
from tasks.run import run_name, settings_of
from tasks.telling import plain_failures


@flow(name="rollback", flow_run_name=run_name)
@plain_failures
def rollback(advisor: Advisor, reason: str = "rolled back by hand", adapters: str | None = None) -> State:
    """One step back; without an earlier champion the base answers alone.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        reason: goes into the registry's history.
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    root = settings_of(None, adapters).adapters_root
    return Completed(message=registry.roll_back(root, advisor, reason=reason))
