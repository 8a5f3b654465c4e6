"""Task that trains an adapter, in a process of its own (tasks/stage_runner.py).

The time limit applies to the process, not to the task: Prefect's limit would not end the process.
"""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import ModelProcessDied
from mondrian_core.stages import StageContext, TrainSummary, read_stage_summary
from tasks import artifact_pages
from tasks.reporting import ProgressReporter, artifact_key, publish_markdown_artifact, retry_only_on
from tasks.served_pages import run_page
from tasks.stage_runner import run_on_accelerator

TRAIN_SECONDS = 12 * 3600.0


@task(
    name="train",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=retry_only_on(ModelProcessDied),
    cache_policy=NO_CACHE,
)
def train_task(context_file: Path) -> TrainSummary:
    """Train a LoRA adapter; when the process died it is retried once, from the last checkpoint."""
    context = StageContext.load(context_file)
    run_on_accelerator("train", context_file, timeout=TRAIN_SECONDS, listen=ProgressReporter("train", context.advisor))
    summary = read_stage_summary(context, "train", TrainSummary)
    publish_training_page(context, summary)
    return summary


def publish_training_page(context: StageContext, summary: TrainSummary) -> None:
    """Publish loss curve and settings as an artifact."""
    recipe = context.recipe.train.model_dump(mode="json")
    publish_markdown_artifact(
        artifact_key("training", context.advisor),
        artifact_pages.training_markdown(summary, recipe, run_page(context.root, context.run)),
        "Loss curve and settings",
    )
