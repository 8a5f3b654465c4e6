"""The loop: from an advisor's critiques to a promoted adapter, or to the reason why not."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import DEFAULT, Adapters, Advisor, BaseModel, Seed, Workspace
from mondrian_core.recipes import Recipe
from mondrian_core.stages import PromoteSummary
from tasks import data, model, registry
from tasks.run import begin, run_name, settings_of
from tasks.telling import plain_failures


@flow(name="retrain", flow_run_name=run_name)
@plain_failures
def retrain(
    advisor: Advisor,
    workspace: Workspace = None,
    adapters: Adapters = None,
    base_model: BaseModel = None,
    recipe: Recipe = DEFAULT,
    seed: Seed = None,
) -> State:
    """Link, build, train, evaluate, register, promote what passes every gate."""
    run = begin(settings_of(workspace, adapters, base_model), advisor, recipe, seed=seed)
    data.link(run)
    data.dataset(run)
    model.train(run)
    model.evaluate(run)
    registry.register(run)
    return outcome(registry.promote(run))


def outcome(summary: PromoteSummary) -> State:
    """The loop did its work also when the answer is no; the state's name says which."""
    names = {"promoted": "Completed", "candidate": "Candidate", "rejected": "Rejected"}
    return Completed(name=names[summary.decision], message=f"{summary.version}: {summary.sentence}")
