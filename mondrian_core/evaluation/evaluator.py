"""One evaluation from beginning to end, and the same again from what it left, without a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadAdapter, BadInput
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

SAMPLES, REPORT, PAGE, PICTURE = "samples.jsonl", "comparison_report.json", "report.html", "evaluation.png"


def evaluate(
    base: Base,
    adapter: Path,
    labelled: Sequence[Labelled],
    unlabelled: Sequence[Path | Image.Image],
    voice: Voice,
    recipe: Recipe,
    out: Path,
    *,
    champion: Path | None = None,
    integrity_problems: tuple[str, ...] = (),
    training_lineages: Collection[str] | None = None,
    training_scores: Sequence[Mapping[str, float]] = (),
    cache: Path | None = None,
    split: str = "validation",
    listen: Listener = ignore,
) -> Report:
    """Measure an adapter against base and champion and let the gates decide.

    Leaves `samples.jsonl`, `comparison_report.json`, `report.html` and `evaluation.png` in `out`. Called again with the
    same arguments after an interruption, it goes on at the next photograph.

    Args:
        labelled: photographs never trained on, with the advisor's scores.
        unlabelled: more photographs for the format; as many are taken as the recipe wants beyond the labelled.
        champion: folder of what is live, if there is one on this base.
        integrity_problems: what `models.adapters.check` and the registry found; with any, the candidate isn't asked.
        training_lineages: photographs that were trained on, to catch a leak; None: not known.
        training_scores: the advisor's scores in training, for the rival that always answers their mean.
        cache: folder where answers of base and champion are kept between evaluations.

    Raises:
        BadInput: when there is no photograph at all.
        DiskFull: when the journal can't be written.
    """
    from mondrian_core.evaluation.mlx_model import MlxModel

    model = MlxModel(base, voice)
    return evaluate_model(
        model, adapter, labelled, unlabelled, voice, recipe, out, champion=champion,
        integrity_problems=integrity_problems, training_lineages=training_lineages, training_scores=training_scores,
        cache=cache, split=split, listen=listen,
    )  # fmt: skip


def evaluate_model(
    model: Model,
    adapter: Path,
    labelled: Sequence[Labelled],
    unlabelled: Sequence[Path | Image.Image],
    voice: Voice,
    recipe: Recipe,
    out: Path,
    *,
    champion: Path | None = None,
    integrity_problems: tuple[str, ...] = (),
    training_lineages: Collection[str] | None = None,
    training_scores: Sequence[Mapping[str, float]] = (),
    cache: Path | None = None,
    split: str = "validation",
    listen: Listener = ignore,
) -> Report:
    """`evaluate` with the model as a value, so that it can be another than MLX's."""
    subjects, entries = labelled_subjects(labelled, listen)
    wanted = max(0, recipe.evaluate.compliance_photographs - len(subjects))
    subjects += unlabelled_subjects(unlabelled, wanted, {subject.digest for subject in subjects}, listen)
    if not subjects:
        raise BadInput("There is no photograph to evaluate with.", "Add critiques for the advisor, or photographs.")
    problems = (*integrity_problems, *_refused(model, adapter, integrity_problems))
    arms: dict[str, Path | None] = {BASE: None} | ({} if problems else {CANDIDATE: adapter})
    if champion is not None:
        arms[CHAMPION] = champion
    journal = Journal(out / SAMPLES)
    journal.begin(_identity(model, arms, adapter, voice, recipe, subjects, split))
    leaked = (
        None if training_lineages is None else sorted({entry.photograph for entry in entries} & set(training_lineages))
    )
    _note(journal, entries, subjects, {
        "advisor": voice.advisor, "split": split, "integrity_problems": list(problems), "leaked": leaked,
        "training_mean": _mean_scores(training_scores), "has_champion": champion is not None, "metal": model.metal,
    })  # fmt: skip
    asking = Asking(model, arms, journal, AnswerCache(cache, base=model.fingerprint, prompt=prompt_digest(voice),
                    max_tokens=recipe.evaluate.max_tokens, temperature=0.0), recipe, listen)  # fmt: skip
    _ask_everything(asking, subjects, read_samples(journal.path))
    return rescore(out, recipe, listen=listen)


def _ask_everything(asking: Asking, subjects: Sequence[Subject], known: Samples) -> None:
    try:
        outcomes = asking.answers(subjects, known.outcomes)
        if CANDIDATE in asking.adapters:
            asking.listen(Advanced(STAGE, len(outcomes), len(outcomes), "effect of the adapter"))
            asking.divergences(subjects, outcomes, known.divergences)
            asking.pairs(subjects, known.pairs)
    finally:
        asking.model.use(None)


def rescore(out: Path, recipe: Recipe, *, listen: Listener = ignore) -> Report:
    """Metrics, gates and report from a run folder's `samples.jsonl` alone, for instance under another recipe.

    Raises:
        BadInput: when the folder has no samples.
    """
    from mondrian_core.evaluation.page import write_page
    from mondrian_core.evaluation.plots import write_picture

    samples = read_samples(out / SAMPLES)
    if not samples.facts:
        raise BadInput(f"{out} holds no samples of an evaluation.", "Name the folder of a run that was evaluated.")
    report = report_of(samples, recipe)
    write_page(report, samples.labels, samples.outcomes, out / PAGE)
    write_picture(report, out / PICTURE)
    report.save(out / REPORT)
    listen(Finished(STAGE, {"verdict": report.verdict, "report": str(out / REPORT)}))
    return report


def _refused(model: Model, adapter: Path, known: tuple[str, ...]) -> tuple[str, ...]:
    """The model's own word on an adapter that seemed sound."""
    if known:
        return ()
    try:
        model.use(adapter)
    except BadAdapter as error:
        return (error.problem,)
    return ()


def _identity(model: Model, arms: Mapping[str, Path | None], adapter: Path, voice: Voice, recipe: Recipe,
              subjects: Sequence[Subject], split: str) -> dict[str, Any]:  # fmt: skip
    photographs = hashlib.sha256(json.dumps([(subject.name, subject.digest) for subject in subjects]).encode())
    champion = arms.get(CHAMPION)
    return {
        "format": 1,
        "base": model.fingerprint,
        "candidate": adapter_digest(adapter),
        "champion": adapter_digest(champion) if champion else None,
        "asked": sorted(arms),
        "prompt": prompt_digest(voice),
        "photographs": photographs.hexdigest(),
        "split": split,
        "sampling": {"max_tokens": recipe.evaluate.max_tokens, "latency_tokens": recipe.evaluate.latency_tokens},
    }


def _note(journal: Journal, entries: Sequence[Labelled], subjects: Sequence[Subject], facts: Mapping[str, Any]) -> None:
    known = read_samples(journal.path)
    for entry, subject in zip(entries, subjects, strict=False):
        if entry.photograph not in known.labels:
            journal.append("label", label_record(subject, entry))
    if known.facts != facts:
        journal.append("facts", {"values": facts})


def _mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    if not scores:
        return None
    return {name: sum(row[name] for row in scores) / len(scores) for name in DIMENSIONS}
