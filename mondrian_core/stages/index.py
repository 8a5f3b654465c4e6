"""The index stage: build the retrieval index of an advisor's photographs. Not part of a retraining."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mondrian_core.events import EventListener, StageNotice, StageStarted, ignore_events
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


def indexed_photographs(context: StageContext, listen: EventListener = ignore_events) -> list[PhotographFingerprint]:
    """Fingerprints of the photographs in the advisor's retrieval index, each once, whichever base made the entry.

    A notice says how many entries of an older release have hashes only, so that crops of theirs are not recognized.
    """
    from mondrian_core.near_duplicates import PhotographFingerprint
    from mondrian_core.store.embeddings import EmbeddingStore

    found = EmbeddingStore(context.store()).find(context.advisor)
    entries = {each.sha256: each for each in sorted(found, key=lambda each: each.thumbnail is not None)}.values()
    if older := sum(each.thumbnail is None for each in entries):
        listen(
            StageNotice(
                "dataset",
                f"{older} photographs of the retrieval index were indexed by an older release, which can't recognize "
                f"crops, added borders and turned copies of them. Run `mondrian index --advisor {context.advisor}`.",
            )
        )
    return [PhotographFingerprint(each.sha256, each.perceptual_hashes, thumbnail=each.thumbnail) for each in entries]


def load_base_critic(context: StageContext, prompt: AdvisorPrompt) -> BaseModelCritic:
    """The base model without an adapter, answering as the advisor."""
    from mondrian_core.data.base_model_critic import BaseModelCritic
    from mondrian_core.models.base_model import load_base

    return BaseModelCritic(load_base(context.base_model), prompt, context.recipe.evaluate.max_tokens)
