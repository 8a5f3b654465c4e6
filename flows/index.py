"""The index of an advisor's photographs. `mondrian index` does the same without Prefect."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import DEFAULT, Advisor, GivenRecipe
from tasks import index as tasks
from tasks.run import begin, run_name, settings_of
from tasks.telling import plain_failures


@flow(name="index", flow_run_name=run_name)
@plain_failures
def index(
    advisor: Advisor, workspace: str | None = None, base_model: str | None = None, recipe: GivenRecipe = DEFAULT
) -> State:
    """Embed the photographs of the portfolio; the base scores those that nobody has critiqued.

    Args:
        advisor: whose photographs, an id of the table `advisors`.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        base_model: hub id, folder or `mini`; empty: what suits the worker's machine.
        recipe: a recipe's name, or settings of every stage; what is left out keeps its default.
    """
    run = begin(settings_of(workspace, None, base_model), advisor, recipe)
    done = tasks.index(run)
    return Completed(message=f"{done.photographs} photographs in the index, {done.embedded} of them new.")
