"""Tasks that link records and build a dataset version. They take seconds and need no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import stages
from mondrian_core.errors import DatabaseBusy
from mondrian_core.stages import DatasetSummary, LinkSummary, StageContext, read_stage_summary
from tasks import artifact_pages
from tasks.reporting import ProgressReporter, artifact_key, log_listener, publish_markdown_artifact, retry_only_on
from tasks.stage_runner import run_on_accelerator

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
    timeout_seconds=DATASET_SECONDS + 4 * 3600.0,
    cache_policy=NO_CACHE,
)
def dataset_task(context_file: Path) -> DatasetSummary:
    """Split, augmented, written under its digest; on the accelerator only when the base words critiques anew."""
    context = StageContext.load(context_file)
    if context.recipe.needs_paraphrase_model:
        listen = ProgressReporter("dataset", context.advisor)
        run_on_accelerator("dataset", context_file, timeout=DATASET_SECONDS, listen=listen)
        summary = read_stage_summary(context, "dataset", DatasetSummary)
    else:
        summary = stages.dataset_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("dataset", context.advisor), artifact_pages.dataset_markdown(summary), "Splits and photographs"
    )
    return summary
