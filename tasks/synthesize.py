"""Task that drafts critiques for a person to review, in a process of its own (tasks/stage_runner.py)."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import DatabaseBusy, ModelProcessDied
from mondrian_core.markdown import code_span, markdown_table
from mondrian_core.stages import StageContext, SynthesizeSummary, read_stage_summary
from tasks.artifact_pages import join_markdown
from tasks.reporting import ProgressReporter, artifact_key, publish_markdown_artifact, retry_only_on
from tasks.stage_runner import run_on_accelerator

SYNTHESIZE_SECONDS = 4 * 3600.0


@task(
    name="synthesize",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=retry_only_on(ModelProcessDied, DatabaseBusy),
    cache_policy=NO_CACHE,
)
def synthesize_task(context_file: Path) -> SynthesizeSummary:
    """Draft critiques for review; each is stored at once, so a retry drafts nothing twice."""
    context = StageContext.load(context_file)
    progress = ProgressReporter("synthesize", context.advisor)
    run_on_accelerator("synthesize", context_file, timeout=SYNTHESIZE_SECONDS, listen=progress)
    summary = read_stage_summary(context, "synthesize", SynthesizeSummary)
    publish_markdown_artifact(
        artifact_key("drafts", context.advisor), drafts_markdown(summary, context.advisor), "Drafts waiting for review"
    )
    return summary


def drafts_markdown(summary: SynthesizeSummary, advisor: str) -> str:
    """The drafts as Markdown, with the command to review them."""
    verdict = f"## {summary.drafted} critiques drafted, {summary.waiting} waiting for review"
    figures = markdown_table(
        ("what", "photographs"),
        [
            ("drafted before", summary.known),
            ("without a critique, not yet drafted", summary.remaining),
            ("compared with the advisor on", summary.calibrated_on),
            ("files excluded", len(summary.left_out)),
        ],
    )
    files = markdown_table(("excluded", "reason"), [(file["path"], file["reason"]) for file in summary.left_out])
    review = code_span(f"mondrian review --advisor {advisor}")
    step = f"Drafts are used for training only after a person accepts them: {review}"
    return join_markdown(verdict, figures, files if summary.left_out else "", step)
