"""Stages that gather what is learned from: link, dataset; index and synthesize beside the loop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.errors import BaseModelUnavailable, NothingToDo
from mondrian_core.events import EventListener, StageNotice, StageStarted, ignore_events
from mondrian_core.files import read_json, write_json
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import (
    DatasetSummary,
    IndexSummary,
    LinkSummary,
    SynthesizeSummary,
    read_stage_summary,
    write_stage_summary,
)

if TYPE_CHECKING:
    from mondrian_core.data.base_model_critic import BaseModelCritic
    from mondrian_core.data.dataset.token_budget import TokenBudget
    from mondrian_core.near_duplicates import PhotographFingerprint


def link_stage(context: StageContext, listen: EventListener = ignore_events) -> LinkSummary:
    """Join profiles and analyses with their photographs; every record is used or left out with a reason."""
    from mondrian_core.data.linking.link import link_critiques as link_records

    store = context.store()
    store.advisor(context.advisor)
    listen(StageStarted("link", detail=context.advisor))
    manifest = link_records(store, context.root, context.advisor, listen)
    path = context.run_folder / "link_manifest.json"
    write_json(path, manifest.as_dict())
    left_out: dict[str, int] = {}
    for record in manifest.left_out:
        left_out[str(record.reason)] = left_out.get(str(record.reason), 0) + 1
    return write_stage_summary(
        context, "link", LinkSummary(str(path), len(manifest.used), left_out, manifest.table()), listen
    )


def dataset_stage(context: StageContext, listen: EventListener = ignore_events) -> DatasetSummary:
    """Split, augment and write the dataset version that belongs to the linked records."""
    from mondrian_core.data.dataset.builder import BuildLimits, build_dataset
    from mondrian_core.data.linking.link import LinkManifest

    linked = read_stage_summary(context, "link", LinkSummary)
    manifest = LinkManifest.from_dict(read_json(Path(linked.manifest)))
    if not manifest.used:
        raise NothingToDo(
            f"No usable critique of '{context.advisor}' was found ({sum(linked.left_out.values())} records left out).",
            f"Run `mondrian link --advisor {context.advisor}` to see the reason for each record.",
        )
    voice = context.store().advisor(context.advisor)
    listen(StageStarted("dataset", detail=f"{linked.used} critiques"))
    built = build_dataset(
        manifest,
        voice,
        context.recipe.data,
        context.root,
        listen,
        BuildLimits(token_budget=_token_budget(context, listen), index=indexed_photographs(context)),
    )
    sheet = built.path / "contact_sheet.png"
    return write_stage_summary(
        context,
        "dataset",
        DatasetSummary(
            path=str(built.path),
            digest=built.digest,
            photographs=dict(built.photographs),
            rows=dict(built.rows_per_split),
            contact_sheet=str(sheet) if sheet.exists() else None,
        ),
        listen,
    )


def _token_budget(context: StageContext, listen: EventListener) -> TokenBudget | None:
    """How the base model counts a row's tokens; None where there is no base model, which stops the training anyway."""
    from mondrian_core.data.dataset.token_budget import RowLength, TokenBudget
    from mondrian_core.models.token_counting import make_token_counter

    try:
        count = make_token_counter(context.base_model)
    except BaseModelUnavailable as error:
        listen(StageNotice("dataset", f"Whether every row fits is left to the training: {error.problem}"))
        return None
    return TokenBudget(
        lambda messages, image, answer: RowLength(*count(messages, image, answer)), context.recipe.train.max_tokens
    )


def indexed_photographs(context: StageContext) -> list[PhotographFingerprint]:
    """The photographs of the advisor's retrieval index, whichever base made it, each once."""
    from mondrian_core.near_duplicates import PhotographFingerprint
    from mondrian_core.store.embeddings import EmbeddingStore

    entries = EmbeddingStore(context.store()).find(context.advisor)
    return [
        PhotographFingerprint(each.sha256, each.perceptual_hashes)
        for each in {each.sha256: each for each in entries}.values()
    ]


@on_accelerator()
def index_stage(context: StageContext, listen: EventListener = ignore_events) -> IndexSummary:
    """Embed the advisor's photographs and let the base score those without a critique; for retrieval alone."""
    from mondrian_core.data.retrieval_index import build_index as bring_up_to_date

    with context.store_for_writing() as store:
        voice = store.advisor(context.advisor)
        listen(StageStarted("index", detail=context.advisor))
        critic = _base_critic(context, voice)
        done = bring_up_to_date(store, context.root, context.advisor, critic, listen)
    summary = IndexSummary(
        **{**asdict(done), "left_out": [asdict(each) for each in done.left_out]}, base=critic.fingerprint
    )
    return write_stage_summary(context, "index", summary, listen)


@on_accelerator()
def synthesize_stage(context: StageContext, listen: EventListener = ignore_events) -> SynthesizeSummary:
    """Let the base draft critiques of photographs that have none; they wait for a person."""
    from mondrian_core.data.drafting import draft_critiques as draft
    from mondrian_core.store.drafts import DraftStore

    with context.store_for_writing() as store:
        voice = store.advisor(context.advisor)
        listen(StageStarted("synthesize", detail=context.advisor))
        done = draft(store, context.root, voice, context.recipe, _base_critic(context, voice), listen)
        waiting = len(DraftStore(store).waiting(context.advisor))
    summary = SynthesizeSummary(
        **{**asdict(done), "left_out": [asdict(each) for each in done.left_out]}, waiting=waiting
    )
    return write_stage_summary(context, "synthesize", summary, listen)


def _base_critic(context: StageContext, voice: AdvisorPrompt) -> BaseModelCritic:
    from mondrian_core.data.base_model_critic import BaseModelCritic
    from mondrian_core.models.base_model import load_base

    return BaseModelCritic(load_base(context.base_model), voice, context.recipe.evaluate.max_tokens)
