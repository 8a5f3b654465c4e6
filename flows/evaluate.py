"""A registered version against base and champion, once more; its gates go into the registry's history."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import DEFAULT, Advisor, Version
from mondrian_core.recipes import Recipe
from mondrian_core.registry import Registry
from tasks import data, model
from tasks.run import begin, run_name, settings_of
from tasks.telling import plain_failures

NAMES = {"PASS": "Completed", "FAIL": "GatesFailed", "INCONCLUSIVE": "Inconclusive"}


@flow(name="evaluate", flow_run_name=run_name)
@plain_failures
def evaluate(
    advisor: Advisor,
    version: Version,
    workspace: str | None = None,
    adapters: str | None = None,
    base_model: str | None = None,
    recipe: Recipe = DEFAULT,
) -> State:
    """Link, build the dataset, measure; the version keeps its files, and the champion stays.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        version: a registered version such as v0003.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: what suits the worker's machine.
        recipe: settings of every stage; what is left out keeps its default.
    """
    settings = settings_of(workspace, adapters, base_model)
    chosen = Registry(settings.adapters_root).get(advisor, version)
    run = begin(settings, advisor, recipe, adapter=str(chosen.path))
    data.link(run)
    data.dataset(run)
    judged = model.evaluate(run)
    return Completed(name=NAMES[judged.verdict], message=f"{version}: {judged.verdict}. Report: {judged.html}")
