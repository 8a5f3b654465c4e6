"""Tasks that link records and build a dataset version. They take seconds and need no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import stages
from mondrian_core.errors import DatabaseBusy
from mondrian_core.stages import DatasetSummary, LinkSummary, StageContext
from tasks import artifact_pages
from tasks.reporting import artifact_key, log_listener, publish_markdown_artifact, retry_only_on

DATASET_SECONDS = 3600.0

# Nothing is cached by Prefect: a dataset has its digest for a name, so the core sees itself what is there already.


@task(
    name="link",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=retry_only_on(DatabaseBusy),
    timeout_seconds=1800,
    cache_policy=NO_CACHE,
)
def link_task(context_file: Path) -> LinkSummary:
    """Critiques joined with their photographs, a reason for every record left out."""
    context = StageContext.load(context_file)
    summary = stages.link_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("link", context.advisor),
        artifact_pages.link_markdown(summary),
        "Records used, and why not the others",
    )
    return summary


@task(
    name="dataset",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=retry_only_on(DatabaseBusy),
    timeout_seconds=DATASET_SECONDS,
    cache_policy=NO_CACHE,
)
def dataset_task(context_file: Path) -> DatasetSummary:
    """Split and augment the linked critiques; write the dataset version under its digest."""
    context = StageContext.load(context_file)
    summary = stages.dataset_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("dataset", context.advisor), artifact_pages.dataset_markdown(summary), "Splits and photographs"
    )
    return summary
