"""Build the retrieval index of an advisor. `mondrian index` does the same without Prefect."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId, RecipeParameter
from mondrian_core.recipes import DEFAULT_RECIPE
from tasks.index import index_task
from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters, write_run_context


@flow(name="index", flow_run_name=flow_run_name)
@fail_without_traceback
def index_flow(
    advisor: AdvisorId,
    workspace: str | None = None,
    base_model: str | None = None,
    recipe: RecipeParameter = DEFAULT_RECIPE,
) -> State:
    """Embed the photographs of the portfolio; the base model scores those without a critique.

    Args:
        advisor: whose photographs, an id of the table `advisors`.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        base_model: hub id, folder or `mini`; empty: the default for the worker's machine.
        recipe: a recipe's name, or settings of every stage over the defaults.
    """
    run = write_run_context(settings_from_parameters(workspace, None, base_model), advisor, recipe)
    done = index_task(run)
    return Completed(message=f"{done.photographs} photographs in the index, {done.embedded} of them new.")
