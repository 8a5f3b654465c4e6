"""Task that builds a dataset version. It needs the accelerator only when the base model rewords critiques."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import stages
from mondrian_core.errors import DatabaseBusy
from mondrian_core.stages import DatasetSummary, StageContext
from tasks import artifact_pages
from tasks.reporting import artifact_key, log_listener, publish_markdown_artifact, retry_only_on

DATASET_SECONDS = 3600.0

# Prefect caches nothing: a dataset's folder is named by its digest, so the core finds an existing version itself.


@task(
    name="dataset",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=retry_only_on(DatabaseBusy),
    timeout_seconds=DATASET_SECONDS,
    cache_policy=NO_CACHE,
)
def dataset_task(context_file: Path) -> DatasetSummary:
    """Split and augment the linked critiques, and write them under their digest."""
    context = StageContext.load(context_file)
    summary = stages.dataset_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("dataset", context.advisor), artifact_pages.dataset_markdown(summary), "Splits and photographs"
    )
    return summary
