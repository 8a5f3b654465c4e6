"""Retrain an advisor's adapter: from critiques to a promoted version, or the reason why not."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import (
    AUTO_RECIPE,
    AdvisorId,
    Dropout,
    Epochs,
    Folder,
    LearningRate,
    Rank,
    RetrainRecipe,
    TrainingSeed,
)
from mondrian_core.errors import NothingNewToTrain
from mondrian_core.stages import PromoteSummary
from tasks.dataset import dataset_task
from tasks.evaluate import evaluate_task
from tasks.handover import train_on_free_machine
from tasks.link import link_task
from tasks.promote import promote_task
from tasks.register import register_task
from tasks.reporting import fail_without_traceback
from tasks.retrain import (
    SKIPPED,
    RetrainSkipped,
    choose_run_recipe,
    exclusive_retraining,
    require_changed_run_inputs,
    skip_if_superseded,
)
from tasks.run_context import flow_run_name, settings_from_parameters, tag_flow_run, write_run_context

STATE_NAMES = {"promoted": "Promoted", "candidate": "Candidate", "rejected": "Rejected", "unchanged": "NothingNew"}
RUN_TAGS = {"promoted": "promoted", "candidate": "candidate", "rejected": "rejected", "unchanged": "unchanged"}


@flow(name="retrain", flow_run_name=flow_run_name)
@fail_without_traceback
def retrain_flow(  # noqa: PLR0913, PLR0917  (each one is a field of Prefect's form)
    advisor: AdvisorId,
    recipe: RetrainRecipe = AUTO_RECIPE,
    epochs: Epochs = None,
    rank: Rank = None,
    learning_rate: LearningRate = None,
    dropout: Dropout = None,
    seed: TrainingSeed = None,
    force: bool = False,
    base_model: Folder = None,
    workspace: Folder = None,
    adapters: Folder = None,
) -> State:
    """Link, build, train, evaluate, register; promote what passes every gate.

    Completes at once when nothing changed ("NothingNew") or another run does the work ("Skipped").

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        recipe: a name, a recipe file in the workspace, or values; auto: what fits the number of critiques.
        epochs: maximum passes over the training rows; empty: the recipe's.
        rank: of the LoRA matrices; empty: the recipe's.
        learning_rate: peak learning rate; empty: the recipe's.
        dropout: of the LoRA input; empty: the recipe's.
        seed: of training; empty: the recipe's.
        force: train even when a version was trained on the same critiques, base, recipe, prompt and code.
        base_model: hub id, folder or `mini`; empty: the default for the worker's machine.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    overrides = {
        "epochs": epochs,
        "rank": rank,
        "learning_rate": learning_rate,
        "dropout": dropout,
        "seed": seed,
    }
    tag_flow_run(advisor)
    try:
        skip_if_superseded()
        settings = settings_from_parameters(workspace, adapters, base_model)
        chosen = None if recipe == AUTO_RECIPE else recipe
        run = write_run_context(settings, advisor, chosen, overrides=overrides)
        with exclusive_retraining(run):
            link_task(run)
            if chosen is None:
                choose_run_recipe(run)
            if not force:
                require_changed_run_inputs(run)
            dataset_task(run)
            train_on_free_machine(run)
            evaluate_task(run)
            register_task(run)
            promoted = promote_task(run)
    except RetrainSkipped as skipped:
        tag_flow_run("skipped")
        return Completed(name=SKIPPED, message=str(skipped))
    except NothingNewToTrain as nothing:
        tag_flow_run("nothing new")
        return Completed(name="NothingNew", message=str(nothing))
    return retrain_final_state(promoted)


def retrain_final_state(summary: PromoteSummary) -> State:
    """A completed state also for a version that is not promoted; its name gives the decision."""
    tag_flow_run(f"{summary.version} {RUN_TAGS[summary.decision]}")
    return Completed(name=STATE_NAMES[summary.decision], message=f"{summary.version}: {summary.sentence}")
