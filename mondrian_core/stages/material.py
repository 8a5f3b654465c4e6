"""Stages that gather what is learned from: link, dataset; index and synthesize beside the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.errors import BaseModelUnavailable, NothingToDo
from mondrian_core.events import Listener, Noticed, Started, ignore
from mondrian_core.files import read_json, write_json
from mondrian_core.prompts import Voice
from mondrian_core.stages.context import Context
from mondrian_core.stages.exclusive import on_accelerator
from mondrian_core.stages.summaries import (
    DatasetSummary,
    IndexSummary,
    LinkSummary,
    SynthesizeSummary,
    leave,
    summary_of,
)

if TYPE_CHECKING:
    from mondrian_core.data.base_critic import BaseCritic
    from mondrian_core.data.examples import Vary
    from mondrian_core.data.fit import Fit
    from mondrian_core.data.twins import Subject


def link(context: Context, listen: Listener = ignore) -> LinkSummary:
    """Join profiles and analyses with their photographs; every record is used or left out with a reason."""
    from mondrian_core.data.link import link as link_records

    store = context.store()
    store.voice(context.advisor)
    listen(Started("link", detail=context.advisor))
    manifest = link_records(store, context.root, context.advisor, listen)
    path = context.run_folder / "link_manifest.json"
    write_json(path, manifest.as_dict())
    left_out: dict[str, int] = {}
    for record in manifest.left_out:
        left_out[str(record.reason)] = left_out.get(str(record.reason), 0) + 1
    return leave(context, "link", LinkSummary(str(path), len(manifest.used), left_out, manifest.table()), listen)


@on_accelerator(lambda context: context.recipe.drafts_wordings)
def dataset(context: Context, listen: Listener = ignore) -> DatasetSummary:
    """Split, augment and write the dataset version that belongs to the linked records."""
    from mondrian_core.data.dataset import build
    from mondrian_core.data.link import LinkManifest

    linked = summary_of(context, "link", LinkSummary)
    manifest = LinkManifest.from_dict(read_json(Path(linked.manifest)))
    if not manifest.used:
        raise NothingToDo(
            f"No usable critique of '{context.advisor}' was found ({sum(linked.left_out.values())} records left out).",
            f"Run `mondrian link --advisor {context.advisor}` to see the reason for each record.",
        )
    voice = context.store().voice(context.advisor)
    listen(Started("dataset", detail=f"{linked.used} critiques"))
    with _words_of(context, listen) as words:
        built = build(
            manifest,
            voice,
            context.recipe.data,
            context.root,
            listen,
            fit=_fit_of(context, listen),
            index=indexed_photographs(context),
            words=words,
        )
    sheet = built.path / "contact_sheet.png"
    return leave(
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


@contextmanager
def _words_of(context: Context, listen: Listener) -> Iterator[Vary]:
    """Who makes other wordings; what the base drafted is kept afterwards."""
    from mondrian_core.data.variations import vary

    if not context.recipe.drafts_wordings:
        yield vary
        return
    from mondrian_core.data.base_critic import BaseRewriter
    from mondrian_core.data.rewording import FILE, Rewordings
    from mondrian_core.models.base import load_base

    file = context.root / "datasets" / context.advisor / FILE
    rewordings = Rewordings(BaseRewriter(load_base(context.base_model)), file)
    try:
        yield rewordings.vary
    finally:
        rewordings.save()
    message = f"The checker took {rewordings.taken} of {rewordings.asked} wordings that the base drafted."
    listen(Noticed("dataset", message))


def _fit_of(context: Context, listen: Listener) -> Fit | None:
    """How the base model counts a row's tokens; None where there is no base model, which stops the training anyway."""
    from mondrian_core.data.fit import Fit, Length
    from mondrian_core.models.lengths import counter

    try:
        count = counter(context.base_model)
    except BaseModelUnavailable as error:
        listen(Noticed("dataset", f"Whether every row fits is left to the training: {error.problem}"))
        return None
    return Fit(lambda messages, image, answer: Length(*count(messages, image, answer)), context.recipe.train.max_tokens)


def indexed_photographs(context: Context) -> list[Subject]:
    """The photographs of the advisor's retrieval index, whichever base made it, each once."""
    from mondrian_core.data.twins import Subject
    from mondrian_core.embeddings import Embeddings

    entries = Embeddings(context.store()).of(context.advisor)
    return [Subject(each.sha256, each.looks) for each in {each.sha256: each for each in entries}.values()]


@on_accelerator()
def index(context: Context, listen: Listener = ignore) -> IndexSummary:
    """Embed the advisor's photographs and let the base score those without a critique; for retrieval alone."""
    from mondrian_core.data.index import index as bring_up_to_date

    with context.store_for_writing() as store:
        voice = store.voice(context.advisor)
        listen(Started("index", detail=context.advisor))
        critic = _base_critic(context, voice)
        done = bring_up_to_date(store, context.root, context.advisor, critic, listen)
    summary = IndexSummary(
        **{**asdict(done), "left_out": [asdict(each) for each in done.left_out]}, base=critic.fingerprint
    )
    return leave(context, "index", summary, listen)


@on_accelerator()
def synthesize(context: Context, listen: Listener = ignore) -> SynthesizeSummary:
    """Let the base draft critiques of photographs that have none; they wait for a person."""
    from mondrian_core.data.synthesis import synthesize as draft
    from mondrian_core.drafts import Drafts

    with context.store_for_writing() as store:
        voice = store.voice(context.advisor)
        listen(Started("synthesize", detail=context.advisor))
        done = draft(store, context.root, voice, context.recipe, _base_critic(context, voice), listen)
        waiting = len(Drafts(store).waiting(context.advisor))
    summary = SynthesizeSummary(
        **{**asdict(done), "left_out": [asdict(each) for each in done.left_out]}, waiting=waiting
    )
    return leave(context, "synthesize", summary, listen)


def _base_critic(context: Context, voice: Voice) -> BaseCritic:
    from mondrian_core.data.base_critic import BaseCritic
    from mondrian_core.models.base import load_base

    return BaseCritic(load_base(context.base_model), voice, context.recipe.evaluate.max_tokens)
