"""Cross-validation for small datasets: train the recipe on all folds but one and evaluate on that one, for each fold.

Each photograph is answered by an adapter that wasn't trained on it. The result is an estimate for the recipe: each fold
has its own adapter, and the shipped adapter is none of them. The champion answers the photographs that it wasn't
trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.comments.likelihood import ReadCritique, probe_comment_likelihood
from mondrian_core.evaluation.measure.contamination import TrainingProvenance, contaminated_photographs
from mondrian_core.evaluation.measure.metrics import ScoreArray
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.photographs import (
    EvaluationPhotograph,
    LabelledPhotograph,
    label_record,
    open_labelled_photographs,
)
from mondrian_core.evaluation.measure.runner import (
    EvaluationRunner,
    Inquiry,
)
from mondrian_core.events import StageNotice, StageProgressed, ignore_events
from mondrian_core.near_duplicates import photograph_fingerprint
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE, BEST_CHAMPION, CANDIDATE, CHAMPION

# (fold, IDs of the photographs to train on) -> the adapter's folder. It may return the result of an earlier run.
TrainFold = Callable[[int, frozenset[str]], Path]


@dataclass(frozen=True)
class CrossValidationPlan:
    """How to cross-validate.

    Attributes:
        entries: every labelled photograph, one entry each.
        fold_of: photograph ID -> fold; near-duplicates share a fold (`data.splits.split.assign_folds`).
        train: trains the recipe.
        recipe: digest of what `train` does, so that a resumed evaluation recognizes its own folds.
    """

    entries: Sequence[LabelledPhotograph]
    fold_of: Mapping[str, int]
    train: TrainFold
    recipe: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the assignment and the recipe, hexadecimal."""
        return hashlib.sha256(json.dumps([sorted(self.fold_of.items()), self.recipe]).encode()).hexdigest()

    @cached_property
    def opened_photographs(self) -> tuple[list[EvaluationPhotograph], list[LabelledPhotograph]]:
        """Each photograph once, decoded, with its entry."""
        return open_labelled_photographs(self.entries, ignore_events)

    def training_photo_ids(self, fold: int) -> frozenset[str]:
        """IDs of the photographs in all other folds, which this fold's adapter is trained on."""
        return frozenset(name for name, other in self.fold_of.items() if other != fold)


@dataclass(frozen=True)
class CrossValidationSamples:
    """Samples of a cross-validation.

    Attributes:
        records: by name the label record of each photograph (`photographs.label_record`).
        fold_of: name -> fold, of the photographs that were asked about.
        outcomes: answers of the base, of each fold's adapter (as the candidate's), and of the champion.
    """

    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fold_of: Mapping[str, int] = field(default_factory=dict)
    outcomes: tuple[EvaluationOutcome, ...] = ()

    @property
    def labels(self) -> dict[str, Mapping[str, float]]:
        """The advisor's scores of the photographs that were asked about, by name."""
        return {name: record["scores"] for name, record in self.records.items() if name in self.fold_of}

    def folds_of(self, names: Sequence[str]) -> NDArray[np.int_]:
        """(N,) the fold of each photograph."""
        return np.array([self.fold_of[name] for name in names], dtype=np.int_)


def cross_validate(
    runner: EvaluationRunner,
    plan: CrossValidationPlan,
    known: CrossValidationSamples,
    read: Sequence[ReadCritique] | None = None,
) -> None:
    """Ask base, champion and each fold's adapter about the fold's photographs; an answered fold isn't retrained.

    Args:
        runner: the evaluation in progress.
        plan: the folds.
        known: answers that are recorded already.
        read: critiques whose likelihood is recorded already; None: it isn't measured, because other photographs are
            held out.
    """
    done = {(outcome.photograph, outcome.arm) for outcome in known.outcomes}
    for subject, entry in zip(*plan.opened_photographs, strict=True):
        if entry.photograph not in known.records:
            runner.samples.append("fold_label", label_record(subject, entry))
    folds = sorted(set(plan.fold_of.values()))
    for count, fold in enumerate(folds, 1):
        inside = [subject for subject in plan.opened_photographs[0] if plan.fold_of[subject.name] == fold]
        _one_fold(runner, plan, fold, inside, done, read)
        runner.listen(StageProgressed("folds", count, len(folds), f"{len(inside)} photographs"))


def _one_fold(
    runner: EvaluationRunner,
    plan: CrossValidationPlan,
    fold: int,
    inside: Sequence[EvaluationPhotograph],
    done: set[tuple[str, str]],
    read: Sequence[ReadCritique] | None,
) -> None:
    adapter = None
    if not all((subject.name, CANDIDATE) in done for subject in inside):
        runner.model.use(None)
        adapter = plan.train(fold, plan.training_photo_ids(fold))
    missing = [
        Inquiry(subject=subject, arm=arm, adapter=adapter if arm == CANDIDATE else None)
        for arm in (BASE, CANDIDATE, CHAMPION, BEST_CHAMPION)
        for subject in inside
        if (subject.name, arm) not in done and runner.may_ask(subject, arm, of_folds=True)
    ]
    if adapter is not None and read is not None:
        critiques = {entry.photograph: entry.critique for entry in plan.opened_photographs[1] if entry.critique}
        probe_comment_likelihood(runner, inside, critiques, read, adapter)
    for inquiry, outcome in runner.ask_each(missing):
        runner.samples.append("fold", {"fold": fold, **outcome.as_dict()})
        if not outcome.ran:
            runner.listen(StageNotice("folds", f"{inquiry.subject.name}: no answer ({outcome.reason})."))


def fold_contamination(plan: CrossValidationPlan, prompt: AdvisorPrompt) -> list[dict[str, str]]:
    """Photographs that their own fold's adapter was trained on, or that the prompt quotes, and how; one entry each."""
    subjects, entries = plan.opened_photographs
    prints = {subject.name: photograph_fingerprint(subject.name, subject.image) for subject in subjects}
    contaminated = []
    for fold in sorted(set(plan.fold_of.values())):
        others = plan.training_photo_ids(fold)
        tested = [
            (subject.name, subject.image, entry.critique)
            for subject, entry in zip(subjects, entries, strict=True)
            if plan.fold_of[subject.name] == fold
        ]
        contaminated += contaminated_photographs(
            tested,
            TrainingProvenance(photo_ids=others, fingerprints=tuple(prints[name] for name in prints if name in others)),
            prompt,
        )
    return contaminated


def other_fold_means(labels: Mapping[str, Mapping[str, float]], fold_of: Mapping[str, int]) -> ScoreArray:
    """(N, D) the advisor's mean scores on all other folds: a baseline that ignores the photograph."""
    names = list(labels)
    table = np.array([[labels[name][k] for k in DIMENSIONS] for name in names], dtype=np.float64)
    table = table.reshape(-1, len(DIMENSIONS))
    folds = np.array([fold_of[name] for name in names])
    return np.array([table[folds != fold].mean(axis=0) for fold in folds]).reshape(-1, len(DIMENSIONS))
