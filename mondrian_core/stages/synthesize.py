"""The synthesize stage: draft critiques with the base model for a person to review. Not part of a retraining."""

from __future__ import annotations

from dataclasses import asdict

from mondrian_core.events import EventListener, StageStarted, ignore_events
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.index import load_base_critic
from mondrian_core.stages.summaries import SynthesizeSummary, write_stage_summary


@on_accelerator
def synthesize_stage(context: StageContext, listen: EventListener = ignore_events) -> SynthesizeSummary:
    """Draft critiques of photographs that have none; they wait for a person's review."""
    from mondrian_core.data.drafting import draft_critiques
    from mondrian_core.store.drafts import DraftStore

    with context.store_for_writing() as store:
        prompt = store.advisor(context.advisor)
        listen(StageStarted("synthesize", detail=context.advisor))
        done = draft_critiques(store, context.root, prompt, context.recipe, load_base_critic(context, prompt), listen)
        waiting = len(DraftStore(store).waiting(context.advisor))
    summary = SynthesizeSummary(
        **{**asdict(done), "left_out": [asdict(each) for each in done.left_out]}, waiting=waiting
    )
    return write_stage_summary(context, "synthesize", summary, listen)
