"""Tasks that link records and build a dataset version. They take seconds and need no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import stages
from mondrian_core.errors import DatabaseBusy
from mondrian_core.stages import Context, DatasetSummary, LinkSummary, summary_of
from tasks import pages
from tasks.accelerator import run_on_accelerator
from tasks.telling import Progress, artifact_key, leave_page, log_events, only

DATASET_SECONDS = 3600.0

# Nothing is cached by Prefect: a dataset has its digest for a name, so the core sees itself what is there already.


@task(
    name="link",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=only(DatabaseBusy),
    timeout_seconds=1800,
    cache_policy=NO_CACHE,
)
def link(context_file: Path) -> LinkSummary:
    """Critiques joined with their photographs, a reason for every record left out."""
    context = Context.load(context_file)
    summary = stages.link(context, log_events())
    leave_page(artifact_key("link", context.advisor), pages.linked(summary), "Records used, and why not the others")
    return summary


@task(
    name="dataset",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=only(DatabaseBusy),
    timeout_seconds=DATASET_SECONDS + 4 * 3600.0,
    cache_policy=NO_CACHE,
)
def dataset(context_file: Path) -> DatasetSummary:
    """Split, augmented, written under its digest; on the accelerator only when the base words critiques anew."""
    context = Context.load(context_file)
    if context.recipe.drafts_wordings:
        listen = Progress("dataset", context.advisor)
        run_on_accelerator("dataset", context_file, timeout=DATASET_SECONDS, listen=listen)
        summary = summary_of(context, "dataset", DatasetSummary)
    else:
        summary = stages.dataset(context, log_events())
    leave_page(artifact_key("dataset", context.advisor), pages.built(summary), "Splits and photographs")
    return summary
