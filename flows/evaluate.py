"""A registered version against base and champion, once more; changes nothing."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import DEFAULT, Adapters, Advisor, BaseModel, Version, Workspace
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
    workspace: Workspace = None,
    adapters: Adapters = None,
    base_model: BaseModel = None,
    recipe: Recipe = DEFAULT,
) -> State:
    """Link, build the dataset, measure."""
    settings = settings_of(workspace, adapters, base_model)
    chosen = Registry(settings.adapters_root).get(advisor, version)
    run = begin(settings, advisor, recipe, adapter=str(chosen.path))
    data.link(run)
    data.dataset(run)
    judged = model.evaluate(run)
    return Completed(name=NAMES[judged.verdict], message=f"{version}: {judged.verdict}. Report: {judged.html}")
