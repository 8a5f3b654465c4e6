"""One evaluation from beginning to end, and the same again from what it left, without a model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadAdapter, BadInput
from mondrian_core.evaluation.measure import probes
from mondrian_core.evaluation.measure.answer_cache import AnswerCache, adapter_files_digest
from mondrian_core.evaluation.measure.contamination import (
    TrainingProvenance,
    contaminated_photographs,
    photographs_trained_on,
)
from mondrian_core.evaluation.measure.cross_validation import CrossValidationPlan, cross_validate, fold_contamination
from mondrian_core.evaluation.measure.runner import (
    STAGE,
    EvaluationModel,
    EvaluationPhotograph,
    EvaluationRunner,
    LabelledPhotograph,
    label_record,
    open_labelled_photographs,
    open_unlabelled_photographs,
)
from mondrian_core.evaluation.measure.samples import EvaluationSamples, load_evaluation_samples
from mondrian_core.evaluation.report.builder import build_evaluation_report
from mondrian_core.evaluation.report.evaluation_report import EvaluationReport
from mondrian_core.events import EventListener, StageFinished, StageProgressed, ignore_events
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE, CHAMPION, SAMPLES_FORMAT, SAMPLES_NAME, SamplesFile

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.base_model import BaseVLM

REPORT_NAME, PAGE_NAME, PLOT_NAME = "comparison_report.json", "report.html", "evaluation.png"


@dataclass(frozen=True, kw_only=True)
class CandidateInfo:
    """What is known about a candidate besides its weights; all of it may be missing.

    Attributes:
        champion: folder of what is live, if there is one on this base.
        champion_trained: what the champion was trained on; it isn't compared on that. None when that isn't known.
        problems: what `models.adapters.check` and the registry found; with any, the candidate isn't asked.
        trained: what it was trained on; None when that isn't known, which leaves leakage open.
        index: lineages of the photographs that retrieval offers to `consult`.
        consult: what the base's second look is told (the rival base + RAG).
        folding: retrain the recipe fold by fold, for small sets.
        cache: folder where answers of base and champion are kept between evaluations.
        split: name of the split that the labelled photographs come from.
        compared_with: {"version", "manifest_sha256"} of the registry's champion, compared or (on another base) not;
            None when that isn't known. It is carried into the report.
    """

    champion: Path | None = None
    champion_trained: TrainingProvenance | None = None
    problems: tuple[str, ...] = ()
    trained: TrainingProvenance | None = None
    retrieval_photo_ids: frozenset[str] = frozenset()
    retrieval_lookup: probes.RetrievalLookup | None = None
    cross_validation: CrossValidationPlan | None = None
    cache: Path | None = None
    split: str = "validation"
    compared_with: Mapping[str, Any] | None = None


NO_CANDIDATE_INFO = CandidateInfo()


def evaluate_adapter(
    base: BaseVLM,
    adapter: Path,
    labelled: Sequence[LabelledPhotograph],
    unlabelled: Sequence[Path | Image.Image],
    voice: AdvisorPrompt,
    recipe: Recipe,
    out: Path,
    known: CandidateInfo = NO_CANDIDATE_INFO,
    *,
    listen: EventListener = ignore_events,
) -> EvaluationReport:
    """Measure an adapter against base and champion and let the gates decide.

    Leaves `samples.jsonl`, `comparison_report.json`, `report.html` and `evaluation.png` in `out`. Called again with the
    same arguments after an interruption, it goes on at the next photograph.

    Args:
        labelled: photographs never trained on, with the advisor's scores; none where folds alone speak of scores.
        unlabelled: more photographs for the format; as many are taken as the recipe wants beyond the labelled.
        known: champion, training set and the like.

    Raises:
        BadInput: when there is no photograph at all.
        DiskFull: when the journal can't be written.
    """
    from mondrian_core.evaluation.measure.mlx_model import MlxModel

    return evaluate_with_model(
        MlxModel(base, voice), adapter, labelled, unlabelled, voice, recipe, out, known, listen=listen
    )


def evaluate_with_model(
    model: EvaluationModel,
    adapter: Path,
    labelled: Sequence[LabelledPhotograph],
    unlabelled: Sequence[Path | Image.Image],
    voice: AdvisorPrompt,
    recipe: Recipe,
    out: Path,
    known: CandidateInfo = NO_CANDIDATE_INFO,
    *,
    listen: EventListener = ignore_events,
) -> EvaluationReport:
    """`evaluate` with the model as a value, so that it can be another than MLX's."""
    subjects, entries = open_labelled_photographs(labelled, listen)
    wanted = max(0, recipe.evaluate.compliance_photographs - len(subjects))
    subjects += open_unlabelled_photographs(unlabelled, wanted, {subject.digest for subject in subjects}, listen)
    if not subjects:
        raise BadInput("There is no photograph to evaluate with.", "Add critiques for the advisor, or photographs.")
    refused, load_seconds = _first_use(model, adapter, known.problems)
    problems = (*known.problems, *refused)
    arms: dict[str, Path | None] = {BASE: None} | ({} if problems else {CANDIDATE: adapter})
    if known.champion is not None:
        arms[CHAMPION] = known.champion
    champion_saw = _champion_saw(subjects, known)
    journal = SamplesFile(out / SAMPLES_NAME)
    journal.resume_or_start(_identity(model, arms, adapter, voice, recipe, subjects, known))
    _write_facts(
        journal,
        entries,
        subjects,
        known.trained,
        {
            "advisor": voice.advisor,
            "split": known.split,
            "integrity_problems": list(problems),
            "leaked": _leaked(entries, subjects, voice, known),
            "has_champion": known.champion is not None,
            "fold_leaked": fold_contamination(known.cross_validation, voice) if known.cross_validation else [],
            "champion_saw": None if champion_saw is None else sorted(champion_saw),
            "trained": _trained(known.trained),
            "training_mean": _mean_scores(known.trained.scores) if known.trained else None,
            "metal": model.metal,
            "compared_with": dict(known.compared_with) if known.compared_with is not None else None,
        },
    )
    if load_seconds is not None:
        journal.append("load", {"seconds": load_seconds})
    asking = EvaluationRunner(
        model=model,
        prompt=voice,
        adapters=arms,
        journal=journal,
        cache=AnswerCache(known.cache, base=model.fingerprint, prompt=prompt_digest(voice), **_sampling(recipe)),
        recipe=recipe,
        listen=listen,
        champion_trained_on=champion_saw,
    )
    _ask_everything(asking, subjects, load_evaluation_samples(journal.path), known)
    return rescore_evaluation(out, recipe, listen=listen)


def _ask_everything(
    asking: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], samples: EvaluationSamples, known: CandidateInfo
) -> None:
    try:
        outcomes = asking.answer_all(subjects, samples.outcomes)
        if CANDIDATE in asking.adapters:
            asking.listen(StageProgressed(STAGE, len(outcomes), len(outcomes), "effect of the adapter"))
            asking.measure_divergences(subjects, outcomes, samples.divergences)
            asking.measure_latency(subjects, samples.pairs)
            probes.probe_edited_copies(asking, subjects, samples.edited)
            probes.probe_constrained_decoding(asking, subjects, samples.constrained)
            if known.retrieval_lookup is not None and asking.recipe.evaluate.rag:
                probes.probe_base_with_retrieval(asking, subjects, outcomes, known.retrieval_lookup, samples.outcomes)
            if known.cross_validation is not None:
                cross_validate(asking, known.cross_validation, samples.folds)
    finally:
        asking.model.use(None)


def rescore_evaluation(
    run: Path, recipe: Recipe, out: Path | None = None, *, listen: EventListener = ignore_events
) -> EvaluationReport:
    """Metrics, gates and report from a run folder's `samples.jsonl` alone, for instance under another recipe.

    They are written to `out`; None: over those of the run.

    Raises:
        BadInput: when the folder has no samples, or those of another version.
    """
    from mondrian_core.evaluation.report.html_page import write_report_html
    from mondrian_core.evaluation.report.plots import write_evaluation_plot

    samples, folder = load_evaluation_samples(run / SAMPLES_NAME), out or run
    if not samples.facts:
        raise BadInput(f"{run} holds no samples of an evaluation.", "Name the folder of a run that was evaluated.")
    if samples.identity.get("format") != SAMPLES_FORMAT:
        raise BadInput(f"The samples in {run} were written by another version of Mondrian.", "Evaluate once more.")
    report = build_evaluation_report(samples, recipe)
    write_report_html(report, samples, folder / PAGE_NAME)
    write_evaluation_plot(report, folder / PLOT_NAME)
    report.save(folder / REPORT_NAME)
    listen(StageFinished(STAGE, {"verdict": report.verdict, "report": str(folder / REPORT_NAME)}))
    return report


def _first_use(
    model: EvaluationModel, adapter: Path, problems: tuple[str, ...]
) -> tuple[tuple[str, ...], float | None]:
    """The model's own word on an adapter that seemed sound, and the seconds that loading it took."""
    if problems:
        return (), None
    began = time.perf_counter()
    try:
        model.use(adapter)
    except BadAdapter as error:
        return (error.problem,), None
    return (), time.perf_counter() - began


def _sampling(recipe: Recipe) -> dict[str, Any]:
    """What decides an answer besides model, prompt and photograph; greedy answers don't depend on the seed."""
    settings = recipe.evaluate
    seed = {"seed": settings.seed} if settings.temperature > 0 else {}
    return {"max_tokens": settings.max_tokens, "temperature": settings.temperature, **seed}


def _identity(
    model: EvaluationModel,
    arms: Mapping[str, Path | None],
    adapter: Path,
    voice: AdvisorPrompt,
    recipe: Recipe,
    subjects: Sequence[EvaluationPhotograph],
    known: CandidateInfo,
) -> dict[str, Any]:
    photographs = hashlib.sha256(json.dumps([(subject.name, subject.digest) for subject in subjects]).encode())
    return {
        "format": SAMPLES_FORMAT,
        "base": model.fingerprint,
        "candidate": adapter_files_digest(adapter),
        "champion": adapter_files_digest(known.champion) if known.champion else None,
        "asked": sorted(arms),
        "prompt": prompt_digest(voice),
        "photographs": photographs.hexdigest(),
        "split": known.split,
        "sampling": {**_sampling(recipe), "latency_tokens": recipe.evaluate.latency_tokens},
        "folds": known.cross_validation.digest if known.cross_validation else None,
    }


def _leaked(
    entries: Sequence[LabelledPhotograph],
    subjects: Sequence[EvaluationPhotograph],
    voice: AdvisorPrompt,
    known: CandidateInfo,
) -> list[dict[str, str]] | None:
    if known.trained is None:
        return None
    pictures = {subject.name: subject.image for subject in subjects}
    tested = [(entry.photograph, pictures[entry.photograph], entry.critique) for entry in entries]
    return contaminated_photographs(tested, known.trained, voice, known.retrieval_photo_ids)


def _champion_saw(subjects: Sequence[EvaluationPhotograph], known: CandidateInfo) -> frozenset[str] | None:
    """Names of the labelled photographs, those of the folds included, that the champion was trained on or a twin of."""
    if known.champion is None:
        return frozenset()
    if known.champion_trained is None:
        return None
    more = known.cross_validation.opened_photographs[0] if known.cross_validation else []
    pictures = {subject.name: subject.image for subject in (*subjects, *more) if subject.labelled}
    return photographs_trained_on(pictures.items(), known.champion_trained)


def _trained(trained: TrainingProvenance | None) -> dict[str, Any] | None:
    return {"photographs": len(trained.photo_ids), "everything": trained.whole_dataset} if trained else None


def _write_facts(
    journal: SamplesFile,
    entries: Sequence[LabelledPhotograph],
    subjects: Sequence[EvaluationPhotograph],
    trained: TrainingProvenance | None,
    facts: Mapping[str, Any],
) -> None:
    samples = load_evaluation_samples(journal.path)
    for entry, subject in zip(entries, subjects, strict=False):
        if entry.photograph not in samples.labels:
            journal.append("label", label_record(subject, entry))
    if trained is not None and samples.training != trained.critiques:
        journal.append("training", {"critiques": list(trained.critiques)})
    if samples.facts != facts:
        journal.append("facts", {"values": facts})


def _mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    if not scores:
        return None
    return {name: sum(row[name] for row in scores) / len(scores) for name in DIMENSIONS}
