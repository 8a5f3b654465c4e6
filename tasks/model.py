"""Tasks that need the accelerator: train and evaluate, each in a process of its own (tasks/accelerator.py).

Their time limits are the subprocess's, not the task's: Prefect's would not end the subprocess.
"""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import ModelProcessDied
from mondrian_core.stages import Context, EvaluateSummary, TrainSummary, summary_of
from tasks import pages
from tasks.accelerator import run_on_accelerator
from tasks.telling import Progress, artifact_key, leave_page, only

TRAIN_SECONDS = 12 * 3600.0
EVALUATE_SECONDS = 4 * 3600.0


@task(name="train", retries=1, retry_delay_seconds=10, retry_condition_fn=only(ModelProcessDied), cache_policy=NO_CACHE)
def train(context_file: Path) -> TrainSummary:
    """A LoRA adapter; tried once more when its process died, never when training itself said no.

    The second try goes on at the last checkpoint.
    """
    context = Context.load(context_file)
    run_on_accelerator("train", context_file, timeout=TRAIN_SECONDS, listen=Progress("train", context.advisor))
    summary = summary_of(context, "train", TrainSummary)
    recipe = context.recipe.train.model_dump(mode="json")
    leave_page(artifact_key("training", context.advisor), pages.trained(summary, recipe), "Loss curve and settings")
    return summary


@task(
    name="evaluate", retries=1, retry_delay_seconds=10, retry_condition_fn=only(ModelProcessDied), cache_policy=NO_CACHE
)
def evaluate(context_file: Path) -> EvaluateSummary:
    """The adapter against base and champion, and what the gates say."""
    context = Context.load(context_file)
    run_on_accelerator("evaluate", context_file, timeout=EVALUATE_SECONDS, listen=Progress("evaluate", context.advisor))
    summary = summary_of(context, "evaluate", EvaluateSummary)
    pictures = [str(path) for path in Path(summary.report).parent.glob("evaluation*.png")]
    leave_page(artifact_key("gates", context.advisor), pages.judged(summary, pictures), f"Gates: {summary.verdict}")
    return summary
