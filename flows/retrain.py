"""The loop: from an advisor's critiques to a promoted adapter, or to the reason why not."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import DEFAULT, Advisor, Seed
from mondrian_core.recipes import Recipe
from mondrian_core.stages import PromoteSummary
from tasks import data, model, registry
from tasks.run import begin, run_name, settings_of
from tasks.telling import plain_failures

NAMES = {"promoted": "Completed", "candidate": "Candidate", "rejected": "Rejected"}


@flow(name="retrain", flow_run_name=run_name)
@plain_failures
def retrain(
    advisor: Advisor,
    workspace: str | None = None,
    adapters: str | None = None,
    base_model: str | None = None,
    recipe: Recipe = DEFAULT,
    seed: Seed | None = None,
) -> State:
    """Link, build, train, evaluate, register; promote what passes every gate.

    Args:
        advisor: whose eye is learned, an id of the table `advisors`.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: what suits the worker's machine.
        recipe: settings of every stage; what is left out keeps its default.
        seed: of the training; empty: the recipe's.
    """
    run = begin(settings_of(workspace, adapters, base_model), advisor, recipe, seed=seed)
    data.link(run)
    data.dataset(run)
    model.train(run)
    model.evaluate(run)
    registry.register(run)
    return outcome(registry.promote(run))


def outcome(summary: PromoteSummary) -> State:
    """The loop did its work also when the answer is no; the state's name says which."""
    return Completed(name=NAMES[summary.decision], message=f"{summary.version}: {summary.sentence}")
