"""serve/stop: the service of this machine is stopped in order; jobs that wait stay in the jobs table."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.run import settings_of
from tasks.service import stop_service
from tasks.telling import plain_failures


@flow(name="serve")
@plain_failures
def serve(workspace: str | None = None, adapters: str | None = None, base_model: str | None = None) -> State:
    """Stop the service that serve/local started for this workspace; what waits is taken up by the next start.

    Args:
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: what suits the worker's machine.
    """
    ran = stop_service(settings_of(workspace, adapters, base_model))
    return Completed(message="The service is stopped." if ran else "No service ran.")
