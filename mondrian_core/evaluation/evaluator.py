"""Run an evaluation from start to finish, or rescore one from its samples without a model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadAdapter, BadInput
from mondrian_core.evaluation.early_stop import format_stopping_rule, record_stop
from mondrian_core.evaluation.measure import probes
from mondrian_core.evaluation.measure.answer_cache import AnswerCache, adapter_files_digest
from mondrian_core.evaluation.measure.comments.likelihood import PROCESSOR_TIME, probe_comment_likelihood
from mondrian_core.evaluation.measure.contamination import (
    TrainingProvenance,
    contaminated_photographs,
    photographs_trained_on,
)
from mondrian_core.evaluation.measure.cross_validation import CrossValidationPlan, cross_validate, fold_contamination
from mondrian_core.evaluation.measure.photographs import (
    STAGE,
    EvaluationPhotograph,
    LabelledPhotograph,
    label_record,
    open_labelled_photographs,
    open_unlabelled_photographs,
)
from mondrian_core.evaluation.measure.runner import (
    EvaluationModel,
    EvaluationRunner,
)
from mondrian_core.evaluation.measure.samples import OTHER_ADVISORS, EvaluationSamples, load_evaluation_samples
from mondrian_core.evaluation.report.builder import build_evaluation_report
from mondrian_core.evaluation.report.evaluation_report import EvaluationReport
from mondrian_core.events import EventListener, StageFinished, StageProgressed, ignore_events
from mondrian_core.next_steps import import_photographs_step
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import (
    BASE,
    BEST_CHAMPION,
    CANDIDATE,
    CHAMPION,
    SAMPLES_FORMAT,
    SAMPLES_NAME,
    PhotographOrigin,
    SamplesFile,
)
from mondrian_core.settings import Settings
from mondrian_core.software_identity import software_digest

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.base_model import BaseVLM

REPORT_NAME, PAGE_NAME, PLOT_NAME = "comparison_report.json", "report.html", "evaluation.png"


@dataclass(frozen=True)
class BestChampion:
    """The best champion so far. `trained` is its training data; None when unknown."""

    version: str
    folder: Path
    trained: TrainingProvenance | None


@dataclass(frozen=True, kw_only=True)
class CandidateInfo:
    """What is known about a candidate besides its weights; every value may be missing.

    Attributes:
        champion: folder of the champion, if there is one on this base.
        champion_trained: its training data, which it isn't compared on; None when unknown.
        problems: found by `models.lora` and the registry; a candidate with problems isn't asked.
        trained: the candidate's training data; None when unknown, which leaves contamination open.
        retrieval_photo_ids: IDs of the photographs that `retrieval_lookup` offers.
        retrieval_lookup: finds similar photographs for the baseline of the base with retrieval.
        other_critiques: answers in the advisors' form by the workspace's other advisors, to compare voices.
        training_photographs: critiqued photographs of training, none of them tested; the base's calibrations are fitted
            on its answers about them. Empty: they are cross-fitted on the tested photographs.
        cross_validation: retrains the recipe fold by fold, for small datasets.
        cache: folder of cached answers of base and champion.
        split: name of the split that the labelled photographs come from.
        compared_with: {"version", "manifest_sha256"} of the registry's champion, even when it is on another base;
            None when unknown. The report repeats it.
        best: the best champion so far; None when there is none on this base.
        look: values of the look that this evaluation is, with the differences that the year's earlier candidates
            showed under "earlier"; None when no registry counts the looks.
    """

    champion: Path | None = None
    champion_trained: TrainingProvenance | None = None
    problems: tuple[str, ...] = ()
    trained: TrainingProvenance | None = None
    retrieval_photo_ids: frozenset[str] = frozenset()
    retrieval_lookup: probes.RetrievalLookup | None = None
    other_critiques: Sequence[str] = ()
    training_photographs: Sequence[LabelledPhotograph] = ()
    cross_validation: CrossValidationPlan | None = None
    cache: Path | None = None
    split: str = "validation"
    compared_with: Mapping[str, Any] | None = None
    best: BestChampion | None = None
    look: Mapping[str, Any] | None = None


NO_CANDIDATE_INFO = CandidateInfo()


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """Everything that an evaluation takes besides the model.

    Attributes:
        adapter: folder of the candidate.
        labelled: photographs with the advisor's scores that the candidate wasn't trained on; none where
            cross-validation alone measures scores.
        unlabelled: more photographs of the workspace for format compliance; as many are used as the recipe wants beyond
            the labelled.
        rendered: photographs that Mondrian drew; they make up that number where the workspace has too few.
        prompt: the advisor's prompt.
        recipe: how much is measured, and the thresholds of the gates.
        out: folder for samples and report.
        info: champion, training data and so on.
    """

    adapter: Path
    labelled: Sequence[LabelledPhotograph]
    unlabelled: Sequence[Path | Image.Image] = ()
    rendered: Sequence[Path | Image.Image] = ()
    prompt: AdvisorPrompt
    recipe: Recipe
    out: Path
    info: CandidateInfo = NO_CANDIDATE_INFO


def evaluate_adapter(
    base: BaseVLM, inputs: EvaluationInputs, *, listen: EventListener = ignore_events
) -> EvaluationReport:
    """Measure an adapter against base and champion and let the gates decide.

    It writes `samples.jsonl`, `comparison_report.json`, `report.html` and `evaluation.png`. Called again with the same
    inputs after an interruption, it resumes at the next photograph.

    Raises:
        BadInput: when there are no photographs.
        DiskFull: when the samples can't be written.
    """
    from mondrian_core.evaluation.measure.mlx_model import MlxModel

    return evaluate_with_model(MlxModel(base, inputs.prompt), inputs, listen=listen)


def evaluate_with_model(
    model: EvaluationModel, inputs: EvaluationInputs, *, listen: EventListener = ignore_events
) -> EvaluationReport:
    """`evaluate_adapter` with any model."""
    recipe, info = inputs.recipe, inputs.info
    subjects, entries = open_labelled_photographs(inputs.labelled, listen)
    for photographs, origin in (
        (inputs.unlabelled, PhotographOrigin.OWN),
        (inputs.rendered, PhotographOrigin.RENDERED),
    ):
        wanted = max(0, recipe.evaluate.compliance_photographs - len(subjects))
        digests = {subject.digest for subject in subjects}
        subjects += open_unlabelled_photographs(photographs, wanted, digests, listen, origin)
    if not subjects:
        advisor = inputs.prompt.advisor
        raise BadInput("There are no photographs to evaluate with.", import_photographs_step(advisor))
    refused, load_seconds = _first_use(model, inputs.adapter, info.problems)
    problems = (*info.problems, *refused)
    arms: dict[str, Path | None] = {BASE: None} | ({} if problems else {CANDIDATE: inputs.adapter})
    if info.champion is not None:
        arms[CHAMPION] = info.champion
    if info.best is not None and info.best.folder != info.champion:
        arms[BEST_CHAMPION] = info.best.folder
    champion_trained_on = _trained_on(subjects, info, info.champion, info.champion_trained)
    best = info.best
    best_trained_on = _trained_on(subjects, info, best.folder, best.trained) if best else frozenset()
    samples = SamplesFile(inputs.out / SAMPLES_NAME)
    samples.resume_or_start(_identity(model, arms, inputs, subjects))
    _write_facts(
        samples,
        entries,
        subjects,
        info.trained,
        {
            "advisor": inputs.prompt.advisor,
            "answer_form": inputs.prompt.form.value,
            "split": info.split,
            "integrity_problems": list(problems),
            "leaked": _contaminated(entries, subjects, inputs),
            "has_champion": info.champion is not None,
            "fold_leaked": fold_contamination(info.cross_validation, inputs.prompt) if info.cross_validation else [],
            "champion_saw": None if champion_trained_on is None else sorted(champion_trained_on),
            "trained": _trained(info.trained),
            "training_mean": _mean_scores(info.trained.scores) if info.trained else None,
            "metal": model.metal,
            "compared_with": dict(info.compared_with) if info.compared_with is not None else None,
            "best_champion": best.version if best else None,
            "best_saw": None if best_trained_on is None else sorted(best_trained_on),
            "look": dict(info.look) if info.look is not None else None,
        },
    )
    if info.other_critiques and tuple(info.other_critiques) != load_evaluation_samples(samples.path).other_critiques:
        samples.append(OTHER_ADVISORS, {"critiques": list(info.other_critiques)})
    if load_seconds is not None:
        samples.append("load", {"seconds": load_seconds})
    runner = EvaluationRunner(
        model=model,
        prompt=inputs.prompt,
        adapters=arms,
        samples=samples,
        cache=AnswerCache(info.cache, base=model.fingerprint, exif=Settings().exif_enabled),
        recipe=recipe,
        listen=listen,
        champion_trained_on=champion_trained_on,
        best_trained_on=best_trained_on,
        is_lost=format_stopping_rule(subjects, recipe, has_folds=info.cross_validation is not None),
    )
    _run_measurements(runner, subjects, load_evaluation_samples(samples.path), info)
    return rescore_evaluation(inputs.out, recipe, listen=listen)


def _run_measurements(
    runner: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], known: EvaluationSamples, info: CandidateInfo
) -> None:
    """Measure what the samples `known` lack."""
    began = time.process_time()
    try:
        outcomes = runner.answer_all(subjects, known.outcomes)
        if runner.is_lost(outcomes):
            record_stop(runner, subjects, outcomes)
        elif CANDIDATE in runner.adapters:
            if known.stopped is not None:
                runner.samples.append("stopped", {"values": None})
            runner.listen(StageProgressed(STAGE, len(outcomes), len(outcomes), "divergence from the base"))
            runner.measure_divergences(subjects, outcomes, known.divergences)
            runner.measure_latency(subjects, known.pairs)
            probe_comment_likelihood(runner, subjects, known.critiques, known.comment_likelihoods)
            probes.probe_edited_copies(runner, subjects, known.edited)
            probes.record_pictures_of_tail(runner, subjects, outcomes, known.pictures)
            probes.probe_constrained_decoding(runner, subjects, known.constrained)
            probes.probe_training_photographs(runner, info.training_photographs, known.calibration)
            if info.retrieval_lookup is not None and runner.recipe.evaluate.rag:
                probes.probe_base_with_retrieval(runner, subjects, outcomes, info.retrieval_lookup, known.outcomes)
            if info.cross_validation is not None:
                read = None if known.labels else known.comment_likelihoods
                cross_validate(runner, info.cross_validation, known.folds, read)
            if not known.outcomes:  # a resumed evaluation has used more
                seconds = time.process_time() - began
                runner.samples.append(PROCESSOR_TIME, {"part": "evaluation", "seconds": seconds})
    finally:
        runner.model.use(None)


def rescore_evaluation(
    run: Path, recipe: Recipe, out: Path | None = None, *, listen: EventListener = ignore_events
) -> EvaluationReport:
    """Metrics, gates and report from a run folder's `samples.jsonl` alone, for instance under another recipe.

    Args:
        run: folder of the evaluation.
        recipe: whose thresholds the gates apply.
        out: folder for the report; None replaces that of the run.
        listen: receives the verdict.

    Raises:
        BadInput: when the folder has no samples, or those of another version.
    """
    from mondrian_core.evaluation.report.html_page import write_report_html
    from mondrian_core.evaluation.report.plots import write_evaluation_plot

    samples, folder = load_evaluation_samples(run / SAMPLES_NAME), out or run
    if not samples.facts:
        raise BadInput(f"{run} has no samples of an evaluation.", "Name the folder of a run that was evaluated.")
    if samples.identity.get("format") != SAMPLES_FORMAT:
        raise BadInput(f"The samples in {run} were written by another version of Mondrian.", "Evaluate it again.")
    report = build_evaluation_report(samples, recipe)
    write_report_html(report, samples, folder / PAGE_NAME)
    write_evaluation_plot(report, folder / PLOT_NAME)
    report.save(folder / REPORT_NAME)
    listen(StageFinished(STAGE, {"verdict": report.verdict, "report": str(folder / REPORT_NAME)}))
    return report


def _first_use(
    model: EvaluationModel, adapter: Path, problems: tuple[str, ...]
) -> tuple[tuple[str, ...], float | None]:
    """Problems that the model reports when it loads an adapter without known problems, and the seconds this took."""
    if problems:
        return (), None
    started = time.perf_counter()
    try:
        model.use(adapter)
    except BadAdapter as error:
        return (error.problem,), None
    return (), time.perf_counter() - started


def _sampling(recipe: Recipe) -> dict[str, Any]:
    """What an answer depends on besides model, prompt and photograph; greedy answers don't depend on the seed."""
    settings = recipe.evaluate
    seed = {"seed": settings.seed} if settings.temperature > 0 else {}
    return {"max_tokens": settings.max_tokens, "temperature": settings.temperature, **seed}


def _identity(
    model: EvaluationModel,
    arms: Mapping[str, Path | None],
    inputs: EvaluationInputs,
    subjects: Sequence[EvaluationPhotograph],
) -> dict[str, Any]:
    """What the samples depend on: an interrupted evaluation resumes only where all of it is equal."""
    recipe, info = inputs.recipe, inputs.info
    photographs = hashlib.sha256(json.dumps([(subject.name, subject.digest) for subject in subjects]).encode())
    return {
        "format": SAMPLES_FORMAT,
        "base": model.fingerprint,
        "software": software_digest(),
        "candidate": adapter_files_digest(inputs.adapter),
        "champion": adapter_files_digest(info.champion) if info.champion else None,
        "best_champion": adapter_files_digest(info.best.folder) if info.best else None,
        "asked": sorted(arms),
        "prompt": prompt_digest(inputs.prompt),
        "photographs": photographs.hexdigest(),
        "split": info.split,
        "sampling": {**_sampling(recipe), "latency_tokens": recipe.evaluate.latency_tokens},
        "folds": info.cross_validation.digest if info.cross_validation else None,
    }


def _contaminated(
    entries: Sequence[LabelledPhotograph], subjects: Sequence[EvaluationPhotograph], inputs: EvaluationInputs
) -> list[dict[str, str]] | None:
    """Labelled photographs that the candidate knew before, and how; None when its training data is unknown."""
    info = inputs.info
    if info.trained is None:
        return None
    pictures = {subject.name: subject.image for subject in subjects}
    tested = [(entry.photograph, pictures[entry.photograph], entry.critique) for entry in entries]
    return contaminated_photographs(tested, info.trained, inputs.prompt, info.retrieval_photo_ids)


def _trained_on(
    subjects: Sequence[EvaluationPhotograph],
    info: CandidateInfo,
    champion: Path | None,
    trained: TrainingProvenance | None,
) -> frozenset[str] | None:
    """Names of the labelled photographs that a champion was trained on, or near-duplicates of them, folds included.

    None when its training data is unknown.
    """
    if champion is None:
        return frozenset()
    if trained is None:
        return None
    of_folds = info.cross_validation.opened_photographs[0] if info.cross_validation else []
    pictures = {subject.name: subject.image for subject in (*subjects, *of_folds) if subject.labelled}
    return photographs_trained_on(pictures.items(), trained)


def _trained(trained: TrainingProvenance | None) -> dict[str, Any] | None:
    return {"photographs": len(trained.photo_ids), "everything": trained.whole_dataset} if trained else None


def _write_facts(
    samples: SamplesFile,
    entries: Sequence[LabelledPhotograph],
    subjects: Sequence[EvaluationPhotograph],
    trained: TrainingProvenance | None,
    facts: Mapping[str, Any],
) -> None:
    """Record labels, training critiques and facts that the samples lack."""
    recorded = load_evaluation_samples(samples.path)
    for entry, subject in zip(entries, subjects, strict=False):
        if entry.photograph not in recorded.labels:
            samples.append("label", label_record(subject, entry))
    for subject in subjects:
        if not subject.labelled and subject.name not in recorded.origins:
            samples.append("origin", {"photograph": subject.name, "origin": subject.origin.value})
    if trained is not None and recorded.training != trained.critiques:
        samples.append("training", {"critiques": list(trained.critiques)})
    if recorded.facts != facts:
        samples.append("facts", {"values": facts})


def _mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    if not scores:
        return None
    return {name: sum(row[name] for row in scores) / len(scores) for name in DIMENSIONS}
