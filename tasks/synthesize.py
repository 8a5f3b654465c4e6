"""Task that drafts critiques for a person to review, in a process of its own (tasks/accelerator.py)."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import DatabaseBusy, ModelProcessDied
from mondrian_core.markdown import code, table
from mondrian_core.stages import Context, SynthesizeSummary, summary_of
from tasks.accelerator import run_on_accelerator
from tasks.pages import page
from tasks.telling import Progress, artifact_key, leave_page, only

SYNTHESIZE_SECONDS = 4 * 3600.0


@task(
    name="synthesize",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=only(ModelProcessDied, DatabaseBusy),
    cache_policy=NO_CACHE,
)
def synthesize(context_file: Path) -> SynthesizeSummary:
    """Drafts that wait; each is kept as it is made, so nothing is drafted twice."""
    context = Context.load(context_file)
    progress = Progress("synthesize", context.advisor)
    run_on_accelerator("synthesize", context_file, timeout=SYNTHESIZE_SECONDS, listen=progress)
    summary = summary_of(context, "synthesize", SynthesizeSummary)
    leave_page(artifact_key("drafts", context.advisor), drafted(summary, context.advisor), "Drafts that wait")
    return summary


def drafted(summary: SynthesizeSummary, advisor: str) -> str:
    """The run as Markdown; the next step is a person's."""
    verdict = f"## {summary.drafted} critiques drafted, {summary.waiting} wait for a review"
    figures = table(
        ("what", "photographs"),
        [
            ("drafted before", summary.known),
            ("without a critique, still to draft", summary.remaining),
            ("compared with the advisor on", summary.calibrated_on),
            ("files left out", len(summary.left_out)),
        ],
    )
    files = table(("left out", "reason"), [(each["path"], each["reason"]) for each in summary.left_out])
    step = f"Nothing of this is trained on before a person accepts it: {code(f'mondrian review --advisor {advisor}')}"
    return page(verdict, figures, files if summary.left_out else "", step)
