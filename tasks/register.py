"""Task that registers a trained adapter as a version. It needs no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from mondrian_core import stages
from mondrian_core.stages import RegisterSummary, StageContext
from tasks import artifact_pages
from tasks.reporting import REGISTRY_TASK_OPTIONS, artifact_key, log_listener, publish_markdown_artifact
from tasks.served_pages import version_page


@task(name="register", **REGISTRY_TASK_OPTIONS)
def register_task(context_file: Path) -> RegisterSummary:
    """Register the adapter with its report as an immutable version; a retry finds the version that the run has."""
    context = StageContext.load(context_file)
    summary = stages.register_stage(context, log_listener())
    page = version_page(context.root, context.advisor, summary.version)
    publish_markdown_artifact(
        artifact_key("version", context.advisor),
        artifact_pages.registration_markdown(summary, context.advisor, page),
        summary.version,
    )
    return summary
