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
from mondrian_core.evaluation import probing
from mondrian_core.evaluation.asking import (
    STAGE,
    Asking,
    Labelled,
    Model,
    Subject,
    label_record,
    labelled_subjects,
    unlabelled_subjects,
)
from mondrian_core.evaluation.cache import AnswerCache, adapter_digest
from mondrian_core.evaluation.folds import Folding, cross_validate, fold_leaks
from mondrian_core.evaluation.leaks import Trained, leaks, seen_by
from mondrian_core.evaluation.outcomes import BASE, CANDIDATE, CHAMPION, Journal
from mondrian_core.evaluation.report import Report
from mondrian_core.evaluation.samples import Samples, read_samples
from mondrian_core.evaluation.summary import report_of
from mondrian_core.events import Advanced, Finished, Listener, ignore
from mondrian_core.prompts import Voice, prompt_digest
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.base import Base

FORMAT = 2  # of samples.jsonl; raise it when what is in there means something else
SAMPLES, REPORT, PAGE, PICTURE = "samples.jsonl", "comparison_report.json", "report.html", "evaluation.png"


@dataclass(frozen=True, kw_only=True)
class Known:
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
    champion_trained: Trained | None = None
    problems: tuple[str, ...] = ()
    trained: Trained | None = None
    index: frozenset[str] = frozenset()
    consult: probing.Consult | None = None
    folding: Folding | None = None
    cache: Path | None = None
    split: str = "validation"
    compared_with: Mapping[str, Any] | None = None


NOTHING_KNOWN = Known()


def evaluate(
    base: Base,
    adapter: Path,
    labelled: Sequence[Labelled],
    unlabelled: Sequence[Path | Image.Image],
    voice: Voice,
    recipe: Recipe,
    out: Path,
    known: Known = NOTHING_KNOWN,
    *,
    listen: Listener = ignore,
) -> Report:
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
    from mondrian_core.evaluation.mlx_model import MlxModel

    return evaluate_model(
        MlxModel(base, voice), adapter, labelled, unlabelled, voice, recipe, out, known, listen=listen
    )


def evaluate_model(
    model: Model,
    adapter: Path,
    labelled: Sequence[Labelled],
    unlabelled: Sequence[Path | Image.Image],
    voice: Voice,
    recipe: Recipe,
    out: Path,
    known: Known = NOTHING_KNOWN,
    *,
    listen: Listener = ignore,
) -> Report:
    """`evaluate` with the model as a value, so that it can be another than MLX's."""
    subjects, entries = labelled_subjects(labelled, listen)
    wanted = max(0, recipe.evaluate.compliance_photographs - len(subjects))
    subjects += unlabelled_subjects(unlabelled, wanted, {subject.digest for subject in subjects}, listen)
    if not subjects:
        raise BadInput("There is no photograph to evaluate with.", "Add critiques for the advisor, or photographs.")
    refused, load_seconds = _first_use(model, adapter, known.problems)
    problems = (*known.problems, *refused)
    arms: dict[str, Path | None] = {BASE: None} | ({} if problems else {CANDIDATE: adapter})
    if known.champion is not None:
        arms[CHAMPION] = known.champion
    champion_saw = _champion_saw(subjects, known)
    journal = Journal(out / SAMPLES)
    journal.begin(_identity(model, arms, adapter, voice, recipe, subjects, known))
    _note(
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
            "fold_leaked": fold_leaks(known.folding, voice) if known.folding else [],
            "champion_saw": None if champion_saw is None else sorted(champion_saw),
            "trained": _trained(known.trained),
            "training_mean": _mean_scores(known.trained.scores) if known.trained else None,
            "metal": model.metal,
            "compared_with": dict(known.compared_with) if known.compared_with is not None else None,
        },
    )
    if load_seconds is not None:
        journal.append("load", {"seconds": load_seconds})
    asking = Asking(
        model=model,
        adapters=arms,
        journal=journal,
        cache=AnswerCache(known.cache, base=model.fingerprint, prompt=prompt_digest(voice), **_sampling(recipe)),
        recipe=recipe,
        listen=listen,
        champion_saw=champion_saw,
    )
    _ask_everything(asking, subjects, read_samples(journal.path), known)
    return rescore(out, recipe, listen=listen)


def _ask_everything(asking: Asking, subjects: Sequence[Subject], samples: Samples, known: Known) -> None:
    try:
        outcomes = asking.answers(subjects, samples.outcomes)
        if CANDIDATE in asking.adapters:
            asking.listen(Advanced(STAGE, len(outcomes), len(outcomes), "effect of the adapter"))
            asking.divergences(subjects, outcomes, samples.divergences)
            asking.pairs(subjects, samples.pairs)
            probing.edited(asking, subjects, samples.edited)
            probing.constrained(asking, subjects, samples.constrained)
            if known.consult is not None and asking.recipe.evaluate.rag:
                probing.consulted(asking, subjects, outcomes, known.consult, samples.outcomes)
            if known.folding is not None:
                cross_validate(asking, known.folding, samples.folds)
    finally:
        asking.model.use(None)


def rescore(run: Path, recipe: Recipe, out: Path | None = None, *, listen: Listener = ignore) -> Report:
    """Metrics, gates and report from a run folder's `samples.jsonl` alone, for instance under another recipe.

    They are written to `out`; None: over those of the run.

    Raises:
        BadInput: when the folder has no samples, or those of another version.
    """
    from mondrian_core.evaluation.page import write_page
    from mondrian_core.evaluation.plots import write_picture

    samples, folder = read_samples(run / SAMPLES), out or run
    if not samples.facts:
        raise BadInput(f"{run} holds no samples of an evaluation.", "Name the folder of a run that was evaluated.")
    if samples.identity.get("format") != FORMAT:
        raise BadInput(f"The samples in {run} were written by another version of Mondrian.", "Evaluate once more.")
    report = report_of(samples, recipe)
    write_page(report, samples, folder / PAGE)
    write_picture(report, folder / PICTURE)
    report.save(folder / REPORT)
    listen(Finished(STAGE, {"verdict": report.verdict, "report": str(folder / REPORT)}))
    return report


def _first_use(model: Model, adapter: Path, problems: tuple[str, ...]) -> tuple[tuple[str, ...], float | None]:
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
    model: Model,
    arms: Mapping[str, Path | None],
    adapter: Path,
    voice: Voice,
    recipe: Recipe,
    subjects: Sequence[Subject],
    known: Known,
) -> dict[str, Any]:
    photographs = hashlib.sha256(json.dumps([(subject.name, subject.digest) for subject in subjects]).encode())
    return {
        "format": FORMAT,
        "base": model.fingerprint,
        "candidate": adapter_digest(adapter),
        "champion": adapter_digest(known.champion) if known.champion else None,
        "asked": sorted(arms),
        "prompt": prompt_digest(voice),
        "photographs": photographs.hexdigest(),
        "split": known.split,
        "sampling": {**_sampling(recipe), "latency_tokens": recipe.evaluate.latency_tokens},
        "folds": known.folding.digest if known.folding else None,
    }


def _leaked(
    entries: Sequence[Labelled], subjects: Sequence[Subject], voice: Voice, known: Known
) -> list[dict[str, str]] | None:
    if known.trained is None:
        return None
    pictures = {subject.name: subject.image for subject in subjects}
    tested = [(entry.photograph, pictures[entry.photograph], entry.critique) for entry in entries]
    return leaks(tested, known.trained, voice, known.index)


def _champion_saw(subjects: Sequence[Subject], known: Known) -> frozenset[str] | None:
    """Names of the labelled photographs, those of the folds included, that the champion was trained on or a twin of."""
    if known.champion is None:
        return frozenset()
    if known.champion_trained is None:
        return None
    more = known.folding.opened[0] if known.folding else []
    pictures = {subject.name: subject.image for subject in (*subjects, *more) if subject.labelled}
    return seen_by(pictures.items(), known.champion_trained)


def _trained(trained: Trained | None) -> dict[str, Any] | None:
    return {"photographs": len(trained.lineages), "everything": trained.everything} if trained else None


def _note(
    journal: Journal,
    entries: Sequence[Labelled],
    subjects: Sequence[Subject],
    trained: Trained | None,
    facts: Mapping[str, Any],
) -> None:
    samples = read_samples(journal.path)
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
