"""The evaluate stage: measure an adapter against base and champion, and apply the gates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadInput, translate_foreign_errors
from mondrian_core.events import EventListener, StageNotice, StageStarted, ignore_events
from mondrian_core.gate_strictness import judged_settings
from mondrian_core.lora_files import adapter_answer_form
from mondrian_core.portable_paths import without_absolute_paths
from mondrian_core.promotion import EvaluationConditions, answer_schema_digest
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.registry import (
    CONDITIONS,
    PHOTOGRAPHS,
    SETTINGS,
    TRAINING_INPUTS,
    AdapterVersion,
    ChampionReference,
)
from mondrian_core.registry.looks import PHOTOGRAPH_ID_LENGTH
from mondrian_core.settings import Settings
from mondrian_core.software_identity import code_commit, package_versions, training_code_digest
from mondrian_core.stages import evaluation_looks
from mondrian_core.stages.accelerator_lock import on_accelerator
from mondrian_core.stages.change_detection import training_inputs_digest
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.dataset import open_run_dataset
from mondrian_core.stages.summaries import EvaluateSummary, TrainSummary, read_stage_summary, write_stage_summary

if TYPE_CHECKING:
    from mondrian_core.data.dataset.version import DatasetVersion
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.evaluation import BestChampion, CandidateInfo, EvaluationReport, TrainingProvenance
    from mondrian_core.models.base_model import BaseVLM


@on_accelerator
def evaluate_stage(context: StageContext, listen: EventListener = ignore_events) -> EvaluateSummary:
    """Measure the adapter against base and champion on photographs it was not trained on, and apply the gates.

    The training data is looked up, not assumed: an adapter trained on every photograph is judged by cross-validation.
    The registry counts the evaluation as a look before the verdict is known. The evaluation of a registered version is
    added to its history.
    """
    from mondrian_core.evaluation import EvaluationInputs, evaluate_adapter
    from mondrian_core.mini import rendered_photographs
    from mondrian_core.models.base_model import load_base
    from mondrian_core.stages import evaluation_data

    test = _select_test_set(context, listen)
    listen(StageStarted("evaluate", detail=f"{len(test.rows)} photographs with scores: {test.split}"))
    base = load_base(context.base_model)
    champion = context.registry.champion(context.advisor)
    compared_with = (champion.reference if champion else ChampionReference()).as_dict()
    registered = _registered_version(context, test.adapter)
    look = evaluation_looks.take_look(context, base, test.adapter, registered, _deciding_photographs(context, test))
    info = _candidate_info(context, test, base, champion, listen)
    missing = max(0, context.recipe.evaluate.compliance_photographs - len(test.rows))
    own = own_unlabelled_photographs(context, test.version, missing, test.trained)
    prompt = replace(context.advisor_prompt(), form=adapter_answer_form(test.adapter))
    inputs = EvaluationInputs(
        adapter=test.adapter,
        labelled=evaluation_data.labelled_photographs_from_rows(test.rows, test.version),
        unlabelled=own,
        rendered=rendered_photographs(missing - len(own), seed=context.recipe.evaluate.seed + 1_000_003),
        prompt=prompt,
        recipe=context.recipe,
        out=context.run_folder,
        info=replace(info, compared_with=compared_with, look=evaluation_looks.look_values(context, look)),
    )
    with translate_foreign_errors(context.run_folder):
        report = evaluate_adapter(base, inputs, listen=listen)
    evaluation_looks.record_result(context, look, report)
    summary = EvaluateSummary(
        report=str(context.run_folder / "comparison_report.json"),
        html=str(context.run_folder / "report.html"),
        verdict=report.verdict,
        gates=[gate.as_dict() for gate in report.gates],
        split=test.split,
        compared_with=compared_with,
        record=evaluation_record(context, test, base, prompt, report),
        caveats=report.caveats,
    )
    if registered is not None:  # before the summary is written: a run with a summary is not resumed
        gate_report = without_absolute_paths(summary.gate_report, context.named_places)
        context.registry.record_evaluation(context.advisor, registered.version, gate_report, actor=context.actor)
    return write_stage_summary(context, "evaluate", summary, listen)


def evaluation_record(
    context: StageContext, test: _TestSet, base: BaseVLM, prompt: AdvisorPrompt, report: EvaluationReport
) -> dict[str, Any]:
    """What the registry keeps of an evaluation besides verdict, gates and champion.

    Args:
        context: the run.
        test: the adapter and its test photographs.
        base: the base that answered.
        prompt: the prompt that it was asked with.
        report: its report.
    """
    from mondrian_core.evaluation.measure.answer_cache import adapter_files_digest

    conditions = EvaluationConditions(
        base=base.identity.record(context.base_model),
        prompt=prompt_digest(prompt),
        exif=Settings().exif_enabled,
        answer_schema=answer_schema_digest(prompt.form),
    )
    look = report.as_dict().get("look")
    return {
        "run": context.run,
        CONDITIONS: conditions.as_dict(),
        "recipe": context.recipe.digest,
        SETTINGS: judged_settings(context.recipe),
        "adapter": adapter_files_digest(test.adapter),
        "dataset": test.version.digest,
        "split": test.split,
        PHOTOGRAPHS: sorted(name[:PHOTOGRAPH_ID_LENGTH] for name in _deciding_photographs(context, test)),
        "code": {"commit": code_commit(), "training": training_code_digest()},
        "packages": package_versions(),
        TRAINING_INPUTS: None if context.adapter else training_inputs_digest(context),
        **({} if look is None else {"look": look}),
    }


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


def _registered_version(context: StageContext, adapter: Path) -> AdapterVersion | None:
    """The registered version with these files, wherever the evaluated copy of them is."""
    registry, advisor = context.registry, context.advisor
    return registry.version_at(advisor, adapter) or registry.version_with_content(advisor, adapter)


def _deciding_photographs(context: StageContext, test: _TestSet) -> list[str]:
    """IDs of the photographs that decide about scores: those of the folds where too few are held out."""
    from mondrian_core.data.dataset import full_dataset

    held_out = list(dict.fromkeys(row.photo_id for row in test.rows))
    if not context.recipe.evaluate.folds or len(held_out) >= context.recipe.gates.score_photographs:
        return held_out
    return list(dict.fromkeys(row.photo_id for row in full_dataset.all_photograph_rows(test.version)))


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
        other_critiques=evaluation_data.other_advisors_critiques(context),
        training_photographs=evaluation_data.labelled_photographs_from_rows(index, test.version),
        retrieval_photo_ids=frozenset(row.photo_id for row in index),
        retrieval_lookup=evaluation_data.build_retrieval_lookup(index) if settings.rag else None,
        cross_validation=cross_validation,
        best=_best_champion(context, base, test.adapter, listen) if champion_folder is not None else None,
        cache=context.root / "runs" / "cache",
        split=test.split,
    )


def _best_champion(context: StageContext, base: BaseVLM, candidate: Path, listen: EventListener) -> BestChampion | None:
    """The best champion so far on this base; None when the candidate is that champion."""
    from mondrian_core.evaluation import BestChampion
    from mondrian_core.stages import training_data

    name = context.registry.best_champion(context.advisor, base.identity.fingerprint)
    if name is None:
        return None
    folder = context.registry.get(context.advisor, name).path
    if folder == candidate:
        return None
    trained = training_data.load_training_provenance(
        folder, context.root / "datasets" / context.advisor, listen, context.datasets.open
    )
    return BestChampion(name, folder, trained)


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


def own_unlabelled_photographs(
    context: StageContext, version: DatasetVersion, wanted: int, trained: TrainingProvenance | None = None
) -> list[Any]:
    """The workspace's photographs without labels for the format compliance gate, in the order of their names.

    Near-duplicates of training photographs are left out.

    Args:
        context: the run.
        version: the dataset; its photographs are not used.
        wanted: how many to return at most.
        trained: what the adapter was trained on; None: unknown.
    """
    from mondrian_core.evaluation.measure.contamination import photographs_trained_on
    from mondrian_core.evaluation.measure.photographs import FILE_INFO
    from mondrian_core.images import PHOTOGRAPH_SUFFIXES, downscale_to_fit, open_photograph

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
        photograph.image.info[FILE_INFO] = path.relative_to(context.root).as_posix()
        if photograph.sha256 not in known and not photographs_trained_on(
            [(photograph.sha256, photograph.image)], trained
        ):
            photographs.append(downscale_to_fit(photograph.image))
    return photographs
