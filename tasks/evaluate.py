"""Task that evaluates an adapter, in a process of its own (tasks/stage_runner.py)."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import ModelProcessDied
from mondrian_core.stages import EvaluateSummary, StageContext, read_stage_summary
from tasks import artifact_pages
from tasks.reporting import ProgressReporter, artifact_key, publish_markdown_artifact, retry_only_on
from tasks.served_pages import run_page
from tasks.stage_runner import run_on_accelerator

EVALUATE_SECONDS = 4 * 3600.0


@task(
    name="evaluate",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=retry_only_on(ModelProcessDied),
    cache_policy=NO_CACHE,
)
def evaluate_task(context_file: Path) -> EvaluateSummary:
    """Measure the adapter against base and champion, and apply the gates."""
    context = StageContext.load(context_file)
    run_on_accelerator(
        "evaluate", context_file, timeout=EVALUATE_SECONDS, listen=ProgressReporter("evaluate", context.advisor)
    )
    summary = read_stage_summary(context, "evaluate", EvaluateSummary)
    pictures = [str(path) for path in Path(summary.report).parent.glob("evaluation*.png")]
    publish_markdown_artifact(
        artifact_key("gates", context.advisor),
        artifact_pages.gates_markdown(summary, run_page(context.root, context.run, report=True), pictures),
        f"Gates: {summary.verdict}",
    )
    return summary
