"""Cross-validation for small sets: train the recipe anew on all folds but one and ask about that one.

Each photograph is judged by an adapter that never saw it. What comes out is about the recipe: every fold's adapter is
another one, and the adapter that is shipped is none of them. A champion is asked about those photographs that it never
saw either.
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

from mondrian_core.evaluation.measure.contamination import TrainingProvenance, contaminated_photographs
from mondrian_core.evaluation.measure.metrics import ScoreArray
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.runner import (
    EvaluationPhotograph,
    EvaluationRunner,
    LabelledPhotograph,
    label_record,
    open_labelled_photographs,
)
from mondrian_core.events import StageNotice, StageProgressed, ignore_events
from mondrian_core.images import perceptual_hash
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE, CHAMPION

# (fold, lineages to train on) -> the adapter's folder. It may answer from an earlier run of the same.
TrainFold = Callable[[int, frozenset[str]], Path]


@dataclass(frozen=True)
class CrossValidationPlan:
    """How to cross-validate.

    Attributes:
        entries: every labelled photograph, one entry each.
        fold_of: lineage -> fold; photographs that look alike are in the same one (`data.split.folds`).
        train: trains the recipe.
        recipe: digest of what `train` does, so that a resumed evaluation knows its own folds.
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
        """Each photograph once, decoded, and its entry."""
        return open_labelled_photographs(self.entries, ignore_events)

    def training_photo_ids(self, fold: int) -> frozenset[str]:
        """Lineages of all other folds: what this fold's adapter is trained on."""
        return frozenset(name for name, other in self.fold_of.items() if other != fold)


@dataclass(frozen=True)
class CrossValidationSamples:
    """What cross-validation measured.

    Attributes:
        records: what the journal keeps of every photograph (`asking.label_record`), by name.
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


def cross_validate(asking: EvaluationRunner, folding: CrossValidationPlan, known: CrossValidationSamples) -> None:
    """Ask base, champion and each fold's adapter about that fold; one whose answers are known isn't trained again."""
    done = {(outcome.photograph, outcome.arm) for outcome in known.outcomes}
    for subject, entry in zip(*folding.opened_photographs, strict=True):
        if entry.photograph not in known.records:
            asking.journal.append("fold_label", label_record(subject, entry))
    folds = sorted(set(folding.fold_of.values()))
    for count, fold in enumerate(folds, 1):
        inside = [subject for subject in folding.opened_photographs[0] if folding.fold_of[subject.name] == fold]
        _one_fold(asking, folding, fold, inside, done)
        asking.listen(StageProgressed("folds", count, len(folds), f"{len(inside)} photographs"))


def _one_fold(
    asking: EvaluationRunner,
    folding: CrossValidationPlan,
    fold: int,
    inside: Sequence[EvaluationPhotograph],
    done: set[tuple[str, str]],
) -> None:
    adapter = None
    if not all((subject.name, CANDIDATE) in done for subject in inside):
        asking.model.use(None)
        adapter = folding.train(fold, folding.training_photo_ids(fold))
    for subject in inside:
        for arm in (BASE, CANDIDATE, CHAMPION):
            if (subject.name, arm) in done or not asking.may_ask(subject, arm, of_folds=True):
                continue
            outcome = asking.ask(subject, arm, adapter if arm == CANDIDATE else None)
            asking.journal.append("fold", {"fold": fold, **outcome.as_dict()})
            if not outcome.ran:
                asking.listen(StageNotice("folds", f"{subject.name}: no answer ({outcome.reason})."))


def fold_contamination(folding: CrossValidationPlan, voice: AdvisorPrompt) -> list[dict[str, str]]:
    """Every photograph that its own fold's adapter knew before, or that the prompt quotes, and how; one entry each."""
    subjects, entries = folding.opened_photographs
    looks = {subject.name: perceptual_hash(subject.image) for subject in subjects}
    found = []
    for fold in sorted(set(folding.fold_of.values())):
        others = folding.training_photo_ids(fold)
        tested = [
            (subject.name, subject.image, entry.critique)
            for subject, entry in zip(subjects, entries, strict=True)
            if folding.fold_of[subject.name] == fold
        ]
        found += contaminated_photographs(
            tested,
            TrainingProvenance(
                photo_ids=others, perceptual_hashes=tuple(looks[name] for name in looks if name in others)
            ),
            voice,
        )
    return found


def other_fold_means(labels: Mapping[str, Mapping[str, float]], fold_of: Mapping[str, int]) -> ScoreArray:
    """(N, 8) for each photograph the advisor's mean on all other folds: what a critic says who looks at nothing."""
    names = list(labels)
    table = np.array([[labels[name][k] for k in DIMENSIONS] for name in names], dtype=np.float64).reshape(-1, 8)
    folds = np.array([fold_of[name] for name in names])
    return np.array([table[folds != fold].mean(axis=0) for fold in folds]).reshape(-1, 8)
