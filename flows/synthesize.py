"""Draft critiques for a person to review. `mondrian synthesize` does the same without Prefect."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId, RecipeParameter
from mondrian_core.recipes import DEFAULT_RECIPE
from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters, write_run_context
from tasks.synthesize import synthesize_task


@flow(name="synthesize", flow_run_name=flow_run_name)
@fail_without_traceback
def synthesize_flow(
    advisor: AdvisorId,
    workspace: str | None = None,
    base_model: str | None = None,
    recipe: RecipeParameter = DEFAULT_RECIPE,
) -> State:
    """Draft critiques of photographs that have none; a person reviews them later.

    Args:
        advisor: whose scores and vocabulary to imitate, an id of the table `advisors`.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        base_model: hub id, folder or `mini`; empty: the default for the worker's machine.
        recipe: a recipe's name, or settings; `synthesize.photographs` is the maximum number of drafts per run.
    """
    run = write_run_context(settings_from_parameters(workspace, None, base_model), advisor, recipe)
    done = synthesize_task(run)
    name = "Completed" if done.drafted else "NothingDrafted"
    return Completed(name=name, message=f"{done.drafted} critiques drafted, {done.waiting} wait for `mondrian review`.")
