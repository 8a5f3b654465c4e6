"""Task that links critiques with photographs. It takes seconds and needs no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import stages
from mondrian_core.errors import DatabaseBusy
from mondrian_core.stages import LinkSummary, StageContext
from tasks import artifact_pages
from tasks.reporting import artifact_key, log_listener, publish_markdown_artifact, retry_only_on


@task(
    name="link",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=retry_only_on(DatabaseBusy),
    timeout_seconds=1800,
    cache_policy=NO_CACHE,
)
def link_task(context_file: Path) -> LinkSummary:
    """Match critiques with photographs and give a reason for every excluded record."""
    context = StageContext.load(context_file)
    summary = stages.link_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("link", context.advisor),
        artifact_pages.link_markdown(summary),
        "Linked records, and why the others are excluded",
    )
    return summary
