"""The index stage: build the retrieval index of an advisor's photographs. Not part of a retraining."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mondrian_core.events import EventListener, StageStarted, ignore_events
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import IndexSummary, write_stage_summary

if TYPE_CHECKING:
    from mondrian_core.data.base_model_critic import BaseModelCritic
    from mondrian_core.near_duplicates import PhotographFingerprint


@on_accelerator
def index_stage(context: StageContext, listen: EventListener = ignore_events) -> IndexSummary:
    """Embed the advisor's photographs; the base model scores those without a critique, for retrieval only."""
    from mondrian_core.data.retrieval_index import build_index

    with context.store_for_writing() as store:
        prompt = store.advisor(context.advisor)
        listen(StageStarted("index", detail=context.advisor))
        critic = load_base_critic(context, prompt)
        done = build_index(store, context.root, context.advisor, critic, listen)
    summary = IndexSummary(
        **{**asdict(done), "left_out": [asdict(each) for each in done.left_out]}, base=critic.fingerprint
    )
    return write_stage_summary(context, "index", summary, listen)


def indexed_photographs(context: StageContext) -> list[PhotographFingerprint]:
    """Fingerprints of the photographs in the advisor's retrieval index, each once, whichever base made the entry."""
    from mondrian_core.near_duplicates import PhotographFingerprint
    from mondrian_core.store.embeddings import EmbeddingStore

    entries = EmbeddingStore(context.store()).find(context.advisor)
    return [
        PhotographFingerprint(each.sha256, each.perceptual_hashes)
        for each in {each.sha256: each for each in entries}.values()
    ]


def load_base_critic(context: StageContext, prompt: AdvisorPrompt) -> BaseModelCritic:
    """The base model without an adapter, answering as the advisor."""
    from mondrian_core.data.base_model_critic import BaseModelCritic
    from mondrian_core.models.base_model import load_base

    return BaseModelCritic(load_base(context.base_model), prompt, context.recipe.evaluate.max_tokens)
