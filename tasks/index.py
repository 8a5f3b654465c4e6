"""Task that brings the index of an advisor's photographs up to date, in a process of its own (tasks/accelerator.py)."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import DatabaseBusy, ModelProcessDied
from mondrian_core.markdown import code, table
from mondrian_core.stages import Context, IndexSummary, summary_of
from tasks.accelerator import run_on_accelerator
from tasks.pages import page
from tasks.telling import Progress, artifact_key, leave_page, only

INDEX_SECONDS = 4 * 3600.0


@task(
    name="index",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=only(ModelProcessDied, DatabaseBusy),
    cache_policy=NO_CACHE,
)
def index(context_file: Path) -> IndexSummary:
    """Embeddings and scores; a run that is tried again goes on where it stopped."""
    context = Context.load(context_file)
    run_on_accelerator("index", context_file, timeout=INDEX_SECONDS, listen=Progress("index", context.advisor))
    summary = summary_of(context, "index", IndexSummary)
    leave_page(artifact_key("index", context.advisor), indexed(summary), "Photographs in the index")
    return summary


def indexed(summary: IndexSummary) -> str:
    """The index as Markdown."""
    verdict = f"## {summary.photographs} photographs in the index, {summary.embedded} of them new"
    figures = table(
        ("what", "photographs"),
        [
            ("indexed before", summary.known),
            ("embedded now", summary.embedded),
            ("scored by the base model (for retrieval alone)", summary.scored),
            ("files left out", len(summary.left_out)),
        ],
    )
    files = table(("left out", "reason"), [(each["path"], each["reason"]) for each in summary.left_out])
    base = f"The vectors belong to the base {code(summary.base[:12])}."
    return page(verdict, figures, files if summary.left_out else "", base)
