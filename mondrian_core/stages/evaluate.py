"""The evaluate stage: measure an adapter against base and champion, and apply the gates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadInput, translate_foreign_errors
from mondrian_core.events import EventListener, StageNotice, StageStarted, ignore_events
from mondrian_core.registry import AdapterVersion, ChampionReference
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.dataset import open_run_dataset
from mondrian_core.stages.summaries import EvaluateSummary, TrainSummary, read_stage_summary, write_stage_summary

if TYPE_CHECKING:
    from mondrian_core.data.dataset.version import DatasetVersion
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.evaluation import CandidateInfo, TrainingProvenance
    from mondrian_core.models.base_model import BaseVLM


@on_accelerator
def evaluate_stage(context: StageContext, listen: EventListener = ignore_events) -> EvaluateSummary:
    """Measure the adapter against base and champion on photographs it was not trained on, and apply the gates.

    The training data is looked up, not assumed: an adapter trained on every photograph is judged by cross-validation.
    The evaluation of a registered version is added to the registry's history.
    """
    from mondrian_core.evaluation import EvaluationInputs, evaluate_adapter
    from mondrian_core.models.base_model import load_base
    from mondrian_core.stages import evaluation_data

    test = _select_test_set(context, listen)
    listen(StageStarted("evaluate", detail=f"{len(test.rows)} photographs with scores: {test.split}"))
    base = load_base(context.base_model)
    champion = context.registry.champion(context.advisor)
    compared_with = (champion.reference if champion else ChampionReference()).as_dict()
    missing = max(0, context.recipe.evaluate.compliance_photographs - len(test.rows))
    inputs = EvaluationInputs(
        adapter=test.adapter,
        labelled=evaluation_data.labelled_photographs_from_rows(test.rows, test.version),
        unlabelled=unlabelled_photographs(context, test.version, missing, test.trained),
        prompt=context.store().advisor(context.advisor),
        recipe=context.recipe,
        out=context.run_folder,
        info=replace(_candidate_info(context, test, base, champion, listen), compared_with=compared_with),
    )
    with translate_foreign_errors(context.run_folder):
        report = evaluate_adapter(base, inputs, listen=listen)
    summary = EvaluateSummary(
        report=str(context.run_folder / "comparison_report.json"),
        html=str(context.run_folder / "report.html"),
        verdict=report.verdict,
        gates=[gate.as_dict() for gate in report.gates],
        split=test.split,
        compared_with=compared_with,
    )
    write_stage_summary(context, "evaluate", summary, listen)
    if (registered := context.registry.version_at(context.advisor, test.adapter)) is not None:
        context.registry.record_evaluation(
            context.advisor, registered.version, summary.gate_report, actor=context.actor
        )
    return summary


@dataclass(frozen=True, kw_only=True)
class _TestSet:
    """An adapter and the labelled photographs that judge it; `trained` is None when its training data is unknown."""

    adapter: Path
    version: DatasetVersion
    trained: TrainingProvenance | None
    rows: list[DatasetRow]
    split: str


def _select_test_set(context: StageContext, listen: EventListener) -> _TestSet:
    from mondrian_core.stages import evaluation_data, training_data

    version = open_run_dataset(context)
    adapter = Path(context.adapter or read_stage_summary(context, "train", TrainSummary).adapter)
    trained = training_data.load_training_provenance(
        adapter, context.root / "datasets" / context.advisor, listen, context.datasets.open
    )
    rows, split = evaluation_data.select_test_rows(version, trained)
    return _TestSet(adapter=adapter, version=version, trained=trained, rows=rows, split=split)


def _candidate_info(
    context: StageContext, test: _TestSet, base: BaseVLM, champion: AdapterVersion | None, listen: EventListener
) -> CandidateInfo:
    """What the evaluation must know of the candidate and of the champion, besides their answers."""
    from mondrian_core.evaluation import CandidateInfo
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.stages import evaluation_data, training_data

    settings, datasets = context.recipe.evaluate, context.root / "datasets" / context.advisor
    tested = {row.photo_id for row in test.rows}
    index = [row for row in test.version.rows("train") if row.photo_id not in tested]
    champion_folder = _comparable_champion_folder(champion, base, test.adapter, listen)
    champion_trained = cross_validation = None
    if champion_folder is not None:
        champion_trained = training_data.load_training_provenance(
            champion_folder, datasets, listen, context.datasets.open
        )
    if settings.folds:
        cross_validation = evaluation_data.build_cross_validation_plan(
            test.version,
            settings.folds,
            context.base_model,
            training_data.load_train_recipe(test.adapter, context.recipe.train, listen),
            context.run_folder / "folds",
            listen,
        )
    return CandidateInfo(
        champion=champion_folder,
        champion_trained=champion_trained,
        problems=(
            *lora_layers.validate_adapter_folder(base, test.adapter),
            *base.identity.differences(_trained_base(context)),
        ),
        trained=test.trained,
        training_photographs=evaluation_data.labelled_photographs_from_rows(index, test.version),
        retrieval_photo_ids=frozenset(row.photo_id for row in index),
        retrieval_lookup=evaluation_data.build_retrieval_lookup(index) if settings.rag else None,
        cross_validation=cross_validation,
        cache=context.root / "runs" / "cache",
        split=test.split,
    )


def _trained_base(context: StageContext) -> dict[str, Any] | None:
    """The base that this run trained on; None for a registered version, whose manifest records it."""
    return None if context.adapter else read_stage_summary(context, "train", TrainSummary).base


def _comparable_champion_folder(
    champion: AdapterVersion | None, base: BaseVLM, candidate: Path, listen: EventListener
) -> Path | None:
    """The champion's folder when it can be compared: the same base, and not the candidate itself."""
    if champion is None or champion.path == candidate:
        return None
    if differences := base.identity.differences(champion.manifest.get("base")):
        listen(
            StageNotice(
                "evaluate",
                f"The champion {champion.version} was trained on another base and is not compared: "
                f"{'; '.join(differences)}.",
            )
        )
        return None
    return champion.path


def unlabelled_photographs(
    context: StageContext, version: DatasetVersion, wanted: int, trained: TrainingProvenance | None = None
) -> list[Any]:
    """Photographs without labels for the format compliance gate; no near-duplicates of training photographs.

    The workspace's photographs come first, in the order of their names; rendered ones make up the number.

    Args:
        context: the run.
        version: the dataset; its photographs are not used.
        wanted: how many to return.
        trained: what the adapter was trained on; None: unknown.
    """
    from mondrian_core.evaluation.measure.contamination import photographs_trained_on
    from mondrian_core.images import PHOTOGRAPH_SUFFIXES, downscale_to_fit, open_photograph
    from mondrian_core.mini import rendered_photographs

    known = version.photograph_hashes
    photographs: list[Any] = []
    for path in sorted((context.root / "source").rglob("*")):
        if len(photographs) >= wanted:
            break
        if path.suffix.lower() not in PHOTOGRAPH_SUFFIXES:
            continue
        try:
            photograph = open_photograph(path)
        except BadInput:
            continue
        if photograph.sha256 not in known and not photographs_trained_on(
            [(photograph.sha256, photograph.image)], trained
        ):
            photographs.append(downscale_to_fit(photograph.image))
    return [
        *photographs,
        *rendered_photographs(wanted - len(photographs), seed=context.recipe.evaluate.seed + 1_000_003),
    ]
