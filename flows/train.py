"""Train on a published dataset, for a retraining on another machine."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import AdvisorId
from mondrian_core.settings import Settings
from tasks.reporting import fail_without_traceback
from tasks.shared_training import train_shared


@flow(name="train")
@fail_without_traceback
def train_flow(advisor: AdvisorId, training: str) -> State:
    """Train an adapter and bring it back; a retraining starts this, nobody else needs to.

    Args:
        advisor: whose adapter.
        training: its name in the shared folder, which has the rest.
    """
    summary = train_shared(Settings(), training)
    return Completed(message=f"{advisor}: {summary.steps} steps, best loss {summary.best_loss:.3f}.")
