"""serve/stop: stop the service of this machine; waiting jobs stay in the jobs table."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters
from tasks.service import stop_service


@flow(name="serve", flow_run_name=flow_run_name)
@fail_without_traceback
def stop_flow(workspace: str | None = None, adapters: str | None = None, base_model: str | None = None) -> State:
    """Stop the service that serve/local started for this workspace; the next start continues waiting jobs.

    Args:
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: the default for the worker's machine.
    """
    ran = stop_service(settings_from_parameters(workspace, adapters, base_model))
    return Completed(message="The service is stopped." if ran else "No service was running.")
