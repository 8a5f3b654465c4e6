"""Bound the disk use of this machine's workspace. `mondrian prune` does the same without Prefect."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from mondrian_core.pruning import PrunePolicy
from tasks.prune import prune_sentence, prune_task
from tasks.reporting import fail_without_traceback
from tasks.run_context import settings_from_parameters

DEFAULTS = PrunePolicy()
KeptDays = Annotated[int, Field(ge=1)]


@flow(name="prune")
@fail_without_traceback
def prune_flow(  # noqa: PLR0913, PLR0917  (each one is a field of Prefect's form)
    dry_run: bool = False,
    weights_days: KeptDays = DEFAULTS.weights_days,
    keep_runs: Annotated[int, Field(ge=0)] = DEFAULTS.keep_runs,
    dataset_days: KeptDays = DEFAULTS.dataset_days,
    cache_days: Annotated[int, Field(ge=2)] = DEFAULTS.cache_days,
    cache_gb: Annotated[float, Field(ge=0)] = DEFAULTS.cache_gb,
    run_days: KeptDays | None = None,
    workspace: str | None = None,
    adapters: str | None = None,
) -> State:
    """Delete what can be made again and is no longer needed; the page of the run lists what is kept and why.

    Args:
        dry_run: delete nothing; the page says what would be deleted.
        weights_days: days after which an idle run loses its weights and checkpoints; its report and records stay.
        keep_runs: newest runs of each advisor that keep everything.
        dataset_days: days after which an unused dataset version is deleted.
        cache_days: days after which an unused cached file is deleted.
        cache_gb: gigabytes for each cache.
        run_days: days after which a run's whole folder is deleted, with its report; empty: never.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    policy = PrunePolicy(
        weights_days=weights_days,
        keep_runs=keep_runs,
        dataset_days=dataset_days,
        cache_days=cache_days,
        cache_gb=cache_gb,
        run_days=run_days,
    )
    plan = prune_task(settings_from_parameters(workspace, adapters), policy, dry_run=dry_run)
    return Completed(message=prune_sentence(plan, dry_run=dry_run))
