"""The loop: from an advisor's critiques to a promoted adapter, or to the reason why not."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import Advisor, GivenRecipe, Seed
from mondrian_core.errors import NothingNew
from mondrian_core.stages import PromoteSummary
from tasks import data, model, registry
from tasks.retraining import (
    SKIPPED,
    Skipped,
    keep_in_mind,
    one_retraining,
    require_new,
    skip_if_superseded,
    suit_to_size,
)
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
    recipe: GivenRecipe | None = None,
    seed: Seed | None = None,
    force: bool = False,
) -> State:
    """Link, build, train, evaluate, register; promote what passes every gate.

    Ends at once, and well, when there is nothing new to learn ("NothingNew") or another run does the work ("Skipped").

    Args:
        advisor: whose eye is learned, an id of the table `advisors`.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: what suits the worker's machine.
        recipe: a recipe's name, or settings of every stage; empty: small-set for fewer than 20 critiques, else default.
        seed: of the training; empty: the recipe's.
        force: train also when critiques, base, recipe and prompt are those of the last retraining.
    """
    try:
        skip_if_superseded()
        run = begin(settings_of(workspace, adapters, base_model), advisor, recipe, seed=seed)
        with one_retraining(run):
            data.link(run)
            if recipe is None:
                suit_to_size(run)
            if not force:
                require_new(run)
            data.dataset(run)
            model.train(run)
            model.evaluate(run)
            registry.register(run)
            promoted = registry.promote(run)
            keep_in_mind(run)
    except Skipped as skipped:
        return Completed(name=SKIPPED, message=str(skipped))
    except NothingNew as nothing:
        return Completed(name="NothingNew", message=str(nothing))
    return outcome(promoted)


def outcome(summary: PromoteSummary) -> State:
    """The loop did its work also when the answer is no; the state's name says which."""
    return Completed(name=NAMES[summary.decision], message=f"{summary.version}: {summary.sentence}")
