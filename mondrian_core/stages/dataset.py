"""The dataset stage: split, augment and store the linked critiques; and how later stages open that dataset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.errors import BaseModelUnavailable, NothingToDo
from mondrian_core.events import EventListener, StageNotice, StageStarted, ignore_events
from mondrian_core.files import read_json, write_json
from mondrian_core.models.base_download import fetch_base
from mondrian_core.shared_storage import fetch_dataset
from mondrian_core.stages.change_detection import training_inputs_digest
from mondrian_core.stages.context import INPUTS_FILE, StageContext
from mondrian_core.stages.index import indexed_photographs
from mondrian_core.stages.link import step_without_usable_critiques
from mondrian_core.stages.summaries import (
    DatasetSummary,
    LinkSummary,
    read_stage_summary,
    write_stage_summary,
)
from mondrian_core.store.critique_counts import count_critiqued_photographs

if TYPE_CHECKING:
    from mondrian_core.data.dataset.token_budget import TokenBudget
    from mondrian_core.data.dataset.version import DatasetVersion


def dataset_stage(context: StageContext, listen: EventListener = ignore_events) -> DatasetSummary:
    """Build the dataset version of the linked records: split, augmented, stored under its digest."""
    from mondrian_core.data.dataset.builder import BuildLimits, build_dataset
    from mondrian_core.data.linking.link import LinkManifest

    linked = read_stage_summary(context, "link", LinkSummary)
    manifest = LinkManifest.from_dict(read_json(Path(linked.manifest)))
    if not manifest.used:
        excluded = sum(linked.left_out.values())
        raise NothingToDo(
            f"No usable critique of '{context.advisor}' was found{f' ({excluded} records excluded)' * bool(excluded)}.",
            step_without_usable_critiques(context),
        )
    advisor = context.store().advisor(context.advisor)
    listen(StageStarted("dataset", detail=f"{linked.used} critiques"))
    critiques = count_critiqued_photographs(context.store().profiles(context.advisor))
    built = build_dataset(
        manifest,
        advisor,
        context.recipe.data,
        context.root,
        listen,
        BuildLimits(token_budget=_token_budget(context, listen), index=indexed_photographs(context, listen)),
    )
    context.datasets.add(built)
    if context.shared_storage() is not None:
        inputs = {"advisor": asdict(advisor), "training_inputs": training_inputs_digest(context)}
        write_json(context.run_folder / INPUTS_FILE, inputs)
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
            critiques=critiques,
            answer_form=built.answer_form.value,
            parts=dict(built.manifest.get("parts", {})),
        ),
        listen,
    )


def open_run_dataset(context: StageContext) -> DatasetVersion:
    """The dataset version that the run names, else the one that it built; fetched when another machine published it."""
    if context.dataset:
        return context.datasets.open(Path(context.dataset))
    built = read_stage_summary(context, "dataset", DatasetSummary)
    storage = None if (Path(built.path) / "manifest.json").is_file() else context.shared_storage()
    if storage is None:
        return context.datasets.open(Path(built.path))
    return context.datasets.open(fetch_dataset(storage, context.root, context.advisor, built.digest))


def _token_budget(context: StageContext, listen: EventListener) -> TokenBudget | None:
    """How the base model counts a row's tokens; None without a base model, where training can't start anyway."""
    from mondrian_core.data.dataset.token_budget import RowLength, TokenBudget
    from mondrian_core.models.token_counting import make_token_counter

    try:
        fetch_base(context.base_model, listen)
        count = make_token_counter(context.base_model)
    except BaseModelUnavailable as error:
        listen(StageNotice("dataset", f"Token counts are checked only when training starts: {error.problem}"))
        return None
    return TokenBudget(
        lambda messages, image, answer: RowLength(*count(messages, image, answer)), context.recipe.train.max_tokens
    )
