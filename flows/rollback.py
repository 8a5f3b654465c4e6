"""Back to the previous champion. `mondrian adapters rollback` does the same without Prefect."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import Adapters, Advisor, Reason
from tasks import registry
from tasks.run import run_name, settings_of
from tasks.telling import plain_failures


@flow(name="rollback", flow_run_name=run_name)
@plain_failures
def rollback(advisor: Advisor, reason: Reason = "rolled back by hand", adapters: Adapters = None) -> State:
    """One step back; without an earlier champion the base answers alone."""
    root = settings_of(None, adapters).adapters_root
    return Completed(message=registry.roll_back(root, advisor, reason=reason))
