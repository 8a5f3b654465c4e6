"""Evaluate a registered version again; its gates are added to the registry's history."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId, RecipeParameter, VersionName
from mondrian_core.recipes import DEFAULT_RECIPE
from mondrian_core.registry import Registry
from mondrian_core.stages import StageContext
from tasks.dataset import dataset_task
from tasks.evaluate import evaluate_task
from tasks.link import link_task
from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters, tag_flow_run, write_run_context
from tasks.served_pages import run_page

STATE_NAMES = {"PASS": "GatesPassed", "FAIL": "GatesFailed", "INCONCLUSIVE": "Inconclusive"}


@flow(name="evaluate", flow_run_name=flow_run_name)
@fail_without_traceback
def evaluate_flow(
    advisor: AdvisorId,
    version: VersionName,
    workspace: str | None = None,
    adapters: str | None = None,
    base_model: str | None = None,
    recipe: RecipeParameter = DEFAULT_RECIPE,
) -> State:
    """Link, build the dataset, measure; neither the version's files nor the champion change.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        version: a registered version such as v0003.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: the default for the worker's machine.
        recipe: a recipe's name, or settings of every stage over the defaults.
    """
    tag_flow_run(advisor)
    settings = settings_from_parameters(workspace, adapters, base_model)
    chosen = Registry(settings.adapters_root).get(advisor, version)
    run = write_run_context(settings, advisor, recipe, adapter=str(chosen.path))
    link_task(run)
    dataset_task(run)
    judged = evaluate_task(run)
    verdict = ", ".join(filter(None, (judged.verdict, judged.loosened)))
    context = StageContext.load(run)
    page = run_page(context.root, context.run, report=True)
    tag_flow_run(f"{version} {judged.verdict}")
    return Completed(name=STATE_NAMES[judged.verdict], message=f"{version}: {verdict}. Report: {page.text}")
