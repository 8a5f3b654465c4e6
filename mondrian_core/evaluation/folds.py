"""Cross-validation for small sets: train the recipe anew on all folds but one and ask about that one.

What comes out is about the recipe: every fold's adapter is another one, and the adapter that is shipped is none of
them: it is trained on all photographs of the training split. So each photograph is judged by an adapter that
never saw it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mondrian_core.evaluation.asking import Asking, Labelled, Subject, labelled_subjects
from mondrian_core.evaluation.metrics import Table
from mondrian_core.evaluation.outcomes import BASE, CANDIDATE, Outcome
from mondrian_core.events import Advanced, Noticed, ignore
from mondrian_core.rubric import DIMENSIONS

# (fold, lineages to train on) -> the adapter's folder. It may answer from an earlier run of the same.
Train = Callable[[int, frozenset[str]], Path]


@dataclass(frozen=True)
class Folding:
    """How to cross-validate.

    Attributes:
        entries: every labelled photograph, one entry each.
        fold_of: lineage -> fold; photographs that look alike are in the same one (`data.split.folds`).
        train: trains the recipe.
        recipe: digest of what `train` does, so that a resumed evaluation knows its own folds.
    """

    entries: Sequence[Labelled]
    fold_of: Mapping[str, int]
    train: Train
    recipe: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the assignment and the recipe, hexadecimal."""
        return hashlib.sha256(json.dumps([sorted(self.fold_of.items()), self.recipe]).encode()).hexdigest()


@dataclass(frozen=True)
class Folds:
    """What cross-validation measured: the advisor's scores, each photograph's fold, and both arms' answers."""

    labels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fold_of: Mapping[str, int] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()


def cross_validate(asking: Asking, folding: Folding, known: Folds) -> None:
    """Ask base and each fold's adapter about that fold; a fold whose answers are all known isn't trained again."""
    done = {(outcome.photograph, outcome.arm) for outcome in known.outcomes}
    subjects, entries = labelled_subjects(folding.entries, ignore)
    for entry in entries:
        if entry.photograph not in known.labels:
            asking.journal.append("fold_label", {"photograph": entry.photograph, "scores": dict(entry.scores)})
    folds = sorted(set(folding.fold_of.values()))
    for count, fold in enumerate(folds, 1):
        inside = [subject for subject in subjects if folding.fold_of[subject.name] == fold]
        if not all((subject.name, arm) in done for subject in inside for arm in (BASE, CANDIDATE)):
            _one_fold(asking, folding, fold, inside, done)
        asking.listen(Advanced("folds", count, len(folds), f"{len(inside)} photographs"))


def _one_fold(asking: Asking, folding: Folding, fold: int, inside: Sequence[Subject],
              done: set[tuple[str, str]]) -> None:  # fmt: skip
    rest = frozenset(name for name, other in folding.fold_of.items() if other != fold)
    asking.model.use(None)
    adapter = folding.train(fold, rest)
    for subject in inside:
        for arm, folder in ((BASE, None), (CANDIDATE, adapter)):
            if (subject.name, arm) in done:
                continue
            outcome = asking.ask(subject, arm, folder)
            asking.journal.append("fold", {"fold": fold, **outcome.as_dict()})
            if not outcome.ran:
                asking.listen(Noticed("folds", f"{subject.name}: no answer ({outcome.reason})."))


def fold_means(labels: Mapping[str, Mapping[str, float]], fold_of: Mapping[str, int]) -> Table:
    """(N, 8) for each photograph the advisor's mean on all other folds: what a critic says who looks at nothing."""
    names = list(labels)
    table = np.array([[labels[name][k] for k in DIMENSIONS] for name in names], dtype=np.float64).reshape(-1, 8)
    folds = np.array([fold_of[name] for name in names])
    return np.array([table[folds != fold].mean(axis=0) for fold in folds]).reshape(-1, 8)
