"""Task that updates the retrieval index of an advisor, in a process of its own (tasks/stage_runner.py)."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import DatabaseBusy, ModelProcessDied
from mondrian_core.markdown import code_span, markdown_table
from mondrian_core.stages import IndexSummary, StageContext, read_stage_summary
from tasks.artifact_pages import join_markdown
from tasks.reporting import ProgressReporter, artifact_key, publish_markdown_artifact, retry_only_on
from tasks.stage_runner import run_on_accelerator

INDEX_SECONDS = 4 * 3600.0


@task(
    name="index",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=retry_only_on(ModelProcessDied, DatabaseBusy),
    cache_policy=NO_CACHE,
)
def index_task(context_file: Path) -> IndexSummary:
    """Embed and score photographs; a retry continues where the first attempt stopped."""
    context = StageContext.load(context_file)
    run_on_accelerator("index", context_file, timeout=INDEX_SECONDS, listen=ProgressReporter("index", context.advisor))
    summary = read_stage_summary(context, "index", IndexSummary)
    publish_markdown_artifact(
        artifact_key("index", context.advisor), index_markdown(summary), "Photographs in the index"
    )
    return summary


def index_markdown(summary: IndexSummary) -> str:
    """The index as Markdown."""
    verdict = f"## {summary.photographs} photographs in the index, {summary.embedded} of them new"
    figures = markdown_table(
        ("what", "photographs"),
        [
            ("indexed before", summary.known),
            ("embedded now", summary.embedded),
            ("scored by the base model (for retrieval only)", summary.scored),
            ("files excluded", len(summary.left_out)),
        ],
    )
    files = markdown_table(("excluded", "reason"), [(file["path"], file["reason"]) for file in summary.left_out])
    base = f"The vectors belong to the base {code_span(summary.base[:12])}."
    return join_markdown(verdict, figures, files if summary.left_out else "", base)
